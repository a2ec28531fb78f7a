"""A model card's recipe is the whole recipe: it trains the same student of the same teacher anywhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from stillroom.config import ArmConfig, ObjectiveConfig, RunConfig, ScheduleConfig, StudyConfig, override, parse
from stillroom.study.pipeline import run_single
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.single import arm_run, check_taught, labelled_tokens, single_study
from stillroom.types import UserError


def micro() -> StudyConfig:
    config = resolve_recipe(str(Path(__file__).parents[1] / "micro.py"))
    assert isinstance(config, StudyConfig)
    return config


def small(**arms: ArmConfig) -> StudyConfig:
    """The micro study with other arms, on worlds alone."""
    config = micro()
    sources = {name: source for name, source in config.corpus.sources.items() if name != "python"}
    corpus = config.corpus.model_copy(update={"sources": sources})
    return config.model_copy(update={"arms": arms, "corpus": corpus})


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def card_recipe(folder: Path) -> str:
    found = re.search(r"```yaml\n(.*?)```", (folder / "model" / "README.md").read_text(), re.S)
    assert found is not None
    return found[1]


ARMS = {
    "stored": ArmConfig(alpha=0.9),
    "live": ArmConfig(alpha=0.5, teacher="live"),
    "rising": ArmConfig(alpha=0.0, alpha_schedule=ScheduleConfig(kind="linear", final=0.9), data=0.5),
}


@pytest.mark.parametrize("name", ARMS)
def test_the_recipe_of_a_card_trains_the_same_student_in_an_empty_folder(name, tmp_path):
    config = small(**({name: ARMS[name]} | {"other": ArmConfig(alpha=0.3)}))
    first = run_single(config, name, tmp_path / "a", StageDisplay())
    (tmp_path / "config.yaml").write_text(card_recipe(first))
    recipe = resolve_recipe(str(tmp_path / "config.yaml"))
    assert isinstance(recipe, RunConfig)
    again = run_single(recipe, None, tmp_path / "b", StageDisplay())
    assert weights(again) == weights(first)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {path.name for path in (tmp_path / "b").iterdir()}
    made = sorted(path.name.partition("-")[0] for path in (tmp_path / "b").glob("[a-z]*"))
    assert made == (["corpus", "model", "model"] if name == "live" else ["corpus", "labels", "model", "model"])


def test_a_run_of_hard_labels_needs_neither_a_teacher_nor_a_million_tokens(tmp_path):
    run = RunConfig(corpus=small().corpus, model=micro().student, training=micro().training)
    assert single_study(run).teacher.training is None
    assert (run_single(run, None, tmp_path, StageDisplay()) / "model" / "config.json").is_file()


def test_a_run_of_soft_labels_must_say_whose():
    run = RunConfig(corpus=small().corpus, training=micro().training, objective=ObjectiveConfig(alpha=0.9))
    with pytest.raises(UserError, match="nothing says whose soft labels"):
        check_taught(run)
    rising = ObjectiveConfig(alpha_schedule=ScheduleConfig(kind="linear", final=0.5))
    with pytest.raises(UserError, match=r"alpha rises to 0\.5 but nothing says whose"):
        run_single(run.model_copy(update={"objective": rising}), None, Path("nowhere"), StageDisplay())


def test_soft_labels_come_from_one_place():
    values = arm_run(small(x=ArmConfig(alpha=0.9)), "x").canonical()
    with pytest.raises(UserError, match="teacher and teaching are both given"):
        parse(RunConfig, values | {"teacher": "t"}, "config.yaml")


def test_a_run_with_more_tokens_than_the_corpus_is_a_mistake_in_a_sentence():
    config = override(arm_run(small(x=ArmConfig(alpha=0.9)), "x"), ["training.tokens=1000000"])
    with pytest.raises(UserError, match=r"train_tokens is 8192 but training\.tokens asks for 1000000"):
        single_study(config)


def test_labels_are_stored_for_the_arms_that_read_them():
    config = small(a=ArmConfig(alpha=0.9, data=0.5), b=ArmConfig(), c=ArmConfig(alpha=0.5, teacher="live"))
    assert labelled_tokens(config) == 2048
    assert labelled_tokens(small(b=ArmConfig())) == 0
    assert labelled_tokens(small(r=ARMS["rising"])) == 2048


def test_a_recipe_of_passes_keeps_them(tmp_path):
    run = arm_run(small(x=ArmConfig(epochs=2.0)), "x")
    assert run.training.epochs == 2.0
    assert single_study(run).arms["run"].epochs == 2.0
