"""What ``training.base_width`` promises: activations, and how far a step moves them, do not depend on width."""

from __future__ import annotations

import engine
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import Muon

from stillroom.config import ModelConfig, ObjectiveConfig
from stillroom.models import build_model
from stillroom.training import Student, build_optimizers, global_step
from stillroom.training.blocks import blocks, final_norm
from stillroom.training.step import StepContext

BASE, WIDTHS = 32, (32, 64, 128, 256)


def _model(width: int, base_width: int | None) -> torch.nn.Module:
    config = ModelConfig(
        hidden_size=width, intermediate_size=2 * width, num_layers=2, num_heads=width // 16, max_positions=engine.LENGTH
    )
    return build_model(config, engine.VOCAB, 0, base_width)


def _outputs(width: int, base_width: int | None, optimizer: str) -> dict[str, tuple[float, float]]:
    """Of layers of the last block and the head: root mean square of the output, and of its change over four steps."""
    student = Student(_model(width, base_width))  # type: ignore[arg-type]
    config = engine.training_config(
        base_width=base_width, learning_rate=0.004, muon_learning_rate=0.01, optimizer=optimizer
    )
    optimizers = build_optimizers(student, config)
    data, objective, last = engine.training_data().train, ObjectiveConfig(), blocks(student.model)[-1]
    layers = {name: last.get_submodule(name) for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj")}
    layers |= {"mlp.down_proj": last.get_submodule("mlp.down_proj"), "logits": student.model.get_submodule("lm_head")}
    seen: dict[str, Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *values, name=name: seen.__setitem__(name, values[2].detach().clone()))

    def look() -> dict[str, Tensor]:
        with torch.no_grad():
            student.model(data.batch(range(48, 64)).tokens_BT)
        return dict(seen)

    before = look()
    for step in range(4):
        student.zero_grad()
        global_step(student, [data.batch(range(8 * step, 8 * step + 8))], StepContext(objective), objective, seed=step)
        for one in optimizers:
            one.step()
    after = look()
    return {name: (_size(value), _size(after[name] - value)) for name, value in before.items()}


def _size(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _exponents(base_width: int | None, optimizer: str) -> dict[str, list[float]]:
    """Powers of the width that outputs, and their changes, grow with."""
    found = [_outputs(width, base_width, optimizer) for width in WIDTHS]
    return {
        name: [
            float(np.polyfit(np.log(WIDTHS), np.log([values[name][place] for values in found]), 1)[0])
            for place in (0, 1)
        ]
        for name in found[0]
    }


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_with_a_base_width_outputs_and_their_changes_do_not_grow(optimizer: str) -> None:
    exponents = _exponents(BASE, optimizer)
    for name, (size, change) in exponents.items():
        # Logits of untrained models shrink: a sum of independent weights, times 1 / width.
        assert abs(size) < 0.1 or (name == "logits" and -0.6 < size < 0), exponents
        assert -0.5 < change < 0.1, exponents


def test_without_one_they_grow_with_width() -> None:
    for size, change in _exponents(None, "adamw").values():
        assert size > 0.4
        assert change > 0.5


def test_at_the_base_width_nothing_changes() -> None:
    plain, scaled = _model(BASE, None), _model(BASE, BASE)
    assert engine.weight_hash(plain) == engine.weight_hash(scaled)


def test_rates_and_decay_of_a_wider_model() -> None:
    """Hidden matrices and the final norm move by base_width / width, the rest as before, and lr·decay stays."""
    groups = {}
    for base in (None, 16):
        student = Student(build_model(engine.MODEL, engine.VOCAB, 0))
        (optimizer,) = build_optimizers(student, engine.training_config(base_width=base, weight_decay=0.1))
        groups[base] = [(group["peak"], group["weight_decay"]) for group in optimizer.param_groups]
        norm = [group for group in optimizer.param_groups if final_norm(student.model).weight in set(group["params"])]
        assert norm[0]["peak"] == pytest.approx(0.01 if base is None else 0.005)
    assert groups[None] == [(0.01, 0.1), (0.01, 0.0)]
    assert groups[16] == [(pytest.approx(0.005), pytest.approx(0.2)), (0.01, 0.0), (pytest.approx(0.005), 0.0)]


def test_muon_keeps_its_own_rate() -> None:
    student = Student(build_model(engine.MODEL, engine.VOCAB, 0))
    muon, _ = build_optimizers(student, engine.training_config(base_width=16, optimizer="muon"))
    assert isinstance(muon, Muon)
    assert {group["peak"] for group in muon.param_groups} == {0.02}
