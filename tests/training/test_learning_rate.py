"""The learning rate over the steps: between 0 and 1, without jumps, and at its final value in the end."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stillroom.config import ScheduleConfig, TrainingConfig
from stillroom.objectives import Progress, value_at
from stillroom.training.optimizer import learning_rate_factor

SHARES = st.floats(0, 1)


@given(
    schedule=st.sampled_from(["constant", "linear", "cosine", "wsd"]),
    warmup=SHARES, decay=SHARES, final=SHARES, num_steps=st.integers(1, 300),
)  # fmt: skip
def test_the_rate_neither_jumps_nor_leaves_its_range(schedule, warmup, decay, final, num_steps):
    try:
        config = TrainingConfig(schedule=schedule, warmup=warmup, decay=decay, final_learning_rate=final)
    except ValidationError:
        return  # phases that overlap are refused, see below
    factors = [learning_rate_factor(config, step, num_steps) for step in range(num_steps)]
    assert all(0 <= factor <= 1 for factor in factors)
    rising = min(round(warmup * num_steps), num_steps - (schedule != "constant"))
    steepest = 1 / (rising + 1)
    if schedule == "wsd":
        steepest = max(steepest, (1 - final) / min(max(1, round(decay * num_steps)), num_steps - rising))
    elif schedule != "constant":
        steepest = max(steepest, (1 - final) * (math.pi / 2 if schedule == "cosine" else 1) / (num_steps - rising))
    assert all(abs(after - before) <= steepest + 1e-9 for before, after in pairwise(factors))
    if schedule != "constant":
        assert factors[-1] == pytest.approx(final)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"schedule": "wsd", "warmup": 0.9, "decay": 0.5}, "together are more than the whole run"),
        ({"schedule": "wsd", "warmup": 0.1, "decay": 0.0}, "would fall in no time"),
        ({"schedule": "cosine", "warmup": 1.0}, "never begins"),
        ({"schedule": "linear", "warmup": 1.0}, "never begins"),
        ({"schedule": "wsd", "warmup": 1.0, "decay": 0.0}, "never begins"),
    ],
)
def test_phases_that_overlap_or_are_empty_are_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        TrainingConfig(**values)


def test_phases_that_fill_the_run_are_let_through():
    for warmup, decay in ((0.1, 0.9), (0.7, 0.3), (0.9, 0.1), (0.0, 1.0)):
        assert TrainingConfig(schedule="wsd", warmup=warmup, decay=decay).decay == decay
    assert TrainingConfig(schedule="constant", warmup=1.0).warmup == 1


@given(warmup=SHARES, decay=SHARES, initial=SHARES, value=SHARES, final=SHARES)
def test_a_scheduled_field_neither_jumps_nor_leaves_its_range(warmup, decay, initial, value, final):
    try:
        schedule = ScheduleConfig(kind="warmup-stable-decay", warmup=warmup, decay=decay, initial=initial, final=final)
    except ValidationError:
        assert warmup + decay > 1
        return
    steps = 400
    values = [value_at(schedule, value, Progress(step, steps)) for step in range(steps + 1)]
    assert min(initial, value, final) - 1e-9 <= min(values) and max(values) <= max(initial, value, final) + 1e-9
    shortest = min([part for part in (warmup, decay) if part > 0] or [1.0])
    assert all(abs(b - a) <= 1 / (shortest * steps) + 1e-6 for a, b in pairwise(values))
    if decay > 1e-3:
        assert values[-1] == pytest.approx(final, abs=1e-6)
    else:
        assert values[-1] in (pytest.approx(value), pytest.approx(final))


def test_shares_of_another_kind_of_schedule_are_not_looked_at():
    assert ScheduleConfig(kind="linear", warmup=0.9, decay=0.9).final == 0
