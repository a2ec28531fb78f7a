"""What the studies of worth work out of their runs: bands, formation and the rules that were written before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stillroom.study.recipe_files import load_module

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FORMATION = load_module(EXPERIMENTS / "041_capacity/formation.py")
BANDS = load_module(EXPERIMENTS / "042_entropy/bands.py")
ANSWER = load_module(EXPERIMENTS / "040_worth/answer.py")


def formed(*tokens: int | None):
    return [FORMATION.Formed(one or 10_000, one is not None, 0.0 if one is None else 0.9) for one in tokens]


@pytest.mark.parametrize(
    ("accuracies", "tokens", "is_formed"),
    [
        ({1: 0.1, 2: 0.49, 3: 0.5, 4: 0.9}, 3000, True),
        ({4: 0.9, 2: 0.7, 1: 0.1}, 2000, True),
        ({1: 0.1, 4: 0.3}, 4000, False),
    ],
)
def test_copying_forms_at_the_first_checkpoint_that_copies(accuracies, tokens, is_formed):
    found = FORMATION.first_copying(accuracies, 1000)
    assert (found.tokens, found.is_formed) == (tokens, is_formed)


def test_the_log_rank_test_tells_early_from_late_and_counts_those_that_never_form():
    early, late = formed(1000, 1200, 1400, 1100, 1300), formed(5000, 6000, None, None, 7000)
    assert FORMATION.log_rank(early, late)["p"] < 0.01
    assert FORMATION.log_rank(early, early)["p"] == pytest.approx(1.0)
    assert FORMATION.log_rank(formed(None, None), formed(None, None))["p"] is None


def test_bands_hold_equally_many_targets_and_means_are_those_of_their_cells():
    rng = np.random.default_rng(0)
    entropy, copyable, loss = rng.random(8000), rng.random(8000) < 0.3, rng.random(8000)
    bands = BANDS.bands_of(entropy, copyable)
    counts = bands.counts()
    assert counts.sum(axis=0).tolist() == [1000] * BANDS.BANDS
    assert counts.sum() == 8000 and counts[1].sum() == copyable.sum()
    assert entropy[bands.band_N == 0].max() < entropy[bands.band_N == 1].min()
    inside = (bands.band_N == 3) & copyable
    assert bands.means(loss)[1, 3] == pytest.approx(loss[inside].mean())


def cells(multipliers: list[float], seeds: int = 5) -> dict[str, dict[int, np.ndarray]]:
    """Students whose loss follows one law in every band, and whose soft labels are worth these in the bands."""
    rng, found = np.random.default_rng(1), {}

    def law(amount, bands):
        return np.array([[(amount * worth) ** -0.3 for worth in bands]] * 2)

    for name, part in {**BANDS.RUNGS, **BANDS.ARMS}.items():
        bands = multipliers if name in BANDS.ARMS else [1.0] * BANDS.BANDS
        found[name] = {seed: law(part, bands) + 0.001 * rng.standard_normal((2, BANDS.BANDS)) for seed in range(seeds)}
    return found


def test_worth_by_band_is_recovered_and_its_rise_is_seen():
    wanted = [0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8]
    found, weights = cells(wanted), np.ones((2, BANDS.BANDS))
    multipliers = BANDS.worth_by_band(found, "dpt90_half", slice(None), weights)
    assert [one["value"] for one in multipliers] == pytest.approx(wanted, rel=0.05)
    assert BANDS.crossing(multipliers) == 4
    rise = BANDS.rises(found, "dpt90_half", weights, resamples=100)
    assert rise["value"] == pytest.approx(1.0) and rise["share_above_0"] > 0.99
    flat = BANDS.rises(cells([1.2] * BANDS.BANDS), "dpt90_half", weights, resamples=100)
    assert flat["share_above_0"] < 0.99
    assert BANDS.crossing([{"low": 1.2}] * 7 + [{"low": None}]) is None


def answers(text: float, samples: float, copying: float):
    """Frozen values in which soft labels are worth these; the arm that is asked for is half of the text."""
    rng, values = np.random.default_rng(2), {}
    for name, one in {**ANSWER.ladder(*ANSWER.RECIPE.LADDER), **ANSWER.RECIPE.ARMS}.items():
        values[name] = {}
        for seed in range(5, 10):
            worths = {ANSWER.TEXT: text, ANSWER.SAMPLES: samples, ANSWER.ANSWERS: samples, ANSWER.COPYING: copying}
            values[name][str(seed)] = {
                measure: (-1 if ANSWER.BETTER_HIGHER[measure] else 1)
                * ((one.data * (worth if one.alpha else 1.0)) ** -0.3 + 0.002 * rng.standard_normal())
                for measure, worth in worths.items()
            }
    worths = {
        "abilities": [
            {"key": measure, "arms": {"dpt90_half": {"data": {"low": worth - 0.1, "high": worth + 0.1}}}}
            for measure, worth in {ANSWER.TEXT: text, ANSWER.SAMPLES: samples, ANSWER.ANSWERS: samples}.items()
        ]
    }
    return ANSWER.trade_off(values, worths, "half")


def test_the_trade_off_is_found_where_samples_gain_more_than_copying():
    found = answers(1.6, 2.0, 1.0)
    assert found["found"] and found["pass_16_over_copying"]["value"] == pytest.approx(2.0, rel=0.05)
    assert found["twice"] == [ANSWER.SAMPLES, ANSWER.ANSWERS]
    assert not answers(1.6, 1.6, 1.6)["found"]
    assert not answers(0.9, 2.0, 1.0)["found"]


def test_routing_is_worth_it_where_copying_gains_and_nothing_is_lost():
    level = {measure: {"low": -0.1, "high": 0.1} for measure in ANSWER.PAIRED}
    contrast = {**level, "copying:accuracy_repeat": {"low": 0.1, "high": 0.2}}
    assert ANSWER.routing({"copy15_over_dpt90_all": contrast}, "copy", "all")["worth_it"]
    worse = {**contrast, ANSWER.TEXT: {"low": 0.1, "high": 0.2}}  # bits per byte: higher is worse
    assert ANSWER.routing({"copy15_over_dpt90_all": worse}, "copy", "all")["lost"] == [ANSWER.TEXT]
    contrast["copying:accuracy_repeat"] = {"low": -0.1, "high": 0.2}
    assert not ANSWER.routing({"copy15_over_dpt90_all": contrast}, "copy", "all")["worth_it"]
