"""What holds for every right distillation loss. The first paragraph of a property says why.

Each compares a loss with itself where it can, and with float64 where it must, so that one fault breaks one property.
Letters as in ``adapter``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stillroom.conformance.adapter import Adapter, LossCase
from stillroom.conformance.oracle import Found, differentiated, largest_labels, loss_case, right
from stillroom.conformance.told import Broken, needs, same
from stillroom.types import IGNORE_INDEX

CAP, DRAWS, REPEATS = 2.0, 50, 100
LARGE = {"length": 1024, "vocab": 4096}
"""Sequences of which a few are more than the usual chunks of a fused loss."""


def _agree(adapter: Adapter, what: str, found: Found, expected: Found) -> None:
    same(what, found.named, expected.tensors, adapter.tolerance)


def _cases(adapter: Adapter, **of_case: object) -> list[LossCase]:
    needs(adapter.loss, "loss")
    return [replace(loss_case(), divergence=name, **of_case) for name in adapter.divergences]


def identity(adapter: Adapter) -> None:
    """A student that is its teacher has nothing to learn: a divergence is 0 there and has no gradient, and a
    cross-entropy is the teacher's entropy.
    """
    for case in _cases(adapter):
        case = replace(case, teacher_hidden_BTE=case.hidden_BTD, teacher_weight_WE=case.weight_VD)
        _agree(
            adapter, f"{case.divergence} of a student that is its teacher", differentiated(adapter, case), right(case)
        )


def gradient(adapter: Adapter) -> None:
    """Only the gradient trains, and a wrong one still makes the loss fall: it must be that of float64 autograd."""
    for case in _cases(adapter):
        found, expected = differentiated(adapter, case), right(case)
        same(f"{case.divergence}", found.named[1:], expected.tensors[1:], adapter.tolerance)


def temperature(adapter: Adapter) -> None:
    """A factor T² that reaches the value and not the gradient, or neither, changes the weight of the distillation term
    with T: loss and gradient at T must be those of softened logits, times T² where the adapter declares it.
    """
    needs(adapter.temperature, "temperature")
    for case in _cases(adapter):
        for t in (2.0, 0.5):
            soft = differentiated(adapter, case, partial(_softened, t, adapter.temperature != "teacher"))
            expected = soft * (t * t if adapter.temperature == "squared" else 1.0)
            found = differentiated(adapter, replace(case, temperature=t))
            _agree(adapter, f"{case.divergence} at T = {t:g}, form {adapter.temperature}", found, expected)


def _softened(t: float, both: bool, leaves: LossCase) -> LossCase:
    """The same logits divided by t."""
    return leaves.on_logits(lambda logits: logits / t if both else logits, lambda logits: logits / t)


def ignore_index(adapter: Adapter) -> None:
    """Prompts, padding and the ends of documents are in the batch and not in the loss: whatever stands there must
    change nothing, and a batch of nothing else must give 0 with a gradient of 0.
    """
    needs(adapter.masked, "masked")
    for case in _cases(adapter):
        found = differentiated(adapter, case, _beside_ignored)
        _agree(adapter, f"{case.divergence} beside as many ignored positions", found, differentiated(adapter, case))
        none = replace(case, targets_BT=torch.full_like(case.targets_BT, IGNORE_INDEX), step_counted=12)
        nothing = [torch.zeros(()), torch.zeros_like(case.hidden_BTD), torch.zeros_like(case.weight_VD)]
        same("every position ignored", differentiated(adapter, none).named, nothing, adapter.tolerance)


def _beside_ignored(leaves: LossCase) -> LossCase:
    """The same sequences, and as many of which nothing counts."""
    hidden, teacher, targets = leaves.hidden_BTD, leaves.teacher_hidden_BTE, leaves.targets_BT
    return replace(
        leaves,
        hidden_BTD=torch.cat([hidden, 3 * hidden.detach()]),
        teacher_hidden_BTE=torch.cat([teacher, -teacher]),
        targets_BT=torch.cat([targets, torch.full_like(targets, IGNORE_INDEX)]),
    )


def shift(adapter: Adapter) -> None:
    """Position t predicts token t + 1: a loss that shifts once too often, or not at all, learns to copy or to skip.
    Another next token at one position must change the loss by the difference of their log-probabilities there.
    """
    needs(adapter.hard, "hard")
    (case, *_) = _cases(adapter, alpha=0.5)
    for position in (0, 3, 5):
        targets = case.targets_BT.clone()
        targets[0, position] = (targets[0, position] + 1) % len(case.weight_VD)
        other = replace(case, targets_BT=targets)
        found, expected = (differentiated(adapter, other) - differentiated(adapter, case), right(other) - right(case))
        same(f"another next token at position {position}", found.named[:1], expected.tensors[:1], adapter.tolerance)


def terms(adapter: Adapter) -> None:
    """A term that is declared and dropped, in the value or in the gradient alone, leaves a run that looks healthy:
    at alpha = 1/2 each of the two must act with half of its weight.
    """
    needs(adapter.hard, "hard")
    other = loss_case(seed=1)
    teacher = {"teacher_hidden_BTE": other.teacher_hidden_BTE, "teacher_weight_WE": other.teacher_weight_WE}
    changes = {"another teacher": (teacher, 1.0), "other next tokens": ({"targets_BT": other.targets_BT}, 0.0)}
    for case in _cases(adapter, alpha=0.5):
        for what, (change, alone) in changes.items():
            half = differentiated(adapter, replace(case, **change)) - differentiated(adapter, case)
            whole = replace(case, alpha=alone)
            full = differentiated(adapter, replace(whole, **change)) - differentiated(adapter, whole)
            if not full.hidden.abs().max() > 0:
                raise Broken(f"{what} at alpha = {alone:g}: expected another gradient, found the same (tolerance 0)")
            _agree(
                adapter, f"{what} under {case.divergence} at alpha = 1/2, against half of it alone", half, full * 0.5
            )


def padded_vocabulary(adapter: Adapter) -> None:
    """Models of one family are padded to different sizes; an id that no text has must get no probability from either
    model, and its rows no gradient.
    """
    needs(adapter.padding, "padding")
    for case in _cases(adapter):
        for student, teacher in ((0, 8), (8, 0), (8, 8)):
            what = f"{case.divergence}, student padded by {student} rows and teacher by {teacher}"
            found = differentiated(adapter, case, partial(_padded, student, teacher))
            _agree(adapter, what, found, differentiated(adapter, case))


def _padded(student: int, teacher: int, leaves: LossCase) -> LossCase:
    """The same models with so many rows for ids that are none."""
    more = torch.full((max(student, teacher), leaves.weight_VD.shape[1]), 0.5)
    weight = torch.cat([leaves.weight_VD, more[:student]])
    of_teacher = torch.cat([leaves.teacher_weight_WE, more[:teacher]])
    return replace(leaves, weight_VD=weight, teacher_weight_WE=of_teacher, vocab_size=len(leaves.weight_VD))


def soft_cap(adapter: Adapter) -> None:
    """A model that caps its logits has other probabilities than its unembedding alone: a loss that multiplies by the
    unembedding itself must cap too, value and gradient.
    """
    needs(adapter.softcap, "softcap")
    for case in _cases(adapter):
        expected = differentiated(adapter, case, lambda leaves: leaves.on_logits(_capped, _capped))
        found = differentiated(adapter, replace(case, softcap=CAP))
        _agree(adapter, f"{case.divergence} with logits capped at {CAP:g}", found, expected)


def _capped(logits: Tensor) -> Tensor:
    return CAP * torch.tanh(logits / CAP)


def top_k(adapter: Adapter) -> None:
    """Listed ids hold a part of the teacher's mass. Against the student's full softmax, with the declared tail, the
    loss sees what the student puts outside of them; a loss that renormalises the student too is blind to it.
    """
    needs(adapter.tail, "tail")
    (case, *_) = _cases(adapter)
    for num in (4, len(case.weight_VD) - 1):
        case = replace(case, labels=largest_labels(case, num))
        what = f"the teacher's {num} largest of {len(case.weight_VD)} ids, tail {adapter.tail}"
        found, expected = differentiated(adapter, case), right(case, adapter.tail)
        same(what, found.named[1:], expected.tensors[1:], adapter.tolerance)


def sampling(adapter: Adapter) -> None:
    """Sampled labels are worth their few bytes because their mean is the teacher's distribution; keeping the most
    frequent draws alone, or weighting draws by probability again, moves mass from the tail to the head.
    """
    needs(adapter.sample, "sample")
    assert adapter.sample is not None
    logits = loss_case(rows=1, length=16, vocab=96, width=8).teacher_logits_BTW[0]
    q = logits.softmax(-1)
    rank = q.argsort(-1, descending=True).argsort(-1)
    for first, last in ((0, 1), (1, 8), (8, 32), (32, 96)):
        inside = (rank >= first) & (rank < last)
        shares = torch.stack([_share(adapter.sample, logits, inside, seed) for seed in range(REPEATS)])
        off = float(shares.mean() - (q * inside).sum(-1).mean())
        limit = 5 * float(shares.std()) / REPEATS**0.5 + 1e-6
        if not abs(off) <= limit:
            due = float((q * inside).sum(-1).mean())
            raise Broken(
                f"{DRAWS} draws of {len(q)} distributions, {REPEATS} times: expected ids of rank {first + 1} to {last} "
                f"to hold {due:.4f} of the weight, found {due + off:.4f} (tolerance {limit:.2g}, five standard errors)"
            )


def _share(sample: Callable[[Tensor, int, int], object], logits: Tensor, inside: Tensor, seed: int) -> Tensor:
    """The weight that one draw gives to the chosen ids, per position."""
    labels = sample(logits, DRAWS, seed)
    return (labels.weights * inside.gather(-1, labels.ids)).sum(-1).mean().double()  # type: ignore[attr-defined]


def micro_batches(adapter: Adapter) -> None:
    """Sequences differ in how many positions count; a mean of each micro-batch's mean weighs positions by the company
    they are in. Micro-batches of unequal counts must add up to the step that holds them all.
    """
    needs(adapter.reduction != "mean", "a reduction of sum or step")
    needs(adapter.masked, "masked")
    for case in _cases(adapter):
        targets = case.targets_BT.clone()
        targets[0, 1:] = IGNORE_INDEX
        case = replace(case, targets_BT=targets)
        whole = differentiated(adapter, case)
        first, second = (differentiated(adapter, case, partial(_row, row)) for row in (0, 1))
        total = Found(*(a + b for a, b in zip(first.tensors, second.tensors, strict=True)))
        _agree(adapter, f"{case.divergence} of micro-batches with 1 and 6 counted positions", total, whole)


def _row(row: int, leaves: LossCase) -> LossCase:
    """One sequence as a micro-batch of the step."""
    one = slice(row, row + 1)
    return replace(
        leaves,
        hidden_BTD=leaves.hidden_BTD[one],
        teacher_hidden_BTE=leaves.teacher_hidden_BTE[one],
        targets_BT=leaves.targets_BT[one],
        step_counted=leaves.counted,
    )


def memory(adapter: Adapter) -> None:
    """The logits of a batch in float32 are the largest tensor of a training step: what a larger batch adds to the peak
    of a fused loss, forward and backward, must be less than one copy of its logits.
    """
    needs(adapter.fused, "fused")
    cases = [replace(loss_case(rows=rows, **LARGE), divergence=adapter.divergences[0]) for rows in (4, 16)]
    small, large = (peak_bytes(partial(differentiated, adapter, case)) for case in cases)
    copy = 4 * 12 * LARGE["length"] * LARGE["vocab"]
    if not large - small < copy:
        raise Broken(
            f"four times as many positions: expected to add less than the {copy / 2**20:.0f} MiB of one copy of their "
            f"logits, found {(large - small) / 2**20:.0f} MiB (tolerance 0)"
        )


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that tensors of a call held at once on the CPU, in bytes, above what was there before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    results: Any = profile.profiler.kineto_results  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    held = torch.tensor([0, *(size for _, size in changes)]).cumsum(0)
    return int(held.max())
