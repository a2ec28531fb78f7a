"""What TRL, Liger, torchtune and axolotl compute on the same problem, frozen by ``fixtures/make_peers.py``.

Where they are right this head gives their numbers; where they are not, the difference is stated and checked.
``docs/correctness.md`` says the same in words.
"""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import kl_div

from stillroom.objectives import (
    DenseTarget,
    SparseTarget,
    TeacherLogits,
    fused_linear_cross_entropy,
    hard_target,
    row_statistics,
)
from stillroom.types import IGNORE_INDEX

FROZEN = json.loads((Path(__file__).parent / "fixtures" / "peers.json").read_text())
INPUTS = {name: torch.tensor(values) for name, values in FROZEN["inputs"].items()}
N, V = len(INPUTS["hidden"]), len(INPUTS["weight"])
COUNTED = (INPUTS["gold"] != IGNORE_INDEX).float()
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
EYE = torch.eye(V)


def cases(what):
    found = [case for case in FROZEN["cases"] if case["what"] == what]
    assert found, what
    return found


def student():
    return [INPUTS[name].clone().requires_grad_() for name in ("hidden", "weight")]


def teacher():
    return TeacherLogits(INPUTS["teacher_hidden"], INPUTS["teacher_weight"])


def divergence(beta):
    return {0.0: "forward-kl", 1.0: "reverse-kl"}.get(beta, "jensen-shannon")


def dense(case, weight, hard=None):
    beta = case["beta"] or 0.5
    return DenseTarget(teacher(), weight, hard, case["temperature"], divergence(case["beta"]), beta)


def check(case, loss, inputs):
    """The peer's value and gradients are this head's."""
    torch.testing.assert_close(loss.detach(), torch.tensor(case["value"]), **TOLERANCE)
    for ours, theirs in zip(torch.autograd.grad(loss.sum(), inputs), case["gradients"], strict=True):
        torch.testing.assert_close(ours, torch.tensor(theirs), **TOLERANCE)


def student_logits():
    return (INPUTS["hidden"] @ INPUTS["weight"].t()).requires_grad_()


@pytest.mark.parametrize("case", cases("trl generalized_jsd_loss"), ids=str)
def test_trl_generalised_divergence_is_right(case):
    logits = student_logits()
    out = fused_linear_cross_entropy(logits, EYE, dense(case, COUNTED), temperature=case["temperature"])
    check(case, out.total, [logits])


@pytest.mark.parametrize("case", cases("trl chunked_divergence"), ids=str)
def test_trl_chunked_divergence_is_right(case):
    inputs = student()
    out = fused_linear_cross_entropy(*inputs, dense(case, torch.ones(N)), temperature=case["temperature"])
    check(case, out.loss_N, inputs)
    of_student = TeacherLogits(*(part.detach() for part in inputs))
    found = row_statistics(of_student, INPUTS["gold"], temperature=case["temperature"])
    torch.testing.assert_close(found.entropy_N, torch.tensor(case["entropy"]), **TOLERANCE)


@pytest.mark.parametrize("case", cases("liger chunked_loss"), ids=str)
def test_liger_mixed_loss_is_right(case):
    """A quarter of the hard label at temperature 1 and three quarters of the divergence, per counted position."""
    inputs = student()
    hard = fused_linear_cross_entropy(*inputs, hard_target(INPUTS["gold"], 0.25))
    soft = fused_linear_cross_entropy(*inputs, dense(case, 0.75 * COUNTED), temperature=case["temperature"])
    check(case, (hard.total + soft.total) / COUNTED.sum(), inputs)


def test_liger_pads_the_student_with_probability():
    """Teacher = student but for four padded rows: the divergence must be 0, and is not."""
    (case,) = cases("liger padded teacher")
    assert case["value"] > 0.5
    inputs = student()
    padded = torch.cat([INPUTS["weight"], torch.full((4, INPUTS["weight"].shape[1]), -9.0)])
    target = DenseTarget(TeacherLogits(INPUTS["hidden"], padded), COUNTED, divergence="forward-kl")
    out = fused_linear_cross_entropy(*inputs, target, vocab_size=V)
    assert out.loss_N.abs().max() < 1e-6


@pytest.mark.parametrize("case", cases("torchtune ReverseKLLoss"), ids=str)
def test_torchtune_reverse_kl_is_right(case):
    logits = student_logits()
    other = TeacherLogits(logits.detach(), None) if case["itself"] else teacher()
    out = fused_linear_cross_entropy(logits, EYE, DenseTarget(other, COUNTED, divergence="reverse-kl"))
    check(case, out.total / COUNTED.sum(), [logits])


