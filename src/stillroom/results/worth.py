"""What a soft label is worth: how much hard-label text gives the value that a distilled student has, over its own text.

With M(D) the measure of students of hard labels on D tokens, a student with the value m on d tokens has the **data
multiplier** M⁻¹(m) / d: 1.6 says that each of its tokens did what 1.6 hard-label tokens do. M is a monotone curve
through a ladder of such students, isotonic and then PCHIP in log tokens (Fritsch and Butland 1984), and never reaches
beyond the ladder: a better value than its last rung's is "more than", and says no number. The same with FLOPs in the
place of tokens is the **compute multiplier**.

Letters: U units (training seeds, or items of one seed), J rungs of the ladder, R resamples. Imports no torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.stats import t as student

from stillroom.results.schema import Worth
from stillroom.results.statistics import RESAMPLES, drawn_counts
from stillroom.types import Estimate, UserError

_HALVINGS = 45
"""Bisections of one rung's width: to the last bits of a float64 logarithm."""
_FAR = 0.4
"""Part of the whole range of a measure that separates two groups of seeds."""
_TIGHT = 4.0
"""How many times wider than the spread inside them the gap between two groups is."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One arm: how much text (tokens) or work (FLOPs) each of its models had, and what was measured on it.

    ``values`` is one number for each training seed, by seed; or, for one seed, the numerator of each evaluation item by
    its place, with ``weights`` the denominators (bytes, tokens), 1 where they are None. Arms that share seeds, or
    items, are resampled together.
    """

    amount: float
    values: Mapping[int, float]
    weights: Mapping[int, float] | None = None


