"""What the studies of worth work out of their runs: bands, formation and the rules that were written before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stillroom.files import read_json
from stillroom.results.schema import arm_and_seed
from stillroom.study.recipe_files import load_module

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FORMATION = load_module(EXPERIMENTS / "041_capacity/formation.py")
BANDS = load_module(EXPERIMENTS / "042_entropy/bands.py")
ANSWER = load_module(EXPERIMENTS / "040_worth/answer.py")
CAPACITY = load_module(EXPERIMENTS / "041_capacity/answer.py")
OVER_SEEDS = load_module(EXPERIMENTS / "over_seeds.py")
WORTH = load_module(EXPERIMENTS / "worth.py")


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


def copied(early: float, num: int = 10) -> dict:
    """An arm whose every seed but one forms copying at this many tokens, to an accuracy of 0.8 or 0.9."""
    tokens: dict[str, float | None] = {str(seed): early + seed for seed in range(num)}
    return {"tokens": {**tokens, "0": None}, "accuracy": {seed: 0.8 + 0.1 * (early < 10) for seed in tokens}}


def in_context(p: float, statistic: float, dpt: float = 5.0):
    formation = {
        "arms": {"dpt90_all": copied(dpt), "spt": copied(5.0)},
        "log_rank": {name: {"p": p, "statistic": statistic} for name in ("dpt90_over_spt", "copy15_over_dpt90")},
    }
    level = {CAPACITY.COPYING: {"low": 0.1, "high": 0.2}}
    contrasts = {"gain_all": {CAPACITY.COPYING: {"low": -0.1, "high": 0.1}}, "gain_quarter_less_all": level}
    return formation, {**contrasts, "copy15_over_dpt90": level}


@pytest.mark.parametrize(
    ("p", "statistic", "dpt", "costs"),
    [(0.01, -3, 5.0, True), (0.01, 3, 5.0, False), (0.2, -1, 5.0, False), (0.2, -1, 50.0, True)],
)
def test_soft_labels_cost_copying_where_it_forms_later_or_ends_lower(p, statistic, dpt, costs):
    formation, contrasts = in_context(p, statistic, dpt)
    found = CAPACITY.cost(formation, contrasts, "")
    assert found["costs"] == costs and found["fades"]
    assert CAPACITY.repair(formation, contrasts, "", "copy")["repairs"] == costs
    contrasts["copy15_over_dpt90"][ANSWER.TEXT] = {"low": 0.1, "high": 0.2}
    assert not CAPACITY.repair(formation, contrasts, "", "copy")["repairs"]


def test_the_level_once_formed_is_paired_over_the_seeds_that_formed_it_in_both():
    arms = {"dpt90_all": copied(50.0), "spt": copied(5.0)}
    found = CAPACITY.formed_level(arms, "dpt90_all", "spt")
    assert found["num"] == 9 and found["value"] == pytest.approx(-0.1)
    arms["spt"]["tokens"] = dict.fromkeys(arms["spt"]["tokens"])
    assert CAPACITY.formed_level(arms, "dpt90_all", "spt") is None


@pytest.mark.parametrize("study", ["040_worth", "041_capacity"])
def test_freezing_keeps_every_rung_of_the_ladder(study, tmp_path, monkeypatch):
    """A rung in no contrast is still needed to read worth off the ladder."""
    recipe = load_module(EXPERIMENTS / study / "recipe.py")
    arms = {arm for weights in recipe.CONTRASTS.values() for arm in weights} | set(ANSWER.ladder(*recipe.LADDER))
    table = {arm: {seed: {"lm:nats": 1.0 + seed} for seed in range(3)} for arm in {*arms, "another"}}
    monkeypatch.setattr(OVER_SEEDS, "read_runs", lambda runs: (table, {}))
    run = tmp_path / "run"
    run.mkdir()
    (run / "environment.json").write_text("{}")
    OVER_SEEDS.freeze(EXPERIMENTS / study, [run, run], tmp_path)
    assert set(read_json(tmp_path / "results.json")["values"]) == arms


def test_a_study_of_several_runs_is_read_with_the_arms_of_all():
    config = WORTH.configuration(EXPERIMENTS / "041_capacity")
    stems = {arm_and_seed(name)[0] for name in config.arms}
    assert {"spt_eighth", "spt2x", "dpt90_all", "early_copy15_all"} <= stems
    assert len(config.arms) == 10 * len(stems)
    rungs = WORTH.ladder_of(config, list(config.arms)).rungs
    assert list(rungs) == list(ANSWER.ladder(*load_module(EXPERIMENTS / "041_capacity/recipe.py").LADDER))
    assert all(len(models) == 10 for models in rungs.values())
