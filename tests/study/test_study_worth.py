"""``worth.json``: which arms are a ladder, and multipliers from the items of one seed or over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import stillroom.results
from micro import micro
from stillroom.config import ArmConfig, RoutingConfig, ScheduleConfig, ladder, over_seeds
from stillroom.report import build_report
from stillroom.results.abilities import Ability, Effort, Ladder, worth_table
from stillroom.results.json_form import read
from stillroom.results.schema import WorthTable
from stillroom.study.evaluations import evaluate_models
from stillroom.study.ladder import ladder_of
from stillroom.study.pipeline import run_study
from stillroom.study.progress import StageDisplay
from stillroom.types import UserError

NATS = Ability("text:python", "python, bits per byte", higher_is_better=False)


def with_arms(arms: dict[str, ArmConfig]):
    return micro().model_copy(update={"arms": arms})


def test_a_ladder_is_arms_of_hard_labels_that_differ_in_text_alone():
    arms = {
        "spt": ArmConfig(),
        "spt2x": ArmConfig(data=2.0),
        "spt-2e": ArmConfig(epochs=2.0),
        "fast": ArmConfig(data=0.5, learning_rate=0.1),
        "mtp": ArmConfig(data=0.25, heads=2),
        "dpt90": ArmConfig(alpha=0.9),
        "routed": ArmConfig(alpha=0.9, routing=RoutingConfig(rule="low-entropy", share=0.15)),
    }
    ladder = ladder_of(with_arms(arms), list(arms))
    assert list(ladder.rungs) == ["spt", "spt2x"]
    assert list(ladder.others) == ["spt-2e", "fast", "mtp", "dpt90", "routed"]
    seeds = over_seeds({"spt": ArmConfig(), "dpt90": ArmConfig(alpha=0.9), "spt2x": ArmConfig(data=2.0)}, [0, 1])
    ladder = ladder_of(with_arms(seeds), list(seeds))
    assert ladder.rungs == {"spt": ["spt-s0", "spt-s1"], "spt2x": ["spt2x-s0", "spt2x-s1"]}
    assert ladder.others == {"dpt90": ["dpt90-s0", "dpt90-s1"]}


def test_arms_of_equal_text_are_one_rung_and_a_budget_in_steps_makes_no_ladder():
    arms = {"spt": ArmConfig(), "same": ArmConfig(data=1.001), "dpt90": ArmConfig(alpha=0.9)}
    assert ladder_of(with_arms(arms), list(arms)).rungs == {"spt": ["spt"]}
    config = with_arms(arms | {"same": ArmConfig(data=2.0)})
    steps = config.model_copy(update={"training": config.training.model_copy(update={"steps": 4})})
    assert list(ladder_of(config, list(arms)).rungs) == ["spt", "same"] and ladder_of(steps, list(arms)).rungs == {}


def test_rungs_of_equal_flops_leave_nothing_half_read():
    records = {name: Effort(tokens, 1e9) for name, tokens in (("a", 1e5), ("b", 2e5), ("d", 1e5))}
    tables = {name: {NATS: ([value, value + 0.1], [1.0, 1.0])} for name, value in (("a", 3.0), ("b", 2.0), ("d", 2.5))}
    (ability,) = worth_table(Ladder({"a": ["a"], "b": ["b"]}, {"d": ["d"]}), records, tables).abilities
    assert ability.arms == {}


def record(tokens: float, teacher: float = 0.0) -> Effort:
    return Effort(tokens, 6.0 * tokens + teacher)


def law(tokens: float) -> float:
    return 1.0 + 3.0 * (tokens / 1e5) ** -0.35


def test_over_items_of_one_seed():
    rng = np.random.default_rng(0)
    length = rng.integers(50, 150, 200).astype(float)
    hard = 0.2 * rng.standard_normal(200)

    def table(value: float):
        return {NATS: ((length * (value + hard + 0.02 * rng.standard_normal(200))).tolist(), length.tolist())}

    records = {"spt": record(1e5), "spt2x": record(2e5), "dpt90": record(1e5, teacher=3e5)}
    tables = {"spt": table(law(1e5)), "spt2x": table(law(2e5)), "dpt90": table(law(1.5e5))}
    found = worth_table(Ladder({"spt": ["spt"], "spt2x": ["spt2x"]}, {"dpt90": ["dpt90"]}), records, tables)
    assert found.over == "items" and [rung.tokens for rung in found.ladder] == [1e5, 2e5]
    (ability,) = found.abilities
    data, compute = ability.arms["dpt90"].data, ability.arms["dpt90"].compute
    assert data.value == pytest.approx(1.5, rel=0.05) and data.low < data.value < data.high
    assert compute.value == pytest.approx(data.value * 6e5 / 9e5)  # the teacher's labelling is on the bill


def test_an_ability_that_forms_in_a_jump_is_read_among_the_seeds_that_have_it():
    formed = {"spt": 0, "spt2x": 3, "spt4x": 5, "dpt90": 3}
    rng = np.random.default_rng(1)
    arms = {arm: [f"{arm}-s{seed}" for seed in range(5)] for arm in formed}
    tables = {
        name: {NATS: ([(0.8 if seed < formed[arm] else 2.0) + 0.01 * rng.standard_normal()], [1.0])}
        for arm, names in arms.items()
        for seed, name in enumerate(names)
    }
    tokens = {"spt": 1e5, "spt2x": 2e5, "spt4x": 4e5, "dpt90": 2e5}
    records = {name: record(tokens[arm]) for arm, names in arms.items() for name in names}
    ladder = {arm: arms[arm] for arm in ("spt", "spt2x", "spt4x")}
    (ability,) = worth_table(Ladder(ladder, {"dpt90": arms["dpt90"]}), records, tables).abilities
    assert ability.formed == formed and ability.formed_at is None
    assert ability.arms["dpt90"].data.num == 3
    kept = {
        name: {5e4: {NATS: ([2.0], [1.0])}, 1e5: {NATS: ([0.9 if "-s1" in name else 2.0], [1.0])}} for name in tables
    }
    (ability,) = worth_table(Ladder(ladder, {"dpt90": arms["dpt90"]}), records, tables, kept).abilities
    assert ability.formed_at is not None and "spt" not in ability.formed_at  # none of its seeds formed it
    assert ability.formed_at["dpt90"] == (2e5, 1e5, 2e5)  # two of three after their last checkpoint
    assert ability.formed_at["spt4x"] == (4e5, 1e5, 4e5, 4e5, 4e5)


def test_a_ladder_is_made_in_a_line_and_found_as_it_was_made():
    arms = ladder(2, 0.0625, 0.5, 0.75, 1, arm=ArmConfig(learning_rate=0.5)) | {"dpt90": ArmConfig(alpha=0.9)}
    names = ["spt_sixteenth", "spt_half", "spt0.75x", "spt", "spt2x"]
    assert list(arms) == [*names, "dpt90"] and arms["spt_half"] == ArmConfig(learning_rate=0.5, data=0.5)
    config = with_arms(arms)
    tokens = config.model_copy(update={"training": config.training.model_copy(update={"tokens": 65_536})})
    found = ladder_of(tokens, list(arms))
    assert list(found.rungs) == names and list(found.others) == ["dpt90"]
    assert ladder_of(tokens, ["dpt90", "spt2x", "spt"]).rungs == {"spt": ["spt"], "spt2x": ["spt2x"]}  # of some
    assert list(ladder(1, 2, name="hard")) == ["hard", "hard2x"]


@pytest.mark.parametrize(
    ("parts", "changes", "words"),
    [
        ((1,), {}, "two or more amounts of text"),
        ((1, 2, 2), {}, "all different"),
        ((0, 1), {}, "ladder: data is 0"),
        ((float("nan"), 1), {}, "ladder: data is nan"),
        ((1, 2), {"alpha": 0.5}, "set alpha to 0"),
        ((1, 2), {"alpha_schedule": ScheduleConfig(kind="linear", final=0.9)}, "set alpha to 0"),
        ((1, 2), {"epochs": 2.0}, "epochs to 1"),
        ((1, 2), {"like": "spt"}, "like to None"),
    ],
    ids=["one", "twice", "nothing", "no-number", "teacher", "rising", "passes", "like"],
)
def test_what_makes_no_ladder_is_refused(parts, changes, words):
    with pytest.raises(UserError, match=words):
        ladder(*parts, arm=ArmConfig(**changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A study of a ladder of two rungs and an arm with a teacher, on held-out text alone."""
    root, config = tmp_path_factory.mktemp("worth"), micro()
    corpus = config.corpus.model_copy(update={"sources": {"facts": config.corpus.sources["facts"]}})
    arms = ladder(0.5, 1) | {"dpt90": ArmConfig(alpha=0.9)}
    evaluation = config.evaluation.model_copy(update={"suites": ("lm",)})
    changes = {"corpus": corpus, "arms": arms, "evaluation": evaluation}
    return run_study(config.model_copy(update=changes), root / "run", root / "artifacts", StageDisplay())


