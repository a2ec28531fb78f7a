"""Arms that an option makes of one: a table of what is typed and what arms come, and of mistakes."""

from __future__ import annotations

import re

import pytest

from micro import micro
from stillroom.config import StudyConfig, parse
from stillroom.results.schema import arm_and_seed
from stillroom.study.arm_sweeps import swept
from stillroom.types import UserError


@pytest.mark.parametrize(
    ("sweeps", "seeds", "arms"),
    [
        (["arms.dpt90.alpha=0.3,0.6"], None, ["spt", "dpt90-alpha0.3", "dpt90-alpha0.6", "routed"]),
        (["arms.spt.data=0.5"], None, ["spt-data0.5", "dpt90", "routed"]),
        (["arms.routed.routing.share=0.1, 0.2"], None, ["spt", "dpt90", "routed-share0.1", "routed-share0.2"]),
        (
            ["arms.dpt90.alpha=0.3,1", "arms.dpt90.learning_rate=1e-3,2e-3"],
            None,
            [
                "spt",
                "dpt90-alpha0.3-learning_rate1e-3",
                "dpt90-alpha0.3-learning_rate2e-3",
                "dpt90-alpha1-learning_rate1e-3",
                "dpt90-alpha1-learning_rate2e-3",
                "routed",
            ],
        ),
        (["arms.spt.data=0.5,1", "arms.dpt90.data=0.5"], None, ["spt-data0.5", "spt-data1", "dpt90-data0.5", "routed"]),
        ([], 2, ["spt-s0", "dpt90-s0", "routed-s0", "spt-s1", "dpt90-s1", "routed-s1"]),
        (["arms.dpt90.seed=0,7"], None, ["spt", "dpt90-seed0", "dpt90-seed7", "routed"]),
    ],
    ids=["one", "a single value", "inside", "product", "two arms", "seeds", "a field seed"],
)
def test_a_sweep_makes_arms_named_after_their_values(sweeps, seeds, arms):
    assert list(swept(micro(), sweeps, seeds).arms) == arms


def test_values_reach_the_arms_and_seeds_are_grouped_as_reports_do():
    config = swept(micro(), ["arms.dpt90.alpha=0.3,0.6,0.9"], 3)
    assert len(config.arms) == 5 * 3
    arm = config.arms["dpt90-alpha0.6-s2"]
    assert (arm.alpha, arm.seed) == (0.6, 2) and arm_and_seed("dpt90-alpha0.6-s2") == ("dpt90-alpha0.6", 2)
    assert swept(micro(), ["arms.dpt90.alpha=0.3,0.6,0.9"], 3).fingerprint() == config.fingerprint()
    assert config.arms["routed-s1"].routing == micro().arms["routed"].routing


def test_an_arm_like_another_follows_it_over_seeds():
    values = micro().model_dump()
    values["arms"]["same"] = {"like": "spt", "alpha": 0.5}
    config = swept(parse(StudyConfig, values, "test"), [], 2)
    assert [config.arms[f"same-s{seed}"].like for seed in (0, 1)] == ["spt-s0", "spt-s1"]
    with pytest.raises(UserError, match="arm same is like spt, which is swept"):
        swept(parse(StudyConfig, values, "test"), ["arms.spt.data=0.5,1"])


@pytest.mark.parametrize(
    ("sweeps", "seeds", "words"),
    [
        (["arms.dtp90.alpha=0.3"], None, "there is no arm 'dtp90'; did you mean dpt90?"),
        (["arms.dpt90.alhpa=0.3"], None, "alhpa is not a field of arms.dpt90; did you mean alpha?"),
        (["arms.dpt90.alpha=0.3,2"], None, "arms.dpt90.alpha is 2"),
        (["arms.dpt90.alpha=0.3,x"], None, "arms.dpt90.alpha is 'x'"),
        (["arms.dpt90.alpha=0.3,,0.6"], None, "expected arms.NAME.FIELD=VALUE,VALUE"),
        (["arms.dpt90.alpha"], None, "expected arms.NAME.FIELD=VALUE,VALUE"),
        (["training.learning_rate=1,2"], None, "expected arms.NAME.FIELD=VALUE,VALUE"),
        (["arms.dpt90.alpha=0.3,0.30"], None, "dpt90-alpha0.3 and dpt90-alpha0.30 are one arm"),
        (["arms.dpt90.alpha=0.3,0.3"], None, "are one arm"),
        (["arms.dpt90.alpha=0.3", "arms.dpt90.alpha=0.6"], None, "alpha of dpt90 is swept twice"),
        (["arms.dpt90.seed=1,2"], 2, "arm dpt90-seed1 has a seed of its own"),
        (["arms.spt.data=100"], None, "corpus.train_tokens is 8192"),
    ],
)
def test_a_mistake_in_a_sweep_is_told_by_what_was_typed(sweeps, seeds, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        swept(micro(), sweeps, seeds)
    assert "--s" in str(caught.value) and "\n" not in str(caught.value) and "arms.arm" not in str(caught.value)
