"""Every field of a configuration is explained: text, values, default; a misspelt one is answered with the nearest."""

from __future__ import annotations

import pytest

from stillroom.cli.main import run
from stillroom.config import RunConfig, StudyConfig, override
from stillroom.study.described import fields_of, found_by, valued
from stillroom.study.recipe_files import available_recipes, resolve_recipe
from stillroom.types import UserError

FIELDS = fields_of(RunConfig) | fields_of(StudyConfig)


def test_every_field_has_a_text_and_says_what_it_takes():
    assert len(FIELDS) > 250
    assert [name for name, one in FIELDS.items() if not one.text] == []
    assert [name for name, one in FIELDS.items() if not one.is_group and one.takes == "a value"] == []


@pytest.mark.parametrize(
    ("name", "takes", "default"),
    [
        ("training.tokens", "a whole number above 0", "1000000"),
        ("training.learning_rate", "a number above 0", "0.003"),
        ("training.micro_batch_sequences", "a whole number above 0 or none", "none"),
        ("training.optimizer", "one of adamw, muon", "adamw"),
        ("training.parallel.compile", "true or false", "false"),
        ("arms.NAME.alpha", "a number of at least 0, at most 1", "0.0"),
        ("arms.NAME.routing.share", "a number of at least 0 and below 1", "0.15"),
        ("corpus.vocab_size", "a whole number of at least 258, at most 16,777,216", "2048"),
        ("labels.codec", "one of sampled, top-k, top-p", "sampled"),
        ("evaluation.suites", "any of heads, icl, lm, retrieval, tts", "[lm, icl, tts, heads]"),
        ("teacher.model.hidden_size", "a whole number above 0, at most 131,072", "256"),  # the teacher's own default
        ("student.hidden_size", "a whole number above 0, at most 131,072", "128"),
        ("name", "text", None),
    ],
)
def test_what_a_field_takes_and_is_without_being_set(name, takes, default):
    assert (FIELDS[name].takes, FIELDS[name].default) == (takes, default)


def test_names_of_rules_of_other_packages_are_listed_too():
    assert FIELDS["arms.NAME.routing.rule"].takes.startswith("one of copy-aware, entropy-threshold, ")
    assert FIELDS["corpus.sources.NAME.kind"].takes.startswith("one of ")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("training.tokens", ["training.tokens"]),
        ("arms.dpt90.alpha", ["arms.NAME.alpha"]),
        ("arms.NAME.alpha", ["arms.NAME.alpha"]),
        ("corpus.sources.a.kind", ["corpus.sources.NAME.kind"]),
        ("vocab_size", ["corpus.vocab_size"]),
        ("routing.rule", ["arms.NAME.routing.rule"]),
    ],
)
def test_a_field_is_found_by_its_place_or_by_its_end(asked, found):
    assert found_by(asked, fields_of(StudyConfig)) == found


def test_a_group_is_found_with_all_that_is_inside_it():
    found = found_by("labels", fields_of(StudyConfig))
    assert found[0] == "labels" and "labels.codec" in found and all(name.startswith("labels") for name in found)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("training.tokn", "did you mean training.tokens"),
        ("alpah", "did you mean alpha"),
        ("quikstart", "no recipe and no field of a configuration; did you mean quickstart?"),
        ("zzz", "stillroom config lists what there is."),
        ("", "stillroom config lists what there is."),
        ("..", "stillroom config lists what there is."),
    ],
)
def test_a_name_that_is_none_is_answered_with_the_nearest(asked, words):
    with pytest.raises(UserError) as error:
        found_by(asked, fields_of(StudyConfig), available_recipes())
    assert words in str(error.value)


@pytest.mark.parametrize("recipe", available_recipes())
def test_every_value_of_every_recipe_has_its_description(recipe):
    config = resolve_recipe(recipe)
    rows = list(valued(config))
    assert {general for _, general, _ in rows} <= set(fields_of(type(config)))
    assert len({name for name, _, _ in rows}) == len(rows)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], ["Recipes: ", "quickstart", "corpus  (fields of its own)"]),
        (["alpha"], ["arms.NAME.alpha  (a number of at least 0, at most 1; default 0.0)\n    Weight of the teacher's"]),
        (["objective"], ["objective.alpha"]),
        (["tiny", "training.tokens"], ["training.tokens = 32768  (a whole number above 0; default 1000000)\n    Dist"]),
        (["tiny", "arms.dpt90"], ["arms.dpt90.alpha = 0.9", "arms.dpt90.routing = none"]),
        (["tiny"], ["corpus.sources.python.kind = python-library", "arms.spt2x.data = 2.0"]),
    ],
)
def test_the_command_prints_fields_and_values(arguments, shown, capsys):
    with pytest.raises(SystemExit) as left:
        run(["config", *arguments])
    out = capsys.readouterr().out
    assert not left.value.code and all(text in out for text in shown), out


@pytest.mark.parametrize(
    "arguments", [["tokns"], ["quikstart", "training"], ["tiny", "training.tokn"], ["x.py"], ["x.yaml"], [""]]
)
def test_a_mistake_is_one_sentence(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        run(["config", *arguments])
    err = capsys.readouterr().err
    assert left.value.code == 2 and err.count("\n") == 1 and err.startswith("stillroom: ")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("alpha=0.5", "alpha is not a field; did you mean arms.spt.alpha or arms.spt2x.alpha or arms.dpt90.alpha?"),
        ("learning_rate=1", "did you mean teacher.training.learning_rate or training.learning_rate"),
        ("dpt90.alpha=0.5", "dpt90 is not a field; did you mean arms.dpt90.alpha?"),
        ("trainig.tokens=1", "did you mean training?"),
    ],
)
def test_a_field_that_is_set_without_its_place_is_told_where_it_is(assignment, words):
    config = resolve_recipe("tiny")
    assert isinstance(config, StudyConfig)
    with pytest.raises(UserError) as error:
        override(config, [assignment])
    assert words in str(error.value)
