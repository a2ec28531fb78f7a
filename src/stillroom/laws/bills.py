"""What a student costs when the teacher is on the bill (Busbridge et al. 2025, 2502.08606, eq. 9), in FLOPs and money.

N non-embedding parameters, D tokens, F(N) FLOPs of a forward pass per token. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stillroom.laws.forms import Floats
from stillroom.laws.points import Model


@dataclass(frozen=True)
class Bill:
    """Which of the teacher's costs are paid: its labels, its pretraining."""

    name: str
    labels: bool
    teacher: bool


BILLS = (
    Bill("teacher free", False, False),
    Bill("inference", True, False),
    Bill("pretraining", False, True),
    Bill("both", True, True),
)


@dataclass(frozen=True)
class Teacher:
    """A teacher's size and the tokens it was, or is to be, trained on; 0 where not known."""

    N: float = 0.0
    D: float = 0.0


@dataclass(frozen=True)
class Rates:
    """What turns FLOPs and bytes into hours and money; 0 where not given."""

    flops_per_second: float = 0.0
    price_per_hour: float = 0.0
    price_per_terabyte: float = 0.0


def forward_flops(N: ArrayLike, model: Model) -> Floats:
    """F(N): 2 per multiply-add of the blocks, the unembedding and causal attention, as ``costs`` counts them."""
    size = np.asarray(N, dtype=np.float64)
    layers = np.cbrt(size / (model.block * model.width_per_layer**2))
    width = model.width_per_layer * layers
    return 2.0 * (size + model.vocabulary * width + layers * width * model.context)


def teacher_flops(bill: Bill, teacher: Teacher, tokens: ArrayLike, model: Model) -> Floats:
    """What a bill charges for the teacher of students of so many tokens, for one student."""
    rate = forward_flops(teacher.N, model)
    return rate * (bill.labels * np.asarray(tokens, dtype=np.float64) + 3.0 * bill.teacher * teacher.D)


def student_flops(N: ArrayLike, D: ArrayLike, model: Model) -> Floats:
    """Training: forward and backward, 3·F(N)·D."""
    return 3.0 * forward_flops(N, model) * np.asarray(D, dtype=np.float64)
