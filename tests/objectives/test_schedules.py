"""Schedules: their ends, their middle, and the configuration that refuses what makes no sense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stillroom.config import ObjectiveConfig, RoutingConfig, ScheduleConfig
from stillroom.objectives import Progress, ever_needs_teacher, objective_at, value_at


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, [0.8, 0.8, 0.8, 0.8, 0.8]),
        (ScheduleConfig(kind="constant"), [0.8, 0.8, 0.8, 0.8, 0.8]),
        (ScheduleConfig(kind="linear", final=0.4), [0.8, 0.7, 0.6, 0.5, 0.4]),
        (ScheduleConfig(kind="cosine", final=0.4), [0.8, 0.6 + 0.2 * 2**-0.5, 0.6, 0.6 - 0.2 * 2**-0.5, 0.4]),
        (
            ScheduleConfig(kind="warmup-stable-decay", initial=0.2, final=0.0, warmup=0.5, decay=0.25),
            [0.2, 0.5, 0.8, 0.8, 0.0],
        ),
        (ScheduleConfig(kind="switch", final=0.1, at_tokens=50), [0.8, 0.8, 0.1, 0.1, 0.1]),
    ],
)
def test_values_at_the_quarters_of_a_run(schedule, expected):
    found = [value_at(schedule, 0.8, Progress(tokens, 100)) for tokens in (0, 25, 50, 75, 100)]
    assert found == pytest.approx(expected)


@given(
    kind=st.sampled_from(["linear", "cosine", "warmup-stable-decay"]),
    tokens=st.integers(0, 2_000),
    value=st.floats(0, 1),
    final=st.floats(0, 1),
)
def test_a_schedule_never_leaves_its_ends(kind, tokens, value, final):
    found = value_at(ScheduleConfig(kind=kind, final=final, initial=final), value, Progress(tokens, 1_000))
    assert min(value, final) - 1e-12 <= found <= max(value, final) + 1e-12


def test_objective_at_puts_every_value_in():
    falling = ScheduleConfig(kind="linear", final=0.0)
    objective = ObjectiveConfig(
        alpha=0.8,
        temperature=2.0,
        alpha_schedule=falling,
        temperature_schedule=ScheduleConfig(kind="linear", final=1.0),
        routing=RoutingConfig(rule="random", share=0.4, share_schedule=falling),
    )
    now = objective_at(objective, Progress(50, 100))
    assert (now.alpha, now.temperature) == pytest.approx((0.4, 1.5))
    assert now.routing is not None and now.routing.share == pytest.approx(0.2)
    assert now.alpha_schedule is None and now.temperature_schedule is None and now.routing.share_schedule is None


def test_a_teacher_is_needed_where_alpha_is_ever_above_zero():
    assert not ever_needs_teacher(ObjectiveConfig())
    assert ever_needs_teacher(ObjectiveConfig(alpha_schedule=ScheduleConfig(kind="linear", final=0.5)))
    assert not ever_needs_teacher(ObjectiveConfig(alpha_schedule=ScheduleConfig(kind="linear", final=0.0)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha_schedule": {"kind": "linear", "final": 1.5}}, "final is 1.5, expected a value from 0 to 1"),
        ({"alpha_schedule": {"kind": "switch"}}, "needs at_tokens"),
        ({"temperature_schedule": {"kind": "linear", "final": 0.0}}, "temperature_schedule.final is 0"),
        ({"alpha_schedule": {"kind": "warmup-stable-decay", "warmup": 0.7, "decay": 0.6}}, "more than the whole run"),
    ],
)
def test_what_makes_no_sense_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        ObjectiveConfig.model_validate(values)
