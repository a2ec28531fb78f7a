"""Worth by bands of the teacher's entropy, and by copyable against not, from per-token losses of 040's students.

    python experiments/042_entropy/bands.py RUN_FOLDER_OF_040

Writes ``results.json``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from stillroom.files import write_json
from stillroom.results.statistics import RESAMPLES, drawn_counts
from stillroom.results.worth import Measured, ReadOff, worth, worth_ratio
from stillroom.types import UserError

HERE = Path(__file__).parent
BANDS, SEQUENCES, BATCH = 8, 1280, 64
RUNGS = {
    "spt_sixteenth": 1 / 16,
    "spt_eighth": 1 / 8,
    "spt_quarter": 1 / 4,
    "spt_half": 1 / 2,
    "spt": 1.0,
    "spt2x": 2.0,
}
ARMS = {"dpt90_half": 0.5, "dpt90_all": 1.0}
Cells = NDArray[np.float64]
"""Mean loss (2, BANDS) of targets that are not copyable and that are, by band."""


@dataclass(frozen=True)
class Bands:
    """Which band every target is in, and whether it is copyable; both of all targets in order, (N,)."""

    band_N: NDArray[np.int64]
    copyable_N: NDArray[np.bool_]
    edges: NDArray[np.float64]

    def means(self, loss_N: NDArray[np.float64]) -> Cells:
        """Mean loss of every cell."""
        places = self.copyable_N * BANDS + self.band_N
        sums, counts = (np.bincount(places, weights, 2 * BANDS) for weights in (loss_N, None))
        return (sums / np.maximum(counts, 1)).reshape(2, BANDS)

    def counts(self) -> NDArray[np.int64]:
        """Targets of every cell, (2, BANDS)."""
        return np.bincount(self.copyable_N * BANDS + self.band_N, minlength=2 * BANDS).reshape(2, BANDS)


def bands_of(entropy_N: NDArray[np.float64], copyable_N: NDArray[np.bool_]) -> Bands:
    """Bands with equally many targets."""
    edges = np.quantile(entropy_N, np.linspace(0, 1, BANDS + 1))
    band_N = np.clip(np.searchsorted(edges[1:-1], entropy_N, side="right"), 0, BANDS - 1)
    return Bands(band_N.astype(np.int64), copyable_N, edges)


def measure(run: Path) -> tuple[Bands, dict[str, dict[int, Cells]]]:
    """The bands, and every student's mean losses by arm and seed."""
    from stillroom.analysis.loss_comparison import batch_entropies, batch_losses
    from stillroom.corpora import open_corpus
    from stillroom.models import load_model
    from stillroom.objectives import copyable
    from stillroom.types import IGNORE_INDEX

    corpus = open_corpus(run)
    starts = range(0, min(SEQUENCES, len(corpus.heldout)), BATCH)
    batches = [corpus.heldout.batch(range(start, min(start + BATCH, len(corpus.heldout)))) for start in starts]
    counted = [(batch.targets_BT != IGNORE_INDEX).numpy() for batch in batches]

    def flat(values: list[Any]) -> NDArray[Any]:
        return np.concatenate([value.numpy()[mask] for value, mask in zip(values, counted, strict=True)])

    teacher = load_model(run / "models/teacher/model")
    entropy_N = flat([batch_entropies(teacher, batch, isolate=corpus.isolate) for batch in batches]).astype(np.float64)
    bands = bands_of(entropy_N, flat([copyable(batch) for batch in batches]))
    found: dict[str, dict[int, Cells]] = {}
    for folder in sorted((run / "models").glob("*-s*")):
        arm, seed = re.fullmatch(r"(.+)-s(\d+)", folder.name).groups()  # type: ignore[union-attr]
        if arm in RUNGS or arm in ARMS:
            model = load_model(folder / "model")
            losses = flat([batch_losses(model, batch, isolate=corpus.isolate) for batch in batches])
            found.setdefault(arm, {})[int(seed)] = bands.means(losses.astype(np.float64))
            print(folder.name, flush=True)
    return bands, found


