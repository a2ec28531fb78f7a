"""Rows of a transition matrix: drawn, solved to a prescribed entropy, tempered, and where the chain spends its time.

Letters: R rows, K states, P places a row may go to. Imports numpy and types only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_HALVINGS = 100
_LOG_SHARPNESS = (-40.0, 40.0)
"""Range of log β that the search for an entropy covers."""


def row_entropies(matrix_RK: Floats) -> Floats:
    """Entropy of every row in nats (R,), with 0·log 0 = 0."""
    logs = np.log(matrix_RK, out=np.zeros_like(matrix_RK), where=matrix_RK > 0)
    return np.maximum(0.0, -(matrix_RK * logs).sum(-1))


def log_dirichlet(shape: tuple[int, int], concentration: float, random: np.random.Generator) -> Floats:
    """Logarithms of symmetric Dirichlet rows, finite at any concentration.

    A gamma variate of shape c is one of shape c + 1 times U^(1/c) (Marsaglia and Tsang 2000, section 6), so that the
    logarithm of a very small one is not lost.
    """
    gamma = np.log(random.standard_gamma(concentration + 1.0, shape))
    return _normalised(gamma + np.log1p(-random.random(shape)) / concentration)


def solved_rows(logs_RP: Floats, entropy_nats: float) -> Floats:
    """Rows ∝ exp(β·log) whose entropy is ``entropy_nats`` to rounding, each with a β ≥ 0 of its own.

    The entropy falls from log P to 0 as β rises, so bisection finds it. Raises ``ValueError`` where no row of that
    width can have such an entropy.
    """
    most = np.log(logs_RP.shape[1])
    if not 0.0 <= entropy_nats <= most + 1e-12:
        raise ValueError(
            f"an entropy of {entropy_nats:g} nats does not fit into rows of {logs_RP.shape[1]} next tokens"
        )
    if entropy_nats == 0.0:
        rows = np.zeros_like(logs_RP)
        rows[np.arange(len(rows)), logs_RP.argmax(1)] = 1.0
        return rows
    if entropy_nats >= most - 1e-12:
        return np.full_like(logs_RP, 1.0 / logs_RP.shape[1])
    low_R, high_R = (np.full(len(logs_RP), end) for end in _LOG_SHARPNESS)
    for _ in range(_HALVINGS):
        middle_R = (low_R + high_R) / 2
        too_even_R = row_entropies(np.exp(_normalised(np.exp(middle_R)[:, None] * logs_RP))) > entropy_nats
        low_R, high_R = np.where(too_even_R, middle_R, low_R), np.where(too_even_R, high_R, middle_R)
    return np.exp(_normalised(np.exp((low_R + high_R) / 2)[:, None] * logs_RP))


def tempered(matrix_RK: Floats, temperature: float) -> Floats:
    """softmax(log row / T): rows at another softmax temperature. What was impossible stays so."""
    if temperature == 1.0:
        return matrix_RK
    with np.errstate(divide="ignore"):
        return np.exp(_normalised(np.log(matrix_RK) / temperature))


def stationary(matrix_KK: Floats) -> Floats:
    """Share of the time that a long walk spends in each state (K,).

    Where the chain falls apart into parts that do not reach each other there is no single answer: then the walk is
    taken to start in a state drawn evenly.
    """
    num = len(matrix_KK)
    system = matrix_KK.T - np.eye(num)
    system[-1] = 1.0
    try:
        found = np.linalg.solve(system, np.eye(num)[-1])
    except np.linalg.LinAlgError:
        found = np.full(num, -1.0)
    if found.min() > -1e-9 and np.abs(found @ matrix_KK - found).max() < 1e-9:
        found = np.maximum(found, 0.0)
        return found / found.sum()
    lazy = (matrix_KK + np.eye(num)) / 2  # the lazy chain has the same stationary distributions and no period
    for _ in range(40):
        lazy = lazy @ lazy
        lazy /= lazy.sum(1, keepdims=True)
    return lazy.mean(0)


def low_targets(num_low: int, num_states: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The likeliest next place of each of the first ``num_low`` places: a later one, so that no walk is caught there.

    Without this, two certain rows that point at each other would never be left. The last place of a world without any
    other rows points at the first.
    """
    firsts = np.arange(num_low)
    ahead = num_states - 1 - firsts
    drawn = firsts + 1 + np.floor(random.random(num_low) * np.maximum(ahead, 1)).astype(np.int64)
    return np.where(ahead > 0, drawn, 0)


def _normalised(logs: Floats) -> Floats:
    """The logarithms shifted so that their exponentials sum to 1 along the last axis."""
    shifted = logs - logs.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
