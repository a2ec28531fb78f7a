"""The data multiplier: known ones are recovered, and what the ladder cannot tell is not told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.results.worth import Measured, ReadOff, _inverse, _isotonic, formation, worth, worth_ratio
from stillroom.types import UserError

HUNDREDTHS = st.integers(-300, 300).map(lambda number: number / 100)
LADDER = (1e5, 2e5, 4e5, 8e5, 1.6e6)


def law(tokens: float) -> float:
    """Nats per token of a synthetic student of hard labels."""
    return 1.0 + 3.0 * (tokens / 1e5) ** -0.35


def by_seed(values) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values)}


def exact(multiplier: float, tokens: float = 4e5, sign: float = 1.0) -> tuple[list[Measured], Measured]:
    """A ladder and an arm without noise, each of two equal seeds."""
    ladder = [Measured(amount, by_seed([sign * law(amount)] * 2)) for amount in LADDER]
    return ladder, Measured(tokens, by_seed([sign * law(tokens * multiplier)] * 2))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("multiplier", [0.25, 0.6, 1.0, 1.5, 2.0, 3.9])
def test_a_known_multiplier_is_recovered_in_either_direction(multiplier, sign):
    ladder, arm = exact(multiplier, sign=sign)
    found = worth(ladder, arm, higher_is_better=sign < 0, over="seeds")
    assert found.value == pytest.approx(multiplier, rel=0.02) and found.why == ""
    assert worth(ladder[::-1], arm, higher_is_better=sign < 0, over="seeds") == found


@pytest.mark.parametrize(("multiplier", "why", "text"), [(4.5, "above", "> 4"), (0.2, "below", "< 0.25")])
def test_a_value_outside_the_ladder_is_censored_and_never_extrapolated(multiplier, why, text):
    ladder, arm = exact(multiplier)
    found = worth(ladder, arm, higher_is_better=False, over="seeds")
    assert found.value is None and found.why == why and str(found) == text
    written = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(written)["high" if why == "above" else "low"] is None


def test_the_last_rung_itself_is_inside():
    ladder, arm = exact(4.0)
    assert worth(ladder, arm, higher_is_better=False, over="seeds").value == pytest.approx(4.0)


def test_a_flat_ladder_has_no_exchange_rate():
    rng = np.random.default_rng(0)
    ladder = [Measured(amount, by_seed(2 + 0.1 * rng.standard_normal(5))) for amount in LADDER]
    found = worth(
        ladder, Measured(4e5, by_seed(2 + 0.1 * rng.standard_normal(5))), higher_is_better=False, over="seeds"
    )
    assert (found.value, found.why) == (None, "flat") and "no exchange rate" in str(found)


@pytest.mark.parametrize("sigma", [0.01, 0.04])
def test_intervals_over_five_seeds_hold_the_truth_as_often_as_they_say(sigma):
    rng, held = np.random.default_rng(1), 0
    for draw in range(1000):
        ladder = [Measured(a, by_seed(law(a) + sigma * rng.standard_normal(5))) for a in LADDER]
        arm = Measured(4e5, by_seed(law(4e5 * 1.7) + sigma * rng.standard_normal(5)))
        found = worth(ladder, arm, higher_is_better=False, over="seeds", resamples=400, seed=draw)
        held += found.low <= 1.7 <= found.high
    assert 920 <= held <= 980


def test_intervals_over_items_hold_the_truth_as_often_as_they_say():
    rng, held = np.random.default_rng(2), 0
    for draw in range(500):
        length = rng.integers(50, 150, 120).astype(float)
        harder = 0.3 * rng.standard_normal(120)  # an item is hard for every model: pairing takes it away

        def items(amount, value, length=length, harder=harder):
            nats = length * (value + harder + 0.1 * rng.standard_normal(120))
            return Measured(amount, by_seed(nats), by_seed(length))

        arm = items(4e5, law(4e5 * 1.7))
        found = worth(
            [items(a, law(a)) for a in LADDER], arm, higher_is_better=False, over="items", resamples=300, seed=draw
        )
        held += found.low <= 1.7 <= found.high
    assert 460 <= held <= 490


def test_seeds_that_an_arm_lacks_are_done_without():
    ladder, arm = exact(1.5)
    whole = worth(ladder, arm, higher_is_better=False, over="seeds")
    part = [
        Measured(one.amount, {seed + place % 2: value for seed, value in one.values.items()})
        for place, one in enumerate(ladder)
    ]
    found = worth(part, arm, higher_is_better=False, over="seeds")
    assert found.value == whole.value and found.num == 2


@settings(max_examples=60, deadline=None)
@given(st.lists(HUNDREDTHS, min_size=3, max_size=7), HUNDREDTHS, st.floats(0.01, 1))
def test_a_better_value_is_never_worth_less(values, wanted, more):
    log_J = np.arange(len(values), dtype=float)
    rows = np.array([[*values, wanted], [*values, wanted + more]])
    first, second = _inverse(log_J, rows)
    assert first <= second + 1e-9
    for end in (first, second):
        assert math.isinf(end) or log_J[0] <= end <= log_J[-1] + 1e-9


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8))
def test_the_isotonic_fit_is_that_of_scipy(values):
    from scipy.optimize import isotonic_regression

    assert _isotonic(np.array([values]))[0] == pytest.approx(isotonic_regression(values).x, abs=1e-9)


def test_the_curve_is_pchip_through_the_isotonic_rungs():
    from scipy.interpolate import PchipInterpolator

    rungs = [1.0, 1.75, 1.25, 2.5]  # whose mean is exact
    log_J = np.log([1.0, 2.0, 4.0, 8.0])
    place = _inverse(log_J, np.array([[*rungs, 2.2]]))[0]
    assert PchipInterpolator(log_J, [1.0, 1.5, 1.5, 2.5])(place) == pytest.approx(2.2)
    level = _inverse(log_J, np.array([[*rungs, 1.5]]))[0]
    assert level == pytest.approx(np.log([2.0, 4.0]).mean())  # the middle of the level stretch


def test_an_ability_that_forms_in_a_jump_has_no_mean():
    rng = np.random.default_rng(3)
    formed = [0, 1, 3, 5, 5]
    arms = [
        Measured(amount, by_seed([(0.78 if seed < num else 2.0) + 0.02 * rng.standard_normal() for seed in range(5)]))
        for amount, num in zip(LADDER, formed, strict=True)
    ]
    found = formation(arms, higher_is_better=False)
    assert found is not None and [len(seeds) for seeds in found.formed] == formed
    assert [set(one.values) for one in found.among] == [set(range(num)) for num in formed]
    assert str(found) == "formed in 0 of 5, 1 of 5, 3 of 5, 5 of 5, 5 of 5 seeds"
    smooth = [Measured(a, by_seed(law(a) + 0.04 * rng.standard_normal(5))) for a in LADDER]
    assert formation(smooth, higher_is_better=False) is None
    noise = [Measured(a, by_seed(rng.standard_normal(5))) for a in LADDER]
    assert formation(noise, higher_is_better=False) is None


@pytest.mark.parametrize(
    ("ladder", "arm", "words"),
    [
        ([Measured(1.0, {0: 1.0, 1: 1.0})], Measured(1.0, {0: 1.0, 1: 1.0}), "at least two"),
        ([Measured(1.0, {0: 1.0, 1: 1.0})] * 2, Measured(1.0, {0: 1.0, 1: 1.0}), "all different"),
        ([Measured(1.0, {0: 1.0}), Measured(2.0, {0: 1.0})], Measured(1.0, {0: 1.0}), "one seed"),
        ([Measured(1.0, {}), Measured(2.0, {0: 1.0})], Measured(1.0, {0: 1.0, 1: 1.0}), "expected two or more"),
        (
            [Measured(1.0, {0: math.nan, 1: 1.0}), Measured(2.0, {0: 1.0, 1: 2.0})],
            Measured(1.0, {0: 1.0, 1: 1.0}),
            "not finite",
        ),
    ],
)
def test_what_is_no_ladder_is_refused(ladder, arm, words):
    with pytest.raises(UserError, match=words):
        worth(ladder, arm, higher_is_better=False, over="seeds")


# How many times more on one measure than on another.


def noisy(rng, multiplier: float, sigma: float, sign: float = 1.0) -> ReadOff:
    ladder = [Measured(a, by_seed(sign * (law(a) + sigma * rng.standard_normal(5)))) for a in LADDER]
    arm = Measured(4e5, by_seed(sign * (law(4e5 * multiplier) + sigma * rng.standard_normal(5))))
    return ReadOff(ladder, arm, sign < 0)


@given(st.floats(0.3, 3.5), st.floats(0.3, 3.5))
@settings(max_examples=20, deadline=None)
def test_a_ratio_without_noise_is_that_of_the_multipliers(one, other):
    first, second = ReadOff(*exact(one), False), ReadOff(*exact(other, sign=-1.0), True)
    found = worth_ratio(first, second, resamples=100)
    alone = [worth(asked.ladder, asked.arm, higher_is_better=asked.higher_is_better, over="seeds", resamples=100).value
             for asked in (first, second)]  # fmt: skip
    assert found.value == pytest.approx(alone[0] / alone[1]) and found.low <= found.value <= found.high


def test_intervals_of_a_ratio_hold_the_truth_as_often_as_they_say():
    rng, held = np.random.default_rng(5), 0
    for draw in range(400):
        one, other = noisy(rng, 1.7, 0.03), noisy(rng, 1.1, 0.03, -1.0)
        found = worth_ratio(one, other, resamples=400, seed=draw)
        held += found.low <= 1.7 / 1.1 <= found.high
    assert 368 <= held <= 394


def test_a_value_beyond_its_ladder_counts_as_its_end_in_a_ratio():
    found = worth_ratio(ReadOff(*exact(4.9), False), ReadOff(*exact(1.0), False), resamples=100)
    assert found.value == pytest.approx(4.0, rel=0.02)


def test_a_ratio_is_of_the_same_seeds_and_of_measures_that_text_changes():
    one, flat = ReadOff(*exact(1.5), False), [Measured(amount, by_seed([2.0, 2.0])) for amount in LADDER]
    with pytest.raises(UserError, match="more text does not change"):
        worth_ratio(one, ReadOff(flat, Measured(4e5, by_seed([2.0, 2.0])), False))
    ladder, arm = exact(1.2)
    other = ReadOff(ladder, Measured(arm.amount, {seed + 1: value for seed, value in arm.values.items()}), False)
    with pytest.raises(UserError, match="different seeds"):
        worth_ratio(one, other)
