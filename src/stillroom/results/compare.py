"""Whether one model does better than another on the same items: at like temperature, at like diversity, over seeds.

Letters: P problems, T temperatures, S seeds (models of one arm), R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stillroom.results.coverage import at_level, entropy_nats, pass_at_k
from stillroom.results.statistics import RESAMPLES, holm, paired_difference
from stillroom.types import Estimate, UserError

Record = Mapping[str, Any]
"""A line of ``samples.jsonl``."""


@dataclass(frozen=True)
class Sweep:
    """One model's samples over a sweep of temperatures, problem by problem."""

    prompts: tuple[str, ...]
    temperatures: tuple[float, ...]
    num_TP: NDArray[np.int64]
    correct_TP: NDArray[np.int64]
    entropy_TP: NDArray[np.float64]
    """Entropy of the answers of each problem, nats."""
    right_TP: NDArray[np.int64]
    """Different right answers of each problem."""

    @classmethod
    def of(cls, records: Sequence[Record]) -> Sweep:
        """From the records of one evaluation; problems in the order of their text."""
        temperatures = sorted({float(record["temperature"]) for record in records})
        by_place = {(record["temperature"], record["prompt"]): record for record in records}
        prompts = sorted({str(record["prompt"]) for record in records})
        if len(by_place) != len(temperatures) * len(prompts):
            raise UserError("samples: not every problem was sampled at every temperature; evaluate the model again.")
        rows = [[by_place[heat, prompt] for prompt in prompts] for heat in temperatures]
        answers = [[record["answers"] for record in row] for row in rows]
        return cls(
            tuple(prompts),
            tuple(temperatures),
            np.array([[len(one) for one in row] for row in answers]),
            np.array([[sum(answer is not None for answer in one) for one in row] for row in answers]),
            np.array([[_entropy(record) for record in row] for row in rows]),
            np.array([[len({answer for answer in one if answer is not None}) for one in row] for row in answers]),
        )

    def passed(self, k: int) -> NDArray[np.float64]:
        """pass@k of every problem at every temperature, (T, P)."""
        return pass_at_k(self.num_TP, self.correct_TP, k)

    def frontier(self, ks: Sequence[int] = (1, 16)) -> list[dict[str, float]]:
        """Temperature, mean answer entropy and pass@k for the k that there are samples for, by temperature."""
        known = [k for k in ks if k <= self.num_TP.min()]
        passed = {k: self.passed(k).mean(axis=1) for k in known}
        return [
            {"temperature": heat, "answer_entropy_nats": float(self.entropy_TP[place].mean())}
            | {f"pass_at_{k}": float(passed[k][place]) for k in known}
            for place, heat in enumerate(self.temperatures)
        ]


def _entropy(record: Record) -> float:
    return entropy_nats(
        ("wrong", text.strip()) if answer is None else ("right", answer)
        for text, answer in zip(record["completions"], record["answers"], strict=True)
    )


def compare_sweeps(first: Sweep, second: Sweep, ks: Sequence[int], *, seed: int = 0) -> dict[str, Any]:
    """pass@k of the first model minus that of the second, over the same problems.

    ``temperature_matched``: at every temperature that both have, problem by problem, with the p-value of a sign-flip
    test (``paired_difference``), and ``p_holm``, corrected for all temperatures and k. ``entropy_matched``: where both
    sweeps have the same mean answer entropy, so that what is compared is not just how hot the samples are; see
    ``entropy_matched``.
    """
    if first.prompts != second.prompts:
        raise UserError("samples: the two models did not solve the same problems; evaluate both in one call.")
    ks = [k for k in ks if k <= min(first.num_TP.min(), second.num_TP.min())]
    matched: dict[str, dict[str, Any]] = {}
    for place, heat in enumerate(first.temperatures):
        if heat not in second.temperatures:
            continue
        other = second.temperatures.index(heat)
        tests = {k: paired_difference(first.passed(k)[place], second.passed(k)[other], seed=seed) for k in ks}
        matched[f"{heat:g}"] = {str(k): difference.as_dict() | {"p_value": p} for k, (difference, p) in tests.items()}
    _correct([cell for cells in matched.values() for cell in cells.values()])
    return {
        "temperature_matched": matched,
        "entropy_matched": {str(k): entropy_matched(first, second, k, seed=seed) for k in ks},
    }


def entropy_matched(
    first: Sweep, second: Sweep, k: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Any] | None:
    """pass@k of the first minus the second at one mean answer entropy, the middle of what both sweeps cover.

    Each sweep is a curve of pass@k over entropy, read between its temperatures by straight lines. The interval is from
    drawing problems anew, each with all its temperatures; a drawn curve that ends short of the level is read at its
    end. None where a sweep has one temperature or the two cover no entropy in common.
    """
    ranges = [one.entropy_TP.mean(axis=1) for one in (first, second)]
    low, high = max(means.min() for means in ranges), min(means.max() for means in ranges)
    if low >= high:
        return None
    level = float((low + high) / 2)
    values = [at_level(one.entropy_TP.mean(axis=1), one.passed(k).mean(axis=1), level) for one in (first, second)]
    assert values[0] is not None and values[1] is not None  # the level lies within both
    num = len(first.prompts)
    weights_RP = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=resamples) / num
    drawn = _read_at(first, k, level, weights_RP) - _read_at(second, k, level, weights_RP)
    interval = np.quantile(drawn, (0.025, 0.975))
    difference = Estimate(values[0] - values[1], float(interval[0]), float(interval[1]), num)
    return difference.as_dict() | {"entropy_nats": level}