def read_off(found: Mapping[str, Mapping[int, Cells]], arm: str, rows: slice, bands: slice, weights: Cells) -> ReadOff:
    """Ladder and arm by the mean loss of some cells."""

    def measured(name: str, part: float) -> Measured:
        inside = weights[rows, bands]
        values = {
            seed: float((cells[rows, bands] * inside).sum() / inside.sum()) for seed, cells in found[name].items()
        }
        return Measured(part, values)

    return ReadOff([measured(name, part) for name, part in RUNGS.items()], measured(arm, ARMS[arm]), False)


def rises(
    found: Mapping[str, Mapping[int, Cells]], arm: str, weights: Cells, resamples: int = RESAMPLES // 10
) -> dict[str, float]:
    """Spearman's correlation of the multiplier with the band, and how often it is above 0 over resampled seeds."""
    seeds = sorted(found[arm])
    draws_RU = drawn_counts(np.random.default_rng(0), len(seeds), resamples)

    def correlation(counts_U: NDArray[Any]) -> float:
        mean = {name: {0: sum(n * one[seed] for n, seed in zip(counts_U, seeds, strict=True)) / counts_U.sum()}
                for name, one in found.items()}  # fmt: skip
        doubled = {name: {0: cells[0], 1: cells[0]} for name, cells in mean.items()}
        values = []
        for band in range(BANDS):
            one = read_off(doubled, arm, slice(None), slice(band, band + 1), weights)
            answer = worth(one.ladder, one.arm, higher_is_better=False, over="seeds", resamples=2)
            ends = {"above": answer.most, "below": answer.least, "flat": 1.0}
            values.append(answer.value if answer.value is not None else ends[answer.why])
        rank: Any = spearmanr(range(BANDS), values)
        return float(rank.statistic)

    drawn = [correlation(counts_U) for counts_U in draws_RU]
    return {"value": correlation(np.ones(len(seeds), int)), "share_above_0": float(np.mean(np.array(drawn) > 0))}


def worth_by_band(found: Mapping[str, Mapping[int, Cells]], arm: str, rows: slice, weights: Cells) -> list[dict]:
    """The multiplier of every band."""
    made = []
    for band in range(BANDS):
        one = read_off(found, arm, rows, slice(band, band + 1), weights)
        made.append(worth(one.ladder, one.arm, higher_is_better=False, over="seeds").as_dict())
    return made


def crossing(multipliers: list[dict]) -> int | None:
    """The lowest band from which on every interval is above 1."""
    above = [(one["low"] or 0) > 1 for one in multipliers]
    return next((band for band in range(BANDS) if all(above[band:])), None)


def main(run: Path) -> None:
    """Writes ``results.json``."""
    bands, found = measure(run)
    weights, rows = bands.counts().astype(np.float64), {"all": slice(None), "new": slice(0, 1), "copyable": slice(1, 2)}
    made: dict[str, Any] = {"edges": bands.edges.tolist(), "targets": bands.counts().tolist(), "arms": {}}
    for arm in ARMS:
        multipliers = {name: worth_by_band(found, arm, places, weights) for name, places in rows.items()}
        lower = slice(0, BANDS // 2)
        both = [read_off(found, arm, rows[name], lower, weights) for name in ("copyable", "new")]
        try:
            blur: Any = worth_ratio(*both).as_dict()
        except UserError as error:
            blur = {"why": str(error)}
        made["arms"][arm] = {
            "worth": multipliers, "rises": rises(found, arm, weights), "crosses": crossing(multipliers["all"]),
            "copyable_over_new": blur,
            "means": {name: {str(seed): cells.tolist() for seed, cells in found[name].items()} for name in (arm,)},
        }  # fmt: skip
    made["ladder"] = {name: {str(s): cells.tolist() for s, cells in found[name].items()} for name in RUNGS}
    write_json(HERE / "results.json", made)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the finished run folder of study 040")
    main(parser.parse_args().run)
