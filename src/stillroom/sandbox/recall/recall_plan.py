"""What a recall study will take, before it is run. Writes nothing."""

from __future__ import annotations

from rich.syntax import Syntax

from stillroom.config import to_yaml
from stillroom.console import Terminal
from stillroom.costs import flops_per_token, num_parameters
from stillroom.sandbox.recall.recall_config import RecallConfig
from stillroom.types import printable_lines

_FORWARD_SHARE = 1.0 / 3.0
"""Of a training step's FLOPs: what a trained teacher adds to every step of its students."""


def plan_lines(config: RecallConfig) -> list[str]:
    """The size of every part, in sentences."""
    length, size = config.world.sequence_length, config.world.characters
    parameters = num_parameters(config.model, size)
    rate = flops_per_token(config.model, size, length, backward=True)
    tokens = config.steps * config.tokens_per_step
    trained = {name for name, teacher in config.teachers.items() if teacher.kind == "trained"}
    taught = sum(arm.teacher in trained for arm in config.arms.values())
    seeds = len(config.seeds)
    runs = seeds * (len(config.arms) + bool(taught))
    flops = tokens * rate * (runs + seeds * taught * _FORWARD_SHARE)
    return [
        f"Students: {len(config.arms)} arms of {parameters / 1e6:.2f}M parameters at {seeds} seed(s), "
        f"{tokens / 1e6:.2f}M tokens each in {config.steps} steps.",
        f"Training runs in all: {runs}, about {flops / 1e15:.3f} PFLOP.",
        f"World: {size} characters, {config.world.triggers} triggers ({config.world.draw}), sequences of {length}.",
    ]


def print_recall_plan(config: RecallConfig) -> None:
    """The resolved configuration and what it takes, on standard output."""
    console = Terminal()
    console.print(Syntax(printable_lines(to_yaml(config, "recall")), "yaml", background_color="default"))
    for line in plan_lines(config):
        console.print(line, highlight=False)
