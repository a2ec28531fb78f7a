"""Strict configuration: what is refused, in which words, and that what is written runs again as it is."""

from __future__ import annotations

from typing import Annotated

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from stillroom.config import (
    ArmConfig,
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    RoutingConfig,
    RunConfig,
    SourceConfig,
    StudyConfig,
    TeacherConfig,
    TrainingConfig,
    override,
    parse,
    to_yaml,
)
from stillroom.strict import ADDED_LATER, field_names
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError


def study(**changes) -> StudyConfig:
    values = {
        "name": "s",
        "corpus": CorpusConfig(sources={"facts": SourceConfig(kind="facts")}),
        "arms": {"spt": ArmConfig(), "dpt90": ArmConfig(alpha=0.9)},
    }
    return StudyConfig(**(values | changes))


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("arms.dpt90.alpah=0.5", ["alpah", "arms.dpt90", "alpha"]),
        ("arms.dpt9.alpha=0.5", ["dpt9", "dpt90"]),
        ("arms.dpt90.alpha=1.2", ["arms.dpt90.alpha", "1.2", "less than or equal to 1"]),
        ("arms.dpt90.alpha=-0.1", ["arms.dpt90.alpha", "-0.1", "greater than or equal to 0"]),
        ("arms.dpt90.alpha=much", ["arms.dpt90.alpha", "much", "number"]),
        ("arms.dpt90.routing.shrae=0.1", ["shrae", "share"]),
        ("training.tokns=5", ["tokns", "training", "tokens"]),
        ("training.tokens=0", ["training.tokens", "0", "greater than 0"]),
        ("corpus.sequence_length=100000", ["sequence_length", "100000", "max_positions", "512"]),
        ("nothing", ["nothing", "="]),
        ("teacher.mixture.teachers.code=y", ["code", "teacher.mixture.teachers"]),
        ("corpus.sources.facts.options.entities.more=1", ["corpus.sources.facts.options.entities"]),
        ("arms.spt.options.more=1", ["options", "arms.spt"]),
        ("training.seed=0x" + "f" * 5000, ["more than 300 digits"]),
    ],
)
def test_a_mistake_in_an_override_names_field_found_and_expected(assignment, parts):
    with pytest.raises(UserError) as error:
        override(study(), [assignment])
    message = str(error.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


@pytest.mark.parametrize("share", [1.0, 1.5, -0.01])
def test_a_routing_share_outside_its_range_is_refused(share):
    with pytest.raises(UserError, match=r"arms\.dpt90\.routing\.share"):
        override(study(), ["arms.dpt90.routing.rule=low-entropy", f"arms.dpt90.routing.share={share}"])


def test_several_overrides_are_applied_together():
    changed = override(
        study(),
        ["arms.dpt90.alpha=0.7", "arms.dpt90.routing.rule=random", "training.learning_rate=1e-3", "corpus.seed=3"],
    )
    assert changed.arms["dpt90"].alpha == 0.7
    assert changed.arms["dpt90"].routing == RoutingConfig(rule="random", share=0.15)
    assert changed.training.learning_rate == 1e-3
    assert changed.corpus.seed == 3
    assert changed.arms["spt"] == study().arms["spt"]


def test_a_worlds_option_may_be_set_by_override():
    changed = override(study(), ["corpus.sources.facts.options.entities=12"])
    assert changed.corpus.sources["facts"].options == {"entities": 12}


@given(alpha=st.floats(0, 1), data=st.floats(0.1, 1), seed=st.integers(0, 2**31))
def test_the_written_yaml_gives_the_same_configuration_back(alpha, data, seed):
    config = study(arms={"a": ArmConfig(alpha=alpha, data=data)}, training=TrainingConfig(seed=seed))
    values = yaml.safe_load(to_yaml(config, "study"))
    assert values.pop("kind") == "study"
    again = parse(StudyConfig, values, "config.yaml")
    assert again == config
    assert again.fingerprint() == config.fingerprint()


def test_any_change_of_a_field_changes_the_fingerprint():
    base = study()
    changes = [
        "arms.spt.alpha=0.1",
        "training.seed=1",
        "labels.num_samples=49",
        "evaluation.seed=1",
        "student.num_heads=2",
    ]
    prints = {override(base, [change]).fingerprint() for change in changes} | {base.fingerprint()}
    assert len(prints) == len(changes) + 1


def test_a_field_that_is_added_later_changes_no_fingerprint_until_it_is_set():
    class Training(TrainingConfig):
        damping: Annotated[float, ADDED_LATER] = 0.0
        shape: Annotated[dict[str, int], ADDED_LATER] = Field(default_factory=dict)

    class Study(StudyConfig):
        training: Training = Field(default_factory=Training)

    class Unmarked(TrainingConfig):
        damping: float = 0.0

    old, new = study(), Study.model_validate(study().canonical())
    assert new.fingerprint() == old.fingerprint() and new.training.identity() == old.training.identity()
    changed = override(new, ["training.damping=0.5", "training.shape={a: 1}"])
    assert (changed.training.damping, changed.training.shape) == (0.5, {"a": 1})
    assert changed.fingerprint() != old.fingerprint() and changed.training.identity() != old.training.identity()
    assert parse(Study, changed.canonical(), "config.yaml") == changed
    assert override(changed, ["training.damping=0", "training.shape={}"]) == new
    assert Unmarked().fingerprint() != TrainingConfig().fingerprint()


@pytest.mark.parametrize(("recipe", "found"), [("tiny", "293eb3afc0105edc"), ("quickstart", "2d30bb0ecaefdccf")])
def test_recipes_keep_the_fingerprints_that_name_their_artifacts(recipe: str, found: str):
    assert resolve_recipe(recipe).fingerprint() == found


def test_unknown_fields_of_a_mapping_are_refused_with_the_nearest_name():
    values = study().canonical()
    values["traning"] = {}
    with pytest.raises(UserError, match="traning is not a field here; did you mean training"):
        parse(StudyConfig, values, "config.yaml")
    with pytest.raises(UserError, match="holds list, expected a mapping"):
        parse(StudyConfig, [], "config.yaml")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ModelConfig(hidden_size=10, num_heads=4), "multiple of num_heads"),
        (lambda: ModelConfig(num_heads=4, num_kv_heads=3), "num_kv_heads"),
        (lambda: TrainingConfig(batch_sequences=6, micro_batch_sequences=4), "micro_batch_sequences"),
        (lambda: EvaluationConfig(ks=(1, 64), samples_per_problem=32), "pass@64"),
        (lambda: RoutingConfig(rule="entropy-threshold"), "threshold_nats"),
        (lambda: study(arms={"x": ArmConfig(data=3)}), "train_tokens"),
        (lambda: study(arms={"x": ArmConfig(heads=64)}), "arms.x.heads is 64, which takes 63 blocks"),
        (lambda: study(arms={}), "arms"),
    ],
)
def test_combinations_that_cannot_work_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_field_names_follow_optional_objects_and_mappings():
    assert "share" in field_names(StudyConfig, ["arms", "anything", "routing"])
    assert "alpha" in field_names(RunConfig, ["objective"])
    assert field_names(StudyConfig, ["nowhere"]) == []


