"""Scaling laws as small frozen objects: what loss a student of so many parameters reaches on so many tokens.

Units: N non-embedding parameters, D training tokens, losses in nats per token. Letters: P points, K coefficients, R
draws. A coefficient may be an array (R, 1) of draws instead of a number; losses then have the shape (R, P).

A fit moves ``free``: the logarithms of the coefficients, c0 itself. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
_LINEAR = "c0"


class _Coefficients:
    """Coefficients by name, and the vector that a fit moves."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the coefficients, in the order of the gradient's columns."""
        return tuple(field.name for field in fields(cls) if field.name != "supervised")  # type: ignore[arg-type]

    @classmethod
    def of_draws(cls, draws_RK: Floats, *supervised: SupervisedLaw) -> Self:
        """A law with arrays (R, 1) as coefficients, from draws whose columns are in the order of ``names``."""
        return cls(*supervised, *(draws_RK[:, [k]] for k in range(draws_RK.shape[1])))  # type: ignore[call-arg]

    def coefficients(self) -> dict[str, float]:
        """Coefficients by name."""
        return {name: getattr(self, name) for name in self.names()}

    def free(self, names: Sequence[str]) -> Floats:
        """Logarithms of the coefficients named, (K,); c0 itself."""
        return np.array([getattr(self, name) if name == _LINEAR else np.log(getattr(self, name)) for name in names])

    def moved(self, names: Sequence[str], free_K: ArrayLike) -> Self:
        """The law with the coefficients named taken from ``free_K`` (K,), or from draws of it (R, K)."""
        free = np.asarray(free_K, dtype=np.float64)
        columns = [float(value) for value in free] if free.ndim == 1 else [free[:, [k]] for k in range(free.shape[1])]
        pairs = zip(names, columns, strict=True)
        moved = {name: one if name == _LINEAR else np.exp(one) for name, one in pairs}
        if free.ndim == 1:
            moved = {name: float(one) for name, one in moved.items()}
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class _PowerSum:
    """(A/N^α + B/D^β)^γ, kept in logarithms so that no start of a fit overflows."""

    A: float
    alpha: float
    B: float
    beta: float
    gamma: float

    def value(self, N: Floats, D: Floats) -> Floats:
        return np.exp(np.minimum(self.gamma * self._log_sum(N, D), 50.0))

    def _log_sum(self, N: Floats, D: Floats) -> Floats:
        return np.logaddexp(np.log(self.A) - self.alpha * np.log(N), np.log(self.B) - self.beta * np.log(D))

    def with_slopes(self, N: Floats, D: Floats) -> tuple[Floats, list[Floats]]:
        """The value and its derivatives by log A, log α, log B, log β and log γ."""
        sum_P, value_P = self._log_sum(N, D), self.value(N, D)
        log_N, log_D = np.log(N), np.log(D)
        by_model_P = self.gamma * value_P * np.exp(np.log(self.A) - self.alpha * log_N - sum_P)
        by_data_P = self.gamma * value_P - by_model_P
        slopes = [by_model_P, -self.alpha * log_N * by_model_P, by_data_P, -self.beta * log_D * by_data_P]
        return value_P, [*slopes, self.gamma * sum_P * value_P]


def _floats(*values: ArrayLike) -> list[Floats]:
    return [np.asarray(value, dtype=np.float64) for value in values]