@pytest.mark.parametrize("case", cases("torchtune ForwardKLLoss"), ids=str)
def test_torchtune_forward_kl_is_a_cross_entropy(case):
    logits = student_logits()
    other = TeacherLogits(logits.detach(), None) if case["itself"] else teacher()
    out = fused_linear_cross_entropy(logits, EYE, DenseTarget(other, COUNTED, divergence="cross-entropy"))
    check(case, out.total / COUNTED.sum(), [logits])
    kl = ((out.teacher_ce_N - out.teacher_entropy_N) * COUNTED).sum() / COUNTED.sum()
    entropy = (out.teacher_entropy_N * COUNTED).sum() / COUNTED.sum()
    assert case["value"] - float(kl) == pytest.approx(float(entropy), abs=1e-5) and entropy > 0.1
    if case["itself"]:
        assert abs(float(kl)) < 1e-5 and case["value"] > 0.1


def test_torchtune_symmetric_kl_is_half_a_cross_entropy():
    itself = next(case for case in cases("torchtune SymmetricKLLoss") if case["itself"])
    assert itself["value"] > 0.1  # a divergence of a model from itself is 0


def test_torchtune_loses_the_graph_where_all_is_masked():
    (case,) = cases("torchtune all masked")
    assert case["value"] == 0 and not case["has_gradient"]
    inputs = student()
    out = fused_linear_cross_entropy(*inputs, hard_target(torch.full((N,), IGNORE_INDEX)))
    out.total.backward()  # a rank without a counted position still takes part in the step
    assert all((part.grad == 0).all() for part in inputs)


def renormalised(case):
    return SparseTarget(torch.tensor(case["ids"]), torch.tensor(case["logprobs"]).exp())


@pytest.mark.parametrize("case", cases("axolotl fused top-k"), ids=lambda case: f"T={case['temperature']}")
def test_axolotl_gradient_lacks_its_temperature_factor(case):
    """The loss is multiplied by T² after its gradient was taken: they differ by exactly T²."""
    hidden, weight = student()
    target, temperature = renormalised(case), case["temperature"]
    # it compares within the listed ids alone: both sides renormalised
    chosen = ((hidden @ weight.t()) / temperature).gather(1, target.ids_NK)
    q = target.weights_NK
    loss = temperature**2 * (q * (q.log() - chosen.log_softmax(-1))).sum()
    torch.testing.assert_close(loss.detach(), torch.tensor(case["value"]), **TOLERANCE)
    for ours, theirs in zip(torch.autograd.grad(loss, [hidden, weight]), case["gradients"], strict=True):
        torch.testing.assert_close(ours, torch.tensor(theirs) * temperature**2, **TOLERANCE)


def test_axolotl_is_blind_to_what_lies_outside_the_listed_ids():
    """A gradient that pulls no mass into the listed ids; the full softmax does."""
    case = next(case for case in cases("axolotl fused top-k") if case["temperature"] == 1.0)
    target = renormalised(case)
    away = torch.full((N, V), 9.0)
    away.scatter_(1, target.ids_NK, target.weights_NK.log())  # right within the list, nearly all mass outside
    within = away.gather(1, target.ids_NK).log_softmax(-1)
    entropy = torch.special.entr(target.weights_NK).sum(-1)
    blind = -(target.weights_NK * within).sum(-1) - entropy
    assert blind.abs().max() < 1e-5
    assert (fused_linear_cross_entropy(away, EYE, target).loss_N - entropy > 9).all()


@pytest.mark.parametrize("case", cases("axolotl eager top-k"), ids=lambda case: f"T={case['temperature']}")
def test_axolotl_eager_mean_is_over_ids_not_tokens(case):
    logits = student_logits()
    target = renormalised(case)
    out = fused_linear_cross_entropy(logits, EYE, target, temperature=case["temperature"])
    entropy = torch.special.entr(target.weights_NK).sum()
    num_ids = target.ids_NK.numel()
    check(case, (out.total - entropy) / num_ids, [logits])


def test_pytorch_mean_divergence_is_over_the_vocabulary():
    logits = student_logits().detach()
    other = INPUTS["teacher_hidden"] @ INPUTS["teacher_weight"].t()
    theirs = kl_div(logits.log_softmax(-1), other.log_softmax(-1), log_target=True, reduction="none").mean()
    out = fused_linear_cross_entropy(logits, EYE, DenseTarget(teacher(), torch.ones(N), divergence="forward-kl"))
    torch.testing.assert_close(theirs * V, out.loss_N.mean(), **TOLERANCE)