SMALL = {"training": TrainingConfig(tokens=5000, batch_sequences=4, learning_rate=0.1)}


def small(**changes) -> StudyConfig:
    sources = {"facts": SourceConfig(kind="facts")}
    return study(corpus=CorpusConfig(sources=sources, train_tokens=5000), **(SMALL | changes))


@pytest.mark.parametrize("teacher", [{}, {"teacher": TeacherConfig()}, {"teacher": {"model": {"num_layers": 2}}}])
def test_a_teacher_whose_training_is_not_set_asks_for_no_more_text_than_its_students(teacher):
    config = small(**teacher)
    assert config.teacher.training == SMALL["training"].model_copy(update={"epochs": 2.0})
    less = override(config, ["training.tokens=4000", "corpus.train_tokens=4000"])
    assert less.teacher.training is not None and less.teacher.training.tokens == 4000
    longer = override(config, ["teacher.training.epochs=3", "training.tokens=4000"])
    assert longer.teacher.training == SMALL["training"].model_copy(update={"epochs": 3.0})
    assert TeacherConfig() == TeacherConfig(training=TrainingConfig(epochs=2.0))  # nobody else's object is changed
    assert parse(StudyConfig, config.canonical(), "config.yaml") == config


def test_a_pretrained_teacher_is_used_as_it_is_where_nothing_else_is_said():
    pretrained = ModelConfig(path="teachers/one")
    assert small(teacher=TeacherConfig(model=pretrained)).teacher.training is None
    further = TrainingConfig(tokens=5000)
    assert small(teacher=TeacherConfig(model=pretrained, training=further)).teacher.training == further


def test_the_teacher_of_a_run_is_trained_as_the_run_is_where_nothing_else_is_said():
    values = {"corpus": CorpusConfig(sources={"facts": SourceConfig(kind="facts")}), "objective": {"alpha": 0.5}}
    run = RunConfig(**values, **SMALL, teaching={"teacher": {}})
    assert run.teaching is not None and run.teaching.teacher.training is not None
    assert run.teaching.teacher.training.tokens == 5000
    less = override(run, ["training.tokens=4000"])
    assert less.teaching is not None and less.teaching.teacher.training is not None
    assert less.teaching.teacher.training.tokens == 4000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": TrainingConfig(tokens=6000)}, "but training.tokens asks for 6000"),
        ({"arms": {"x": ArmConfig(data=2)}}, "but training.tokens times arms.x.data asks for 10000"),
        ({"teacher": TeacherConfig(training=TrainingConfig(tokens=7000))}, "but teacher.training.tokens asks for 7000"),
    ],
)
def test_who_asks_for_more_text_than_there_is_is_named(changes, words):
    with pytest.raises(ValueError, match=f"corpus.train_tokens is 5000 {words}; raise the one or lower the other"):
        small(**changes)


@pytest.mark.parametrize("name", ["teacher", "Corpus", "labels", "dpt90@500"])
def test_an_arm_is_not_called_what_a_reference_means_otherwise(name: str):
    values = study().canonical()
    values["arms"] = {"spt": {}, name: {}}
    with pytest.raises(UserError, match="rename it"):
        parse(StudyConfig, values, "config.yaml")


def test_fewer_tokens_than_a_sequence_are_no_window_of_shuffling():
    values = study().corpus.canonical()
    with pytest.raises(UserError, match=r"shuffle_tokens is 1, which is less than one sequence"):
        parse(CorpusConfig, values | {"shuffle_tokens": 1}, "config.yaml")