def worth(
    ladder: Sequence[Measured],
    arm: Measured,
    *,
    higher_is_better: bool,
    over: Literal["seeds", "items"],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Worth:
    """The multiplier of ``arm`` on a ladder of hard-label students, at least two rungs of different amounts.

    The interval draws units with replacement, the same ones for every rung and the arm, and reads the curve anew each
    time. Over items it is the percentile bootstrap. Over a few seeds that is too narrow, so that the draws of the
    logarithm are spread about their value by √(n/(n-1)) · t/z, which makes the interval Student's where the curve is
    straight. A ladder whose ends are not apart (the interval of their difference holds 0) has no exchange rate.
    """
    drawn = _draw(ReadOff(ladder, arm, higher_is_better), over, resamples, seed)
    log_J, value, num = drawn.log_J, drawn.value, drawn.num
    least, most = (math.exp(end) / arm.amount for end in (log_J[0], log_J[-1]))
    if drawn.is_flat:
        return Worth(None, 0.0, math.inf, least, most, num, "flat")
    low, high = (_quantile(drawn.logs_R, share, value, drawn.spread, log_J) for share in (0.025, 0.975))
    low, high = min(math.exp(low) / arm.amount, most), max(math.exp(high) / arm.amount, least)
    if math.isinf(value):
        return Worth(None, low, high, least, most, num, "above" if value > 0 else "below")
    return Worth(math.exp(value) / arm.amount, low, high, least, most, num)


@dataclass(frozen=True)
class ReadOff:
    """What a worth is read off: a ladder and an arm by one measure, and which direction of it is better."""

    ladder: Sequence[Measured]
    arm: Measured
    higher_is_better: bool


def worth_ratio(
    one: ReadOff,
    other: ReadOff,
    *,
    over: Literal["seeds", "items"] = "seeds",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """How many times more a soft label was worth on one measure than on another: the ratio of their multipliers.

    Both are resampled together, so that units must be the same. A value outside its ladder is taken at the ladder's
    end, which draws the ratio towards 1 and never away from it, unless both are outside.

    Raises:
        UserError: the measures are of different units, or more text does not change one of them.
    """
    first, second = (_draw(asked, over, resamples, seed) for asked in (one, other))
    if first.logs_R.shape != second.logs_R.shape or set(one.arm.values) != set(other.arm.values):
        raise UserError("worth: the two measures are of different seeds or items; give both for the same ones.")
    if first.is_flat or second.is_flat:
        raise UserError("worth: more text does not change one of the measures, so that it has no exchange rate.")
    logs_R = first.inside(first.logs_R) - second.inside(second.logs_R)
    value = float(first.inside(first.value) - second.inside(second.value))
    low, high = (value + first.spread * (float(np.quantile(logs_R, share)) - value) for share in (0.025, 0.975))
    shift = math.log(one.arm.amount) - math.log(other.arm.amount)
    value, low, high = (math.exp(log - shift) for log in (value, low, high))
    return Estimate(value, low, high, first.num)


@dataclass(frozen=True)
class _Drawn:
    """Where an arm's value lies on its ladder, and in every resample, as logarithms of an amount."""

    value: float
    logs_R: Floats
    log_J: Floats
    is_flat: bool
    spread: float
    num: int

    def inside(self, logs: Any) -> Any:
        """Amounts outside the ladder at its end."""
        return np.clip(logs, self.log_J[0], self.log_J[-1])


def _draw(asked: ReadOff, over: Literal["seeds", "items"], resamples: int, seed: int) -> _Drawn:
    rungs = sorted(asked.ladder, key=lambda rung: rung.amount)
    _check(rungs, asked.arm, over)
    top_UJ, bottom_UJ, num = _table([*rungs, asked.arm])
    weights_RU = drawn_counts(np.random.default_rng(seed), len(top_UJ), resamples).astype(np.float64)
    whole_J = _ratios(np.ones((1, len(top_UJ))), top_UJ, bottom_UJ)
    drawn_RJ = _ratios(weights_RU, top_UJ, bottom_UJ)
    spread = _spread(num) if over == "seeds" else 1.0
    sign = 1.0 if asked.higher_is_better else -1.0
    log_J = np.log([rung.amount for rung in rungs])
    rise_R = sign * (drawn_RJ[:, -2] - drawn_RJ[:, 0])
    rise = sign * float(whole_J[0, -2] - whole_J[0, 0])
    is_flat = bool(rise + spread * (np.quantile(rise_R, 0.025) - rise) <= 0)
    value = float(_inverse(log_J, sign * whole_J)[0])
    return _Drawn(value, _inverse(log_J, sign * drawn_RJ), log_J, is_flat, spread, num)


def _check(rungs: Sequence[Measured], arm: Measured, over: str) -> None:
    amounts = [rung.amount for rung in rungs]
    if len(set(amounts)) != len(amounts) or len(amounts) < 2:
        raise UserError(f"ladder: has rungs of {amounts} tokens; expected at least two, all different.")
    for one in (*rungs, arm):
        if over == "seeds" and len(one.values) < 2:
            raise UserError(f"ladder: the arm of {one.amount:g} tokens has one seed; expected two or more, or items.")
        numbers = [one.amount, *one.values.values(), *(one.weights or {}).values()]
        if not one.values or not all(map(math.isfinite, numbers)) or one.amount <= 0:
            raise UserError(
                f"ladder: the arm of {one.amount:g} tokens has a value that is not finite, or none; evaluate it again."
            )


def _table(arms: Sequence[Measured]) -> tuple[Floats, Floats, int]:
    """Numerators and denominators (U, J + 1) of every unit in every arm, 0 where one lacks it; and how many units there
    are in the arm that has fewest.
    """
    units = sorted({unit for one in arms for unit in one.values})
    bottom = [{unit: 1.0 if one.weights is None else one.weights[unit] for unit in one.values} for one in arms]
    top_UJ = np.array([[one.values.get(unit, 0.0) for one in arms] for unit in units])
    bottom_UJ = np.array([[weights.get(unit, 0.0) for weights in bottom] for unit in units])
    return top_UJ, bottom_UJ, min(len(one.values) for one in arms)


def _ratios(weights_RU: Floats, top_UJ: Floats, bottom_UJ: Floats) -> Floats:
    """Sum over sum for every arm, (R, J + 1); draws in which an arm has no unit at all are left out."""
    below_RJ = weights_RU @ bottom_UJ
    kept_R = (below_RJ > 0).all(axis=1)
    return (weights_RU[kept_R] @ top_UJ) / below_RJ[kept_R]


def _spread(num: int) -> float:
    """What the bootstrap of n seeds lacks: the variance's n/(n-1), and Student's t over the normal's 1.96."""
    return math.sqrt(num / (num - 1)) * float(student.ppf(0.975, num - 1)) / 1.959963984540054


def _inverse(log_J: Floats, values_RJ: Floats) -> Floats:
    """Where on each curve the last column's value lies, as the logarithm of an amount, (R,); ±inf outside the ladder.

    ``values_RJ`` rise with better; columns but the last are the rungs. On a level stretch the middle of it is meant.
    """
    rungs_RJ, wanted_R = _isotonic(values_RJ[:, :-1]), values_RJ[:, -1]
    pieces = PchipInterpolator(log_J, rungs_RJ, axis=1).c  # (4, J - 1, R), highest power first
    ends = [_bisect(log_J, rungs_RJ, pieces, wanted_R, after) for after in (False, True)]
    found_R = (ends[0] + ends[1]) / 2
    found_R = np.where(wanted_R > rungs_RJ[:, -1], np.inf, found_R)
    return np.where(wanted_R < rungs_RJ[:, 0], -np.inf, found_R)


def _isotonic(values_RJ: Floats) -> Floats:
    """The closest rising sequence to each row, by the max-min formula (Barlow et al. 1972), equal weights."""
    num = values_RJ.shape[1]
    sums_RJ = np.concatenate([np.zeros((len(values_RJ), 1)), values_RJ.cumsum(axis=1)], axis=1)
    means = {
        (i, k): (sums_RJ[:, k + 1] - sums_RJ[:, i]) / (k + 1 - i) if k > i else values_RJ[:, i]
        for i in range(num)
        for k in range(i, num)
    }
    columns = [
        np.max([np.min([means[i, k] for k in range(j, num)], axis=0) for i in range(j + 1)], axis=0) for j in range(num)
    ]
    return np.stack(columns, axis=1)


def _bisect(log_J: Floats, rungs_RJ: Floats, pieces: Floats, wanted_R: Floats, after: bool) -> Floats:
    """The first place where each curve has its value, or the last one, on the piece that holds it."""
    side = np.less_equal if after else np.less
    piece_R = np.clip(side(rungs_RJ, wanted_R[:, None]).sum(axis=1) - 1, 0, len(log_J) - 2)
    coefficients = pieces[:, piece_R, np.arange(len(wanted_R))]
    low_R, high_R = np.zeros(len(wanted_R)), np.diff(log_J)[piece_R]
    for _ in range(_HALVINGS):
        middle_R = (low_R + high_R) / 2
        value_R = ((coefficients[0] * middle_R + coefficients[1]) * middle_R + coefficients[2]) * middle_R
        below_R = side(value_R + coefficients[3], wanted_R)
        low_R, high_R = np.where(below_R, middle_R, low_R), np.where(below_R, high_R, middle_R)
    return log_J[piece_R] + (low_R + high_R) / 2


def _quantile(logs_R: Floats, share: float, value: float, spread: float, log_J: Floats) -> float:
    """A quantile of the draws spread about ``value``; beyond the ladder it is -inf or inf."""
    end = float(np.quantile(logs_R, share, method="inverted_cdf"))
    if math.isfinite(end) and math.isfinite(value):
        end = value + spread * (end - value) if end != value else end
    return end if log_J[0] <= end <= log_J[-1] else math.copysign(math.inf, end - log_J.mean())


@dataclass(frozen=True)
class Formation:
    """An ability that forms in a jump: a model is past ``threshold`` or not, and a mean over seeds mixes the two.

    ``formed`` has for each arm, in the order given, the seeds that are past it; ``among`` the arms with those alone,
    for a ``worth`` of the level once formed.
    """

    threshold: float
    formed: tuple[tuple[int, ...], ...]
    of: tuple[int, ...]
    among: tuple[Measured, ...]

    def __str__(self) -> str:
        counts = (f"{len(seeds)} of {num}" for seeds, num in zip(self.formed, self.of, strict=True))
        return f"formed in {', '.join(counts)} seeds"


def formation(arms: Sequence[Measured], *, higher_is_better: bool) -> Formation | None:
    """Whether the seeds of some arm lie in two groups far apart; None where none does, or where none has three seeds.

    Two groups: the widest gap between neighbouring seeds of one arm is at least 0.4 of the measure's whole range over
    all arms, and four times the spread inside the groups that it parts.
    """
    everything = [value for one in arms for value in one.values.values()]
    whole = max(everything) - min(everything)
    gaps = [gap for one in arms if len(one.values) > 2 and (gap := _gap(sorted(one.values.values()), whole))]
    if not gaps:
        return None
    threshold = max(gaps)[1]
    formed = tuple(
        tuple(seed for seed, value in one.values.items() if (value > threshold) == higher_is_better) for one in arms
    )
    among = tuple(
        Measured(one.amount, {seed: one.values[seed] for seed in seeds})
        for one, seeds in zip(arms, formed, strict=True)
    )
    return Formation(threshold, formed, tuple(len(one.values) for one in arms), among)


def first_past(values: Mapping[float, float], threshold: float, *, higher_is_better: bool) -> float | None:
    """The least amount of text at which a measure was past a threshold, of those at which it was taken; None for never.

    ``values`` are of one model over its training, by the tokens that it had seen.
    """
    past = [amount for amount, value in values.items() if (value > threshold) == higher_is_better]
    return min(past, default=None)


def _gap(values: Sequence[float], whole: float) -> tuple[float, float] | None:
    """Width and middle of the widest gap where it parts two groups far apart."""
    width, place = max((after - before, place) for place, (before, after) in enumerate(itertools.pairwise(values)))
    groups = (values[: place + 1], values[place + 1 :])
    inside = math.sqrt(sum(float(np.var(group)) * len(group) for group in groups) / max(1, len(values) - 2))
    if width <= 0 or width < _FAR * whole or width < _TIGHT * inside:
        return None
    return width, (values[place] + values[place + 1]) / 2
