"""How far stored labels are from the teacher that they were read from, measured on a sample.

Letters: n positions of a chunk, N positions, V vocabulary, K kept ids.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stillroom.labels.reading import Scores
from stillroom.labels.settings import LabelSettings
from stillroom.types import Batch, SoftLabels


def measure_fidelity(
    scores: Scores, batch: Batch, labels: SoftLabels, settings: LabelSettings
) -> dict[str, float | int | str]:
    """Distances of stored ``labels`` of a batch from the live teacher.

    ``mean_kl_nats``: for top-k and top-p KL(live‖stored) with everything outside the kept ids as one event; for the
    sampled codec, whose targets are 0 at most tokens, KL(stored‖live), which is the noise of N draws and averages out.
    ``gradient_error``: length of the error of the summed gradient with respect to the scores, over the length of the
    gradient, for a student that knows nothing (a uniform one; mass outside the kept ids is spread as the student does).
    ``squared_error_over_independent``: squared error of the target over that of as many independent draws (sampled).
    """
    flat = labels.flatten()
    totals = _Totals(settings.codec.draws)
    start = 0
    for scores_nV in scores.chunks(batch):
        here = slice(start, start + len(scores_nV))
        parts = {name: getattr(flat, name)[here].to(scores_nV.device) for name in ("ids", "weights")}
        tail_n = None if flat.tail is None else flat.tail[here].to(scores_nV.device)
        totals.add(torch.log_softmax(scores_nV / settings.temperature, -1), parts["ids"], parts["weights"], tail_n)
        start += len(scores_nV)
    return totals.result()


class _Totals:
    """Sums over the chunks of a sample."""

    def __init__(self, draws: int | None):
        self.draws = draws
        self.positions, self.kl, self.squared, self.independent = 0, 0.0, 0.0, 0.0
        self.error_V: Tensor | float = 0.0
        self.gradient_V: Tensor | float = 0.0

    def add(self, log_p_nV: Tensor, ids_nK: Tensor, weights_nK: Tensor, tail_n: Tensor | None) -> None:
        vocabulary = log_p_nV.shape[1]
        p_nV = log_p_nV.exp()
        stored_nV = torch.zeros_like(p_nV).scatter_add(1, ids_nK, weights_nK)
        kept_nV = torch.zeros_like(p_nV, dtype=torch.bool).scatter(1, ids_nK, weights_nK > 0)
        if tail_n is None:
            ratio_nV = stored_nV.clamp(min=1e-30).log() - log_p_nV
            self.kl += float((stored_nV * ratio_nV)[kept_nV].double().sum())
        else:
            outside_n = (vocabulary - kept_nV.sum(1)).clamp(min=1)
            self.kl += float(_kl_with_tail(p_nV, stored_nV, kept_nV, tail_n))
            stored_nV = torch.where(kept_nV, stored_nV, (tail_n / outside_n)[:, None])
        self.positions += len(p_nV)
        self.squared += float((stored_nV - p_nV).square().double().sum())
        if self.draws is not None:
            self.independent += float((p_nV * (1 - p_nV)).double().sum()) / self.draws
        self.error_V = self.error_V + (stored_nV - p_nV).double().sum(0)
        self.gradient_V = self.gradient_V + (1.0 / vocabulary - p_nV).double().sum(0)

    def result(self) -> dict[str, float | int | str]:
        assert isinstance(self.error_V, Tensor) and isinstance(self.gradient_V, Tensor)
        measured: dict[str, float | int | str] = {
            "positions": self.positions,
            "kl": "stored to live" if self.draws is not None else "live to stored",
            "mean_kl_nats": self.kl / self.positions,
        }
        if float(self.gradient_V.norm()) > 0:  # a uniform teacher gives a uniform student no gradient
            measured["gradient_error"] = float(self.error_V.norm() / self.gradient_V.norm())
        if self.independent > 0:
            measured["squared_error_over_independent"] = self.squared / self.independent
        assert all(not isinstance(value, float) or math.isfinite(value) for value in measured.values())
        return measured


def _kl_with_tail(p_nV: Tensor, stored_nV: Tensor, kept_nV: Tensor, tail_n: Tensor) -> Tensor:
    """Sum over positions of KL(live‖stored), the ids that were not kept taken as one event."""
    safe_nV = torch.where(kept_nV, p_nV, 1.0)
    listed = (safe_nV * (safe_nV.log() - torch.where(kept_nV, stored_nV, 1.0).clamp(min=1e-30).log()))[kept_nV]
    outside_n = (1.0 - (p_nV * kept_nV).double().sum(1)).clamp(min=0.0)
    tail = torch.special.xlogy(outside_n, outside_n) - torch.special.xlogy(outside_n, tail_n.double().clamp(min=1e-19))
    return listed.double().sum() + tail.sum()
