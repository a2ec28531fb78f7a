"""Muon in fp32 against torch's own, and against a reference in float64."""

from __future__ import annotations

import copy

import engine
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Muon

from stillroom.models import build_model
from stillroom.training import Student, build_optimizers
from stillroom.training import muon_optimizer as optimizer_module
from stillroom.training.full_precision_muon import FullPrecisionMuon

SHAPES = ((12, 12), (8, 20), (20, 8))


def _trained(kind: type[Muon], steps: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    first = [torch.randn(shape, generator=generator) for shape in SHAPES]
    parameters = [nn.Parameter(value.to(dtype)) for value in first]
    optimizer = kind(parameters, lr=0.02, weight_decay=0.1)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def _reference(steps: int) -> list[Tensor]:
    """The update as published, in float64: average, Nesterov's look ahead, five iterations, decay, step."""
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(shape, generator=generator).double() for shape in SHAPES]
    averages = [torch.zeros_like(weight) for weight in weights]
    for _ in range(steps):
        for index, weight in enumerate(weights):
            gradient = torch.randn(weight.shape, generator=generator).double()
            averages[index] = 0.95 * averages[index] + 0.05 * gradient
            x = 0.05 * gradient + 0.95 * averages[index]
            x = x / x.norm()
            for _ in range(5):
                x = 3.4445 * x + (-4.7750 * (x @ x.T) + 2.0315 * (x @ x.T) @ (x @ x.T)) @ x
            factor = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
            weights[index] = weight * (1 - 0.02 * 0.1) - 0.02 * factor * x
    return weights


def test_fp32_follows_the_reference() -> None:
    for found, expected in zip(_trained(FullPrecisionMuon, 5), _reference(5), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_it_is_torchs_within_bf16_rounding() -> None:
    # Newton-Schulz in bf16 keeps two to three digits of an update of singular values near 1.
    for found, expected in zip(_trained(FullPrecisionMuon, 1), _trained(Muon, 1), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * 0.02)


def test_state_passes_from_one_to_the_other() -> None:
    parameter = nn.Parameter(torch.randn(4, 6))
    parameter.grad = torch.randn(4, 6)
    own, theirs = FullPrecisionMuon([parameter], lr=0.02), Muon([parameter], lr=0.02)
    own.step()
    theirs.load_state_dict(copy.deepcopy(own.state_dict()))
    assert torch.equal(theirs.state[parameter]["momentum_buffer"], own.state[parameter]["momentum_buffer"])


def test_another_adjustment_of_the_rate_is_refused_and_not_ignored() -> None:
    with pytest.raises(ValueError, match="match_rms_adamw"):
        FullPrecisionMuon([nn.Parameter(torch.randn(4, 6))], adjust_lr_fn="match_rms_adamw")


@pytest.mark.parametrize("native", [True, False])
def test_hardware_without_bf16_takes_fp32(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "multiplies_bf16", lambda device: native)
    student = Student(build_model(engine.MODEL, engine.VOCAB, 0))
    muon = build_optimizers(student, engine.training_config(optimizer="muon"))[0]
    assert isinstance(muon, Muon)
    assert isinstance(muon, FullPrecisionMuon) != native
