"""Which part of a run is not finite: its weights or moments, or what its teacher says.

Letters: N positions, E width of the teacher, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from stillroom.objectives import TeacherLogits
from stillroom.types import SoftLabels

_CHUNK = 256
"""Positions of a live teacher whose logits exist at one time."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no number of any tensor is a NaN or an infinity; of sharded ones this rank's part is looked at."""
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    flags = [tensor.isfinite().all() for tensor in local if tensor.is_floating_point()]
    by_device: dict[torch.device, list[Tensor]] = {}
    for flag in flags:
        by_device.setdefault(flag.device, []).append(flag)
    return all(bool(torch.stack(same).all()) for same in by_device.values())


@torch.no_grad()
def teacher_is_finite(labels: SoftLabels | TeacherLogits | None) -> bool:
    """Whether what a teacher says of a batch is a distribution at every position; no teacher says nothing wrong."""
    if labels is None:
        return True
    if isinstance(labels, SoftLabels):
        columns = (labels.weights, labels.entropy, labels.gold_logprob, labels.tail)
        return all_finite(column for column in columns if column is not None)
    return all(_is_distribution(labels, chunk_nE) for chunk_nE in labels.hidden_NE.split(_CHUNK))


def _is_distribution(teacher: TeacherLogits, hidden_nE: Tensor) -> bool:
    """Whether every position's largest logit is finite: a NaN and an infinity are the largest, all -inf has none."""
    logits_nV = hidden_nE if teacher.weight_VE is None else hidden_nE.to(teacher.weight_VE.dtype) @ teacher.weight_VE.T
    logits_nV = logits_nV if teacher.bias_V is None else logits_nV + teacher.bias_V
    return bool(logits_nV.amax(-1).isfinite().all())
