"""What a study will take, before it is run: tokens, parameters, FLOPs, time and memory. Writes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from stillroom.config import ModelConfig, RunConfig, StudyConfig, TrainingConfig, to_yaml
from stillroom.models.cost import flops_per_token, num_parameters
from stillroom.study.budgets import with_budgets

_UTILISATION = 0.25
"""Part of the measured matrix rate that a training step of a small model is assumed to reach on a processor."""
_LABEL_BYTES = 22.0
_BYTES_PER_PARAMETER = 16  # fp32 weight, gradient and two moments
_ACTIVATIONS_PER_LAYER = 34  # numbers of width D kept per position and layer for the backward pass


@dataclass(frozen=True)
class Cost:
    """What one model takes."""

    name: str
    parameters: int
    tokens: float
    flops: float
    memory_bytes: float


def study_costs(config: StudyConfig) -> list[Cost]:
    """The teacher, the labelling pass and every arm, in the order in which they run."""
    costs = []
    vocab, length = config.corpus.vocab_size, config.corpus.sequence_length
    training = config.teacher.training
    if training is not None:
        costs.append(training_cost("teacher", config.teacher.model, training, vocab, length))
    distilled = [arm for arm in config.arms.values() if arm.alpha > 0]
    if distilled and config.teacher.model.path is None:
        tokens = max(config.training.tokens * arm.data for arm in distilled)
        rate = flops_per_token(config.teacher.model, vocab, length, backward=False)
        costs.append(Cost("labels", 0, tokens, rate * tokens, _LABEL_BYTES * tokens))
    for name, arm in config.arms.items():
        changes = {"tokens": round(config.training.tokens * arm.data), "epochs": arm.epochs}
        arm_training = config.training.model_copy(update=changes)
        costs.append(training_cost(name, config.student, arm_training, vocab, length))
    return costs


def training_cost(name: str, model: ModelConfig, training: TrainingConfig, vocab: int, length: int) -> Cost:
    """One training run: FLOPs forward and backward; memory of weights, optimizer and one micro-batch."""
    parameters = num_parameters(model, vocab)
    tokens = training.tokens * training.epochs
    sequences = training.micro_batch_sequences or training.batch_sequences
    activations = 4.0 * sequences * length * model.hidden_size * model.num_layers * _ACTIVATIONS_PER_LAYER
    flops = flops_per_token(model, vocab, length, backward=True) * tokens
    return Cost(name, parameters, tokens, flops, parameters * _BYTES_PER_PARAMETER + activations)


def matrix_rate(precision: str, size: int = 512, seconds: float = 0.3) -> float:
    """Matrix-product FLOP/s of this machine at a small model's sizes, measured now."""
    import torch

    from stillroom.models import precision_name

    kind = torch.bfloat16 if precision_name(precision, "cpu") == "bf16" else torch.float32
    left, right = torch.randn(4096, size).to(kind), torch.randn(size, size).to(kind)
    torch.mm(left, right)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        torch.mm(left, right)
        count += 1
    return 2.0 * 4096 * size * size * count / (time.perf_counter() - begin)


def print_plan(config: StudyConfig | RunConfig) -> None:
    """Prints the resolved configuration and the table of costs."""
    console = Console()
    if isinstance(config, StudyConfig):
        config = with_budgets(config)
    kind = "study" if isinstance(config, StudyConfig) else "run"
    console.print(Syntax(to_yaml(config, kind), "yaml", theme="ansi_light", background_color="default"))
    if isinstance(config, StudyConfig):
        costs = study_costs(config)
    else:
        corpus = config.corpus
        costs = [training_cost(config.name, config.model, config.training, corpus.vocab_size, corpus.sequence_length)]
    rate = matrix_rate(config.training.precision)
    table = Table(title=f"{config.name}: what it will take", title_justify="left")
    for heading in ("part", "parameters", "tokens", "FLOPs", "time", "memory"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for cost in costs:
        table.add_row(
            cost.name,
            f"{cost.parameters / 1e6:.2f} M" if cost.parameters else "",
            f"{cost.tokens / 1e6:.2f} M",
            f"{cost.flops:.2e}",
            f"{cost.flops / (rate * _UTILISATION):.0f} s",
            f"{cost.memory_bytes / 2**20:.0f} MiB",
        )
    total = sum(cost.flops for cost in costs)
    table.add_section()
    table.add_row("total", "", "", f"{total:.2e}", f"{total / (rate * _UTILISATION):.0f} s", "")
    console.print(table)
    console.print(
        f"Time is at {_UTILISATION:.0%} of the matrix rate measured now ({rate / 1e9:.0f} GFLOP/s), without corpus and "
        "evaluation; memory is weights, gradients, optimizer state and one micro-batch. Nothing was written.",
        style="dim",
    )
