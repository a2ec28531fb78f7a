"""What the candidates' numbers say beside one another: each one's measures, paired differences, agreement.

Letters: N counted positions, P sampled ones, I documents, C candidates, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.choosing.positions import HeldOut, Positions
from stillroom.choosing.request import Candidate
from stillroom.evaluation.measuring.calibration import calibration, ratio_difference
from stillroom.laws.presets import CAPACITY_BREAK
from stillroom.results.ranking_file import (
    CandidateAgreement,
    Capacity,
    CopyableMeasures,
    EntropyDistribution,
    FromFirst,
    LabellingCost,
    LeakMeasures,
    LookingBack,
    LossOrder,
    NoPositions,
    SolvedProblems,
    TeacherRecord,
)
from stillroom.results.statistics import ratio
from stillroom.types import Estimate

_ENTROPY_BINS = 40
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


def shared_low_entropy(panel: dict[str, Positions], heldout: HeldOut, share: float) -> NDArray[np.bool_]:
    """The positions (N,) that the candidates together find surest.

    In every sequence the ``share`` of counted positions whose entropy, averaged over all candidates, is lowest. No
    candidate's own certainty decides alone, so every one is asked at the same places: a teacher whose copying is
    unfinished is unsure exactly where it should be sure, and would leave those places out of its own.
    """
    mean_N = np.mean([positions.entropy_N.astype(np.float64) for positions in panel.values()], axis=0)
    return heldout.lowest(mean_N, share)


@dataclass(frozen=True)
class MeasuredTeacher:
    """One candidate's numbers by position, and what needs no position."""

    positions: Positions
    looking_back: LookingBack
    problems: SolvedProblems | None
    cost: LabellingCost


def mean_over(values_N: NDArray[Any], heldout: HeldOut, inside_N: NDArray[np.bool_] | None = None) -> Estimate:
    """Mean of a value over the positions inside a mask, of which there must be one, with its interval over documents.

    Numerator and denominator are summed by document, and documents are drawn anew inside their source.
    """
    inside_N = np.ones(len(heldout.item_N), bool) if inside_N is None else inside_N
    top_I = heldout.per_item(np.asarray(values_N, np.float64), inside_N)
    bottom_I = heldout.per_item(np.ones(len(inside_N)), inside_N)
    return ratio(top_I, bottom_I, strata=heldout.strata_I)


def _mean_where(values_N: NDArray[Any], heldout: HeldOut, inside_N: NDArray[np.bool_]) -> Estimate | NoPositions:
    return mean_over(values_N, heldout, inside_N) if inside_N.any() else NoPositions()


def describe_teacher(
    teacher: Candidate,
    measured: MeasuredTeacher,
    heldout: HeldOut,
    shared_N: NDArray[np.bool_],
    share: float,
    student_N: NDArray[np.float64] | None,
) -> TeacherRecord:
    """Everything that is known of one candidate; see ``docs/teachers.md`` for every definition."""
    positions, nats_N = measured.positions, measured.positions.nats_N
    gold_N = np.exp(-nats_N)
    own_N = heldout.lowest(positions.entropy_N.astype(np.float64), share)
    calibrated = calibration(positions.confidence_N, positions.hit_N, heldout.item_N, strata=heldout.strata_I)
    sources = {name: heldout.source_N == code for code, name in enumerate(heldout.corpus.source_names)}
    return TeacherRecord(
        name=teacher.name,
        path=teacher.path,
        key=teacher.key,
        parameters=teacher.parameters,
        ce=mean_over(nats_N, heldout),
        ce_by_source={
            name: mean_over(nats_N, heldout, inside_N) for name, inside_N in sources.items() if inside_N.any()
        },
        entropy=entropy_distribution(positions.entropy_N, heldout),
        overconfidence_nats=mean_over(nats_N - positions.entropy_N, heldout),
        calibration=calibrated.result(),
        copyable=CopyableMeasures(
            share=float(heldout.copyable_N.mean()),
            gold_probability=_mean_where(gold_N, heldout, heldout.copyable_N),
            ce=_mean_where(nats_N, heldout, heldout.copyable_N),
        ),
        leak=LeakMeasures(
            shared=_mean_where(1.0 - gold_N, heldout, shared_N), own=_mean_where(1.0 - gold_N, heldout, own_N)
        ),
        capacity=None if student_N is None else capacity(nats_N, student_N, heldout),
        looking_back=measured.looking_back,
        problems=measured.problems,
        cost=measured.cost,
    )