def test_a_study_and_an_evaluation_of_its_models_find_the_ladder(run, tmp_path, capsys):
    written = read(WorthTable, run / "worth.json")
    assert [rung.arm for rung in written.ladder] == ["spt_half", "spt"]
    assert {arm for ability in written.abilities for arm in ability.arms} == {"dpt90"}
    values = {"heldout_sequences": 16, "copying_sequences": 4}
    evaluate_models([run], None, ["lm"], tmp_path / "out", values, StageDisplay())
    found = read(WorthTable, tmp_path / "out" / "worth.json")
    assert found.ladder == written.ladder and found.over == "items"
    text = {ability.key: ability.arms for ability in written.abilities}
    assert {ability.key: ability.arms for ability in found.abilities}["text:facts"] == text["text:facts"]
    shown = " ".join(capsys.readouterr().out.split())  # as wide as it likes
    assert "Worth: hard-label tokens that do what one of its own did; ladder of 2,048, 4,096 tokens" in shown
    assert str(text["text:facts"]["dpt90"].data) in shown
    assert "Worth" in Path(build_report(run)).read_text() or "worth" in Path(build_report(run)).read_text()
    evaluate_models([Path(f"{run}:spt"), Path(f"{run}:dpt90")], None, ["lm"], tmp_path / "out", values, StageDisplay())
    assert not (tmp_path / "out" / "worth.json").exists()  # one rung is no ladder: nothing of the other call is left
    assert "Worth" not in capsys.readouterr().out
    (table,) = (
        row for row in stillroom.results.load(run).worths if (row.ability, row.amount) == ("text:facts", "tokens")
    )
    assert table.value == text["text:facts"]["dpt90"].data.value
