"""A small transformer learns the bigram world through the training loop, measured on a logarithmic scale of tokens.

Letters: B sequences, T positions, K states, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.config import ModelConfig, ObjectiveConfig, RoutingConfig, TrainingConfig
from stillroom.files import read_json_object, write_json
from stillroom.models import build_model, hidden_states, precision_name, unembedding
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.tabular import Arm
from stillroom.training import Hooks, TrainingData, train
from stillroom.worlds.bigram import BigramWorld
from stillroom.worlds.bigram_sequences import BigramSequences, bigram_labels, sample_sequences

LENGTH = 64
"""T: the world forgets all but the current token, so that longer sequences would only cost."""
BATCH = 32
MODEL = ModelConfig(hidden_size=64, intermediate_size=192, num_layers=1, num_heads=4, max_positions=LENGTH)
_CHECKPOINTS = 12
_HELDOUT_TOKENS = 8192


def transformer_objective(arm: Arm) -> ObjectiveConfig:
    """The arm as the training loop knows it; the labels carry the temperature."""
    routing = None
    if arm.routing.rule != "none":
        routing = RoutingConfig(rule=arm.routing.rule, share=arm.routing.share, hard_weight=arm.hard_weight)
    return ObjectiveConfig(alpha=arm.alpha, temperature=arm.temperature, routing=routing)


def transformer_cell(
    folder: Path,
    world: BigramWorld,
    sweep: BigramSweep,
    arm: Arm,
    seed: int,
    *,
    hooks: Hooks = Hooks(),
) -> None:
    """Trains the model of one arm and writes ``cell.json``: TV and KL by class over training tokens.

    Continues from a checkpoint in ``folder`` when a killed call is made again.
    """
    config = _training(sweep, seed)
    data = TrainingData(
        sample_sequences(world, config.tokens, LENGTH, 2 * seed),
        sample_sequences(world, _HELDOUT_TOKENS, LENGTH, 2 * seed + 1),
        bigram_labels(world, arm.teacher, arm.temperature, seed) if arm.alpha else None,
        label_temperature=arm.temperature,
    )
    model = build_model(MODEL, world.num_states, seed).train()
    notes = Notes.continued(folder / "dynamics.json", config.tokens)

    def after_step(done: int, total: int) -> None:
        notes.take(done, lambda: distances(model, world, data.heldout))  # type: ignore[arg-type]
        if hooks.progress is not None:
            hooks.progress(done, total)

    result = train(
        model, data, config, transformer_objective(arm), folder,
        precision_name=precision_name("auto", "cpu"), hooks=replace(hooks, progress=after_step),
    )  # fmt: skip
    cell = notes.columns() | {"validation_ce": result.validation_ce, "seconds": round(result.seconds, 2)}
    write_json(folder / "cell.json", cell)


def _training(sweep: BigramSweep, seed: int) -> TrainingConfig:
    steps = max(1, sweep.transformer_tokens // (LENGTH * BATCH))
    return TrainingConfig(
        tokens=steps * LENGTH * BATCH, batch_sequences=BATCH, learning_rate=1e-2, weight_decay=0.0, beta2=0.99,
        validate_every=0, seed=seed,
    )  # fmt: skip


Distances = dict[str, dict[str, float]]
"""``tv`` and ``kl`` by class of token."""


@dataclass
class Notes:
    """Measurements at training tokens on a logarithmic scale, kept in a file so that a stop loses none."""

    file: Path
    wanted: frozenset[int]
    found: dict[str, Distances]

    @classmethod
    def continued(cls, file: Path, tokens: int) -> Notes:
        """Notes of a run of so many tokens, with what an earlier, killed call wrote."""
        steps = np.geomspace(1, tokens // (LENGTH * BATCH), _CHECKPOINTS).round().astype(int)
        wanted = frozenset(LENGTH * BATCH * int(step) for step in steps)
        found: dict[str, Any] = read_json_object(file) if file.exists() else {}
        return cls(file, wanted, found)

    def take(self, tokens: int, measure: Callable[[], Distances]) -> None:
        """Measures after so many tokens, where that is wanted."""
        if tokens in self.wanted:
            self.found[str(tokens)] = measure()
            write_json(self.file, self.found)

    def columns(self) -> dict[str, list[int] | list[dict[str, float]]]:
        """Training tokens, and the measurements at them in the same order."""
        sizes = sorted(int(size) for size in self.found)
        return {"samples": sizes} | {name: [self.found[str(size)][name] for size in sizes] for name in ("tv", "kl")}


@torch.no_grad()
def distances(model: PreTrainedModel, world: BigramWorld, sequences: BigramSequences) -> Distances:
    """Mean TV and KL of the model's next-token distributions from the true rows, over held-out positions by class."""
    was_training = model.training
    model.eval()
    batch = sequences.batch(range(len(sequences)))
    hidden_ND = hidden_states(model, batch).flatten(0, 1)
    weight_KD, bias_K = unembedding(model)
    logs_NK = torch.nn.functional.linear(hidden_ND, weight_KD, bias_K).float().log_softmax(-1)
    model.train(was_training)
    tokens_N = batch.tokens_BT.flatten()
    truth_NK = torch.from_numpy(world.matrix_KK).float()[tokens_N]
    variation_N = 0.5 * (logs_NK.exp() - truth_NK).abs().sum(-1)
    divergence_N = (torch.xlogy(truth_NK, truth_NK) - truth_NK * logs_NK).sum(-1)
    high_N = torch.from_numpy(world.high_K)[tokens_N]
    return {"tv": _by_class(variation_N, high_N), "kl": _by_class(divergence_N, high_N)}


def _by_class(values_N: Tensor, high_N: Tensor) -> dict[str, float]:
    parts = {"high": values_N[high_N], "low": values_N[~high_N]}
    means = {name: float(found.mean()) for name, found in parts.items() if len(found)}
    return {name: value for name, value in means.items() if math.isfinite(value)}