def _read_at(sweep: Sweep, k: int, level: float, weights_RP: NDArray[np.float64]) -> NDArray[np.float64]:
    entropy_RT, passed_RT = weights_RP @ sweep.entropy_TP.T, weights_RP @ sweep.passed(k).T
    order_RT = entropy_RT.argsort(axis=1, kind="stable")
    entropy_RT = np.take_along_axis(entropy_RT, order_RT, axis=1)
    passed_RT = np.take_along_axis(passed_RT, order_RT, axis=1)
    return np.array([np.interp(level, x, y) for x, y in zip(entropy_RT, passed_RT, strict=True)])


def mean_over_seeds(values_SP: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean over seeds and problems, with the interval from drawing both anew.

    Seeds and problems are crossed: every seed's model solved every problem. Each resample draws S seeds and P problems
    with replacement, so that the interval covers another training run as well as other problems; with few seeds it is
    too narrow (Owen 2007 bounds by how much), and with one it says nothing of seeds. ``num`` is the number of seeds.
    """
    values = _two_dimensional(values_SP)
    seeds_RS, problems_RP = _weights(values, seed, resamples)
    return _estimate(float(values.mean()), ((seeds_RS @ values) * problems_RP).sum(axis=1), len(values))


def difference_over_seeds(
    first_SP: ArrayLike, second_SP: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """The mean of one arm minus that of another over the same problems, each arm with seeds of its own.

    Problems are drawn anew together for both arms, seeds for each arm alone; see ``mean_over_seeds``.
    """
    first, second = _two_dimensional(first_SP), _two_dimensional(second_SP)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"both arms need the same problems, found {first.shape[1]} and {second.shape[1]}")
    firsts_RS, problems_RP = _weights(first, seed, resamples)
    seconds_RS, _ = _weights(second, seed + 1, resamples)
    drawn_R = ((firsts_RS @ first - seconds_RS @ second) * problems_RP).sum(axis=1)
    return _estimate(float(first.mean() - second.mean()), drawn_R, min(len(first), len(second)))


def _two_dimensional(values_SP: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(values_SP, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values are (seeds, problems), found shape {values.shape}")
    return values


def _weights(
    values_SP: NDArray[np.float64], seed: int, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each seed and each problem is drawn, as shares: (R, S) and (R, P)."""
    num_seeds, num_problems = values_SP.shape
    rng = np.random.default_rng([seed, num_seeds])
    seeds_RS = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=resamples) / num_seeds
    rng = np.random.default_rng([seed, 0, num_problems])
    problems_RP = rng.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=resamples) / num_problems
    return seeds_RS, problems_RP


def _estimate(value: float, drawn_R: NDArray[np.float64], num: int) -> Estimate:
    low, high = np.quantile(drawn_R, (0.025, 0.975))
    return Estimate(value, float(low), float(high), num)


PER_ITEM = (
    ("lm", "bits_per_byte"),
    ("lm", "nats_per_token"),
    ("counterfactual", "follows_context"),
    ("counterfactual", "log_odds"),
    ("copying", "icl_score"),
    ("copying", "loss_repeat"),
    ("copying", "order_repeat"),
    ("recall", "accuracy"),
    ("recall", "loss_repeat"),
    ("induction", "accuracy"),
    ("needle", "accuracy"),
    ("needle", "margin_nats"),
    ("context", "accuracy"),
    ("context", "margin_nats"),
)
"""Parts of an evaluation that keep a number for every item, and the measures that they keep it of."""


def compare_items(first: Mapping[str, Any], second: Mapping[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """First minus second, item by item, of every measure of ``PER_ITEM`` that both evaluations hold.

    Each has the p-value of a sign-flip test (``paired_difference``), and ``p_holm``, corrected for all the measures
    that are compared here (Holm 1979). Items weigh as in the measure itself: a document by its bytes.
    """
    made: dict[str, Any] = {}
    for part, measure in PER_ITEM:
        parts = [one.get(part, {}) for one in (first, second)]
        values = [one.get("per_item", {}).get(measure) for one in parts]
        weights = [one.get("per_item_weights", {}).get(measure) for one in parts]
        if not _are_paired(values) or weights[0] != weights[1]:
            continue
        difference, p_value = paired_difference(values[0], values[1], weights=weights[0], seed=seed)
        made.setdefault(part, {})[measure] = difference.as_dict() | {"p_value": p_value}
    _correct([cell for cells in made.values() for cell in cells.values()])
    return made


def _are_paired(values: Sequence[Sequence[float | None] | None]) -> bool:
    """Whether both have a number for each of the same items."""
    first, second = values
    if first is None or second is None or len(first) != len(second):
        return False
    return None not in first and None not in second


def _correct(cells: Sequence[dict[str, Any]]) -> None:
    """Adds to every tested difference its p-value among all of them."""
    for cell, p_value in zip(cells, holm([cell["p_value"] for cell in cells]), strict=True):
        cell["p_holm"] = p_value
