"""The losses are for any trainer: they import with torch and numpy alone, and take plain values."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

from stillroom.config import ObjectiveConfig, RoutingConfig, ScheduleConfig
from stillroom.objectives import (
    Objective,
    Progress,
    Routing,
    Schedule,
    ever_needs_teacher,
    objective_at,
    token_losses,
)
from stillroom.types import Batch, SoftLabels

BARE = """
import sys
REFUSED = {"transformers", "pydantic", "rich", "typer", "yaml", "scipy", "fsspec", "tokenizers", "safetensors"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Refuse())
import torch
before = set(sys.modules)
import stillroom.objectives as objectives
from stillroom.types import Batch
assert all(getattr(objectives, name) is not None for name in objectives.__all__)
others = sorted(name for name in set(sys.modules) - before if not name.startswith("stillroom"))
assert others == [], others  # torch's own compiler, say, takes longer to import than torch
tokens = torch.arange(8)[None] % 5
batch = Batch(tokens, tokens.roll(-1, 1), torch.zeros_like(tokens, dtype=torch.int32))
teacher = objectives.TeacherLogits(torch.randn(8, 4), torch.randn(5, 4))
objective = objectives.Objective(alpha=0.5, routing=objectives.Routing("low-entropy", share=0.5))
losses = objectives.token_losses(torch.randn(8, 4), torch.randn(5, 4), batch, objective, teacher)
assert losses.routed_N.sum() == 4 and losses.loss_N.isfinite().all()
"""


def test_the_losses_work_with_torch_and_numpy_alone() -> None:
    found = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("plain", "config"), [(Objective, ObjectiveConfig), (Routing, RoutingConfig), (Schedule, ScheduleConfig)]
)
def test_plain_values_have_the_fields_and_defaults_of_the_configuration(plain, config) -> None:
    fields = {field.name: field.default for field in dataclasses.fields(plain)}
    asked = {name: field.default for name, field in config.model_fields.items()}
    assert list(fields) == list(asked)
    given = {"rule", "kind"}
    assert {name: value for name, value in fields.items() if name not in given} == {
        name: value for name, value in asked.items() if name not in given
    }


def test_plain_values_and_a_configuration_give_the_same_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 7, (2, 6), generator=generator)
    batch = Batch(tokens, tokens.roll(-1, 1), torch.zeros_like(tokens, dtype=torch.int32))
    weights = torch.rand(2, 6, 3, generator=generator).softmax(-1)
    labels = SoftLabels(tokens[..., None].repeat(1, 1, 3) // 2 + torch.arange(3), weights, weights[..., 0],
                        -weights[..., 1], torch.zeros(2, 6, dtype=torch.int32))  # fmt: skip
    hidden, head = torch.randn(12, 4, generator=generator), torch.randn(7, 4, generator=generator)
    plain = Objective(alpha=0.2, alpha_schedule=Schedule("linear", final=1.0), routing=Routing("low-entropy", 0.3))
    config = ObjectiveConfig(
        alpha=0.2,
        alpha_schedule=ScheduleConfig(kind="linear", final=1.0),
        routing=RoutingConfig(rule="low-entropy", share=0.3),
    )
    losses = [
        token_losses(hidden, head, batch, objective, labels, progress=Progress(5, 10)).loss_N
        for objective in (plain, config)
    ]
    assert torch.equal(*losses)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "warmup-stable-decay", "switch"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("final", [0.0, 0.7])
@pytest.mark.parametrize("initial", [0.0, 0.3])
def test_a_teacher_is_needed_where_any_step_has_its_label(kind, alpha, final, initial) -> None:
    schedule = ScheduleConfig(kind=kind, final=final, initial=initial, at_tokens=40)
    objective = ObjectiveConfig(alpha=alpha, alpha_schedule=schedule)
    steps = [objective_at(objective, Progress(tokens, 100)).alpha for tokens in range(101)]
    assert ever_needs_teacher(objective) == any(step > 0 for step in steps)
