"""Recall studies by name, from 0.1M to 120M parameters; each a function of nothing, so that ``--help`` stays quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stillroom.config import ModelConfig, ObjectiveConfig, RoutingConfig, TrainingConfig, parse
from stillroom.sandbox.recall.recall_config import (
    RecallArmConfig,
    RecallConfig,
    RecallProbeConfig,
    RecallTeacherConfig,
    RecallWorldConfig,
)
from stillroom.strict import nearest
from stillroom.types import UserError
from stillroom.yamlfiles import read_yaml


def arms(teacher: str) -> dict[str, RecallArmConfig]:
    """The three arms of the default: hard labels, soft labels, and soft labels with the surest positions routed."""
    routing = RoutingConfig(rule="low-entropy", share=0.15)
    return {
        "spt": RecallArmConfig(label="SPT"),
        "dpt90": RecallArmConfig(label="DPT-90", teacher=teacher, objective=ObjectiveConfig(alpha=0.9)),
        "dpt90_routed": RecallArmConfig(
            label="DPT-90, 15 % routed", teacher=teacher, objective=ObjectiveConfig(alpha=0.9, routing=routing)
        ),
    }


def training(steps: int, batch: int, rate: float, warmup_steps: int = 50) -> TrainingConfig:
    """AdamW at a constant rate after a warm-up, so that where a run is stopped does not change how it got there."""
    return TrainingConfig(
        steps=steps,
        batch_sequences=batch,
        learning_rate=rate,
        schedule="constant",
        warmup=min(1.0, warmup_steps / steps),
        beta1=0.9,
        beta2=0.99,
        validate_every=0,
        checkpoint_seconds=20.0,
    )


def _model(width: int, layers: int, heads: int, length: int) -> ModelConfig:
    return ModelConfig(
        hidden_size=width,
        intermediate_size=3 * width,
        num_layers=layers,
        num_heads=heads,
        max_positions=length,
    )


def _study(
    name: str, world: RecallWorldConfig, model: ModelConfig, budget: TrainingConfig, probes: RecallProbeConfig
) -> RecallConfig:
    teachers = {"leaking": RecallTeacherConfig(kind="leaking", leak=0.1)}
    return RecallConfig(
        name=name, world=world, model=model, training=budget, teachers=teachers, arms=arms("leaking"), probes=probes
    )


def tiny() -> RecallConfig:
    """0.1M parameters: 33 characters, 3 triggers, sequences of 64. The default."""
    world = RecallWorldConfig(characters=33, triggers=3, sequence_length=64)
    model = _model(64, 2, 4, 64).model_copy(update={"tie_embeddings": False})
    return _study("recall", world, model, training(250, 64, 6e-3), RecallProbeConfig())


def small() -> RecallConfig:
    """0.4M parameters: 65 characters, 5 triggers, sequences of 128."""
    world = RecallWorldConfig()
    return _study("recall-small", world, _model(128, 2, 4, 128), training(300, 64, 3e-3), RecallProbeConfig())


def medium() -> RecallConfig:
    """5M parameters, sequences of 256, triggers drawn anew in every sequence; an hour or more on a processor."""
    world = RecallWorldConfig(draw="per-sequence", outputs="other", sequence_length=256)
    return _study("recall-medium", world, _model(384, 3, 6, 256), training(4000, 128, 2e-3, 200), RecallProbeConfig())


def large() -> RecallConfig:
    """25M parameters, for a GPU."""
    world = RecallWorldConfig(characters=90, triggers=10, draw="per-sequence", outputs="other", sequence_length=512)
    budget = training(10_000, 256, 1e-3, 500).model_copy(update={"micro_batch_sequences": 64})
    return _study("recall-large", world, _model(512, 8, 8, 512), budget, RecallProbeConfig(pattern_sequences=8))


def sandbox_120m() -> RecallConfig:
    """120M parameters, the size that the paper's study names, for a GPU; never run at this size here."""
    world = RecallWorldConfig(characters=90, triggers=10, draw="per-sequence", outputs="other", sequence_length=512)
    budget = training(20_000, 512, 6e-4, 1000).model_copy(update={"micro_batch_sequences": 32})
    probes = RecallProbeConfig(pattern_sequences=4, per_doubling=2)
    model = _model(768, 16, 12, 512).model_copy(update={"intermediate_size": 2240})
    return _study("recall-120m", world, model, budget, probes)


PRESETS: dict[str, Callable[[], RecallConfig]] = {
    "0.1m": tiny,
    "0.4m": small,
    "5m": medium,
    "25m": large,
    "sandbox-120m": sandbox_120m,
}


def preset(name: str) -> RecallConfig:
    """The study of this name, or of the ``config.yaml`` of a run folder.

    Raises:
        UserError: there is none of this name (the nearest one is named), or the file is no recall study.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_yaml(Path(name))
    make = PRESETS.get(name.lower())
    if make is None:
        raise UserError(f"--preset {name}: there is none of this name{nearest(name.lower(), list(PRESETS))}.")
    return make()


def _from_yaml(path: Path) -> RecallConfig:
    values = read_yaml(path, "the config.yaml of a recall run")
    if not isinstance(values, dict) or values.pop("kind", None) != "recall":
        raise UserError(f"--preset {path}: is no recall study (its kind is not recall); give that of a recall run.")
    return parse(RecallConfig, values, str(path))
