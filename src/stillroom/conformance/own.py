"""This package's own loss and sampled labels: ``pytest --distillation-adapter stillroom.conformance.own:adapter``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stillroom.conformance.adapter import Adapter, LossCase
from stillroom.labels.codecs.sampled import Sampled
from stillroom.labels.codecs.systematic import offsets
from stillroom.labels.ragged import padded
from stillroom.labels.reading import read_labels
from stillroom.labels.settings import LabelSettings
from stillroom.objectives import Objective, TeacherLogits, token_losses
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels


def _loss(case: LossCase) -> Tensor:
    batch = Batch(case.targets_BT.clamp(min=0), case.targets_BT, torch.zeros_like(case.targets_BT).int())
    how = {"divergence": case.divergence, "beta": case.beta, "temperature": case.temperature}
    objective = Objective(alpha=case.alpha, temperature_form="both", **how)  # type: ignore[arg-type]
    teacher = TeacherLogits(case.teacher_hidden_BTE.flatten(0, 1), case.teacher_weight_WE, None, case.softcap)
    hidden_ND, labels = case.hidden_BTD.flatten(0, 1), case.labels or teacher
    options = {"softcap": case.softcap, "vocab_size": case.vocab_size}
    losses = token_losses(hidden_ND, case.weight_VD, batch, objective, labels, **options)  # type: ignore[arg-type]
    return losses.loss_N.sum() / case.counted


def _sample(logits_NV: Tensor, draws: int, seed: int) -> SoftLabels:
    targets_N = torch.full((len(logits_NV),), IGNORE_INDEX)
    offset_N = torch.from_numpy(offsets(np.zeros((1, 2), np.uint64), len(logits_NV), seed))
    settings = LabelSettings(Sampled(num_samples=draws))
    return padded(read_labels(logits_NV.clone(), targets_N, offset_N, settings), 1 / draws).tensors(1).flatten()


adapter = Adapter(
    name="stillroom",
    loss=_loss,
    divergences=("cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon"),
    reduction="step",
    masked=True,
    hard=True,
    temperature="squared",
    padding=True,
    softcap=True,
    tail="bucket",
    sample=_sample,
    fused=True,
)
