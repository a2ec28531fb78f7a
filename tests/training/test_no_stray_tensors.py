"""No step makes a tensor on the processor where its inputs lie elsewhere: a GPU would refuse it, as ``meta`` does."""

from __future__ import annotations

import contextlib
from dataclasses import fields, replace

import engine
import pytest
import torch
from torch import Tensor

from stillroom.models import build_model, hidden_states
from stillroom.objectives import Progress, TeacherLogits, token_losses

NAMES = {**engine.OBJECTIVES, **engine.FURTHER_OBJECTIVES}
DRAWN_HERE = "random"
"""Its scores are drawn on the processor, so that every device draws alike."""
CASES = [
    (name, live)
    for name in NAMES
    for live in (False, True)
    if name != DRAWN_HERE and name not in (engine.STORED_ONLY if live else engine.LIVE_ONLY)
]


def elsewhere(value):
    """A batch or labels as shapes alone."""
    tensors = {one.name: getattr(value, one.name) for one in fields(value)}
    return replace(value, **{name: one.to("meta") for name, one in tensors.items() if isinstance(one, Tensor)})


@pytest.fixture(autouse=True)
def _without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which does not know this device."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


@pytest.mark.parametrize(("name", "live"), CASES)
def test_an_objective_stays_where_its_inputs_are(name: str, live: bool) -> None:
    objective, batch = NAMES[name], engine.training_data().train.batch(range(4))
    num = batch.tokens_BT.numel()
    hidden = torch.empty(objective.heads, num, 32, device="meta", requires_grad=True)
    weight = torch.empty(engine.VOCAB, 32, device="meta", requires_grad=True)
    labels = elsewhere(engine.PairLabels().labels(batch))
    if live:
        labels = TeacherLogits(hidden[0].detach(), weight.detach())
    states = hidden if objective.heads > 1 else hidden[0]
    out = token_losses(states, weight, elsewhere(batch), objective, labels, progress=Progress(50, 100))
    out.loss_N.sum().backward()
    assert hidden.grad is not None and hidden.grad.is_meta and out.routed_N.is_meta


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_packed_documents_stay_where_they_are(implementation: str) -> None:
    model = build_model(engine.MODEL, engine.VOCAB, 0).to(device="meta")
    model.set_attn_implementation(implementation)
    assert hidden_states(model, elsewhere(engine.training_data().train.batch(range(4)))).is_meta