def entropy_distribution(entropy_N: NDArray[np.float32], heldout: HeldOut) -> EntropyDistribution:
    """Mean with interval, quantiles and a histogram of the entropy, in nats."""
    edges = np.linspace(0.0, float(np.log(heldout.corpus.vocab_size)), _ENTROPY_BINS + 1)
    counts = np.histogram(np.minimum(entropy_N, edges[-1]), edges)[0]
    return EntropyDistribution(
        mean=mean_over(entropy_N, heldout),
        quantiles={level: float(np.quantile(entropy_N, level)) for level in _LEVELS},
        edges_nats=tuple(edges.round(6).tolist()),
        counts=tuple(counts.tolist()),
    )


def capacity(nats_N: NDArray[np.float64], student_nats_N: NDArray[np.float64], heldout: HeldOut) -> Capacity:
    """L_teacher / L_student over the same tokens, with its interval, and the side of the law's break that it is on."""
    estimate = ratio(heldout.per_item(nats_N), heldout.per_item(student_nats_N), strata=heldout.strata_I)
    below, above = estimate.high < CAPACITY_BREAK, estimate.low > CAPACITY_BREAK
    side = "below" if below else "above" if above else "at the break"
    return Capacity(estimate.value, estimate.low, estimate.high, estimate.num, CAPACITY_BREAK, side)


def order_by_loss(nats: Mapping[str, NDArray[np.float64]], heldout: HeldOut) -> LossOrder:
    """Names from the lowest mean loss to the highest, each one's paired difference from the first, and the ties.

    ``nats[name]`` is (N,), or (seeds, N) for several training runs, whose mean is taken at every position. Differences
    are per document over the same documents; their intervals are widened so that all of them together hold with
    95 % (Bonferroni). One whose interval reaches 0 is a tie with the first.
    """
    tokens_I = heldout.per_item(np.ones(len(heldout.item_N)))
    sums = {name: heldout.per_item(np.atleast_2d(values).mean(axis=0)) for name, values in nats.items()}
    order = sorted(sums, key=lambda name: float(sums[name].sum()))
    level = 1 - 0.05 / max(1, len(order) - 1)
    differences = []
    for name in order[1:]:
        found = ratio_difference(sums[name] - sums[order[0]], tokens_I, heldout.strata_I, level=level)
        differences.append(FromFirst(name=name, nats=found, tie=found.low <= 0.0))
    return LossOrder(order=tuple(order), against=order[0], level=level, differences=tuple(differences))


def agreement(panel: dict[str, Positions]) -> CandidateAgreement:
    """Share of positions with the same first choice, and mean Jensen-Shannon divergence in nats, for every pair."""
    names = list(panel)
    top, divergence = np.eye(len(names)), np.zeros((len(names), len(names)))
    for row, first in enumerate(names):
        for column in range(row + 1, len(names)):
            second = names[column]
            same = float((panel[first].first_N == panel[second].first_N).mean())
            top[row, column] = top[column, row] = same
            value = jensen_shannon(panel[first].logprob_PV, panel[second].logprob_PV)
            divergence[row, column] = divergence[column, row] = value
    return CandidateAgreement(
        names=tuple(names),
        same_first_choice=_rows(top),
        jensen_shannon_nats=_rows(divergence),
        num_positions=len(panel[names[0]].first_N),
        num_distributions=len(panel[names[0]].logprob_PV),
    )


def _rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


def jensen_shannon(first_PV: NDArray[np.float32], second_PV: NDArray[np.float32]) -> float:
    """Mean over rows of ½·KL(p‖m) + ½·KL(q‖m) with m = (p + q)/2, in nats, from log-probabilities; at most ln 2."""
    total = 0.0
    for start in range(0, len(first_PV), 256):
        p = first_PV[start : start + 256].astype(np.float64)
        q = second_PV[start : start + 256].astype(np.float64)
        middle = np.logaddexp(p, q) - np.log(2.0)
        with np.errstate(invalid="ignore"):
            total += float(0.5 * (np.exp(p) * (p - middle) + np.exp(q) * (q - middle)).sum())
    return max(0.0, total / max(1, len(first_PV)))


def paired_pass(first: NDArray[np.float64], second: NDArray[np.float64], level: float) -> Estimate:
    """pass@k of ``first`` minus that of ``second`` over the same problems, with an interval of the given level."""
    ones = np.ones(len(first))
    return ratio_difference(first - second, ones, np.zeros(len(first), np.int64), level=level)