@dataclass(frozen=True)
class SupervisedLaw(_Coefficients):
    """L(N, D) = E + (A/N^α + B/D^β)^γ: a model trained on hard labels (Busbridge et al. 2025, 2502.08606, eq. 1)."""

    E: float
    """Loss that no size and no amount of text goes below, in nats per token."""
    A: float
    alpha: float
    B: float
    beta: float
    gamma: float

    def _power(self) -> _PowerSum:
        return _PowerSum(self.A, self.alpha, self.B, self.beta, self.gamma)

    def loss(self, N: ArrayLike, D: ArrayLike) -> Floats:
        """Nats per token of models of N parameters trained on D tokens."""
        return self.E + self._power().value(*_floats(N, D))

    def with_gradient(self, N: ArrayLike, D: ArrayLike) -> tuple[Floats, Floats]:
        """Losses (P,) and their derivatives (P, 6) by ``free``, in the order of ``names``."""
        value_P, slopes = self._power().with_slopes(*_floats(N, D))
        return self.E + value_P, np.stack([np.full_like(value_P, self.E), *slopes], axis=-1)

    def tokens_for(self, N: ArrayLike, loss: ArrayLike) -> Floats:
        """Tokens that take a model of N parameters to this loss; infinite where no amount of text does."""
        size, wanted = _floats(N, loss)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.power(np.maximum(wanted - self.E, 0.0), 1 / self.gamma) - self.A / size**self.alpha
            return np.where(left > 0, (self.B / np.where(left > 0, left, 1.0)) ** (1 / self.beta), np.inf)


@dataclass(frozen=True)
class DistillationLaw(_Coefficients):
    """The loss of a student that learns from a teacher's labels (Busbridge et al. 2025, 2502.08606, eq. 8).

    L_S = L_T + L_T^(-c0) · [1 + (L_T / (L̃_S·d1))^(1/f1)]^(-c1·f1) · (A/N^α + B/D^β)^γ - κ·(L_T - L̃_S)

    L̃_S is the supervised law's loss of the same size and tokens. The published form has κ = 0 (``recovery``), so that
    no student goes below its teacher. With κ > 0 the floor is (1 - κ)·L_T + κ·L̃_S: a student keeps a part of what hard
    labels would have made of it, in excess of its teacher or short of it.
    """

    supervised: SupervisedLaw
    c0: float
    c1: float
    f1: float
    d1: float
    """L_T / L̃_S at which the capacity gap sets in."""
    A: float
    alpha: float
    B: float
    beta: float
    gamma: float
    recovery: float = 0.0

    def _parts(self, N: Floats, D: Floats, teacher: Floats) -> tuple[Floats, Floats, Floats]:
        """L̃_S, the logarithm of (L_T / (L̃_S·d1))^(1/f1), and what (A/N^α + B/D^β)^γ is multiplied with."""
        hard_P = self.supervised.loss(N, D)
        ratio_P = (np.log(teacher) - np.log(hard_P) - np.log(self.d1)) / self.f1
        return hard_P, ratio_P, np.exp(-self.c0 * np.log(teacher) - self.c1 * self.f1 * np.logaddexp(0.0, ratio_P))

    def _power(self) -> _PowerSum:
        return _PowerSum(self.A, self.alpha, self.B, self.beta, self.gamma)

    def loss(self, N: ArrayLike, D: ArrayLike, teacher: ArrayLike) -> Floats:
        """Nats per token of students of N parameters, D labelled tokens and teachers of these losses."""
        size, tokens, taught = _floats(N, D, teacher)
        hard_P, _, scale_P = self._parts(size, tokens, taught)
        return taught + scale_P * self._power().value(size, tokens) - self.recovery * (taught - hard_P)

    def with_gradient(self, N: ArrayLike, D: ArrayLike, teacher: ArrayLike) -> tuple[Floats, Floats]:
        """Losses (P,) and their derivatives (P, 10) by ``free``, the supervised law held fixed."""
        size, tokens, taught = _floats(N, D, teacher)
        hard_P, ratio_P, scale_P = self._parts(size, tokens, taught)
        soft_P, gate_P = np.logaddexp(0.0, ratio_P), expit(ratio_P)
        value_P, slopes = self._power().with_slopes(size, tokens)
        gap_P, kept_P = scale_P * value_P, self.recovery * (taught - hard_P)
        columns = [
            -np.log(taught) * gap_P,
            -self.c1 * self.f1 * soft_P * gap_P,
            -self.c1 * self.f1 * (soft_P - ratio_P * gate_P) * gap_P,
            self.c1 * gate_P * gap_P,
            *(scale_P * slope for slope in slopes),
            -kept_P,
        ]
        return taught + gap_P - kept_P, np.stack(np.broadcast_arrays(*columns), axis=-1)
