"""Samples of two models over a sweep of temperatures: compared at like temperature and at like diversity.

Letters: P problems, T temperatures, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillroom.results.coverage import at_level, entropy_nats, pass_at_k
from stillroom.results.intervals import corrected
from stillroom.results.json_form import read_lines
from stillroom.results.schema import Difference, SampleDifferences, SampledProblem
from stillroom.results.statistics import RESAMPLES, drawn_counts, paired_difference, percentile_estimate
from stillroom.types import UserError


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
    def of(cls, records: Sequence[SampledProblem]) -> Sweep:
        """From the records of one evaluation; problems in the order of their text."""
        temperatures = sorted({record.temperature for record in records})
        by_place = {(record.temperature, record.prompt): record for record in records}
        prompts = sorted({record.prompt for record in records})
        if len(by_place) != len(temperatures) * len(prompts):
            raise UserError("samples: not every problem was sampled at every temperature; evaluate the model again.")
        rows = [[by_place[heat, prompt] for prompt in prompts] for heat in temperatures]
        return cls(
            tuple(prompts),
            tuple(temperatures),
            np.array([[len(one.answers) for one in row] for row in rows]),
            np.array([[one.num_right for one in row] for row in rows]),
            np.array([[entropy_nats(one.votes) for one in row] for row in rows]),
            np.array([[one.num_different for one in row] for row in rows]),
        )

    @property
    def fewest(self) -> int:
        """The smallest number of samples of a problem: pass@k is known up to this k."""
        return int(self.num_TP.min())

    def passed(self, k: int) -> NDArray[np.float64]:
        """pass@k of every problem at every temperature, (T, P)."""
        return pass_at_k(self.num_TP, self.correct_TP, k)

    def frontier(self, ks: Sequence[int] = (1, 16)) -> tuple[dict[str, float], ...]:
        """Temperature, mean answer entropy and pass@k for the k that there are samples for, by temperature."""
        passed = {k: self.passed(k).mean(axis=1) for k in ks if k <= self.fewest}
        return tuple(
            {"temperature": heat, "answer_entropy_nats": float(self.entropy_TP[place].mean())}
            | {f"pass_at_{k}": float(means[place]) for k, means in passed.items()}
            for place, heat in enumerate(self.temperatures)
        )


def read_sweep(folder: Path) -> Sweep | None:
    """The samples of an evaluation; None where it has none."""
    file = folder / "samples.jsonl"
    records = read_lines(SampledProblem, file) if file.exists() else ()
    return Sweep.of(records) if records else None


def compare_sweeps(first: Sweep, second: Sweep, ks: Sequence[int], *, seed: int = 0) -> SampleDifferences:
    """pass@k of the first model minus that of the second, over the same problems.

    ``temperature_matched``: at every temperature that both have, problem by problem, with the p-value of a sign-flip
    test (``paired_difference``), and ``p_holm``, corrected for all temperatures and k. ``entropy_matched``: where both
    sweeps have the same mean answer entropy, so that what is compared is not just how hot the samples are; see
    ``entropy_matched``.
    """
    if first.prompts != second.prompts:
        raise UserError("samples: the two models did not solve the same problems; evaluate both in one call.")
    ks = [k for k in ks if k <= min(first.fewest, second.fewest)]
    tested: dict[tuple[float, int], Difference] = {}
    shared = [heat for heat in first.temperatures if heat in second.temperatures]
    for heat in shared:
        one, other = first.temperatures.index(heat), second.temperatures.index(heat)
        for k in ks:
            tested[heat, k] = paired_difference(first.passed(k)[one], second.passed(k)[other], seed=seed)
    tested = dict(zip(tested, corrected(tested.values()), strict=True))
    return SampleDifferences(
        temperature_matched={heat: {k: tested[heat, k] for k in ks} for heat in shared},
        entropy_matched={k: entropy_matched(first, second, k, seed=seed) for k in ks},
    )


def entropy_matched(
    first: Sweep, second: Sweep, k: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> Difference | None:
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
    weights_RP = drawn_counts(np.random.default_rng(seed), num, resamples) / num
    drawn_R = _read_at(first, k, level, weights_RP) - _read_at(second, k, level, weights_RP)
    found = percentile_estimate(values[0] - values[1], drawn_R, num)
    return replace(Difference.of(found), entropy_nats=level)


def _read_at(sweep: Sweep, k: int, level: float, weights_RP: NDArray[np.float64]) -> NDArray[np.float64]:
    entropy_RT, passed_RT = weights_RP @ sweep.entropy_TP.T, weights_RP @ sweep.passed(k).T
    order_RT = entropy_RT.argsort(axis=1, kind="stable")
    entropy_RT = np.take_along_axis(entropy_RT, order_RT, axis=1)
    passed_RT = np.take_along_axis(passed_RT, order_RT, axis=1)
    return np.array([np.interp(level, x, y) for x, y in zip(entropy_RT, passed_RT, strict=True)])
