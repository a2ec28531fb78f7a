"""Every field of every configuration: a value that makes no sense ends in one sentence, never in a traceback."""

from __future__ import annotations

import math
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import stillroom.config
from stillroom.choosing.request import RankSettings
from stillroom.choosing.tuning.reinforce import ReinforcedConfig
from stillroom.choosing.tuning.supervise import SupervisedConfig
from stillroom.config import ArmConfig, CorpusConfig, SourceConfig, Strict, StudyConfig, TrainingConfig, override, parse
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.recall.recall_config import RecallConfig
from stillroom.types import UserError

ODD: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, -1, 0, -0.5, 2**63, 2**64, 2**70, 10**400, 1e300, "x", "", [], [[]], {}, None, True,
    [math.nan], [True], "\ud800", b"\xff",
)  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {
    "SourceConfig": {"kind": "facts"},
    "CorpusConfig": {"sources": {"a": {"kind": "facts"}}},
    "ScheduleConfig": {"kind": "linear"},
    "RoutingConfig": {"rule": "random"},
    "MixtureConfig": {"teachers": {"a": "b"}},
    "RunConfig": {"corpus": {"sources": {"a": {"kind": "facts"}}}},
    "StudyConfig": {"name": "s", "corpus": {"sources": {"a": {"kind": "facts"}}}, "arms": {"spt": {}}},
    "TeachingConfig": {"teacher": {}},
    "RecallConfig": {"arms": {"spt": {"label": "SPT"}}, "training": {"steps": 3}},
    "RecallArmConfig": {"label": "SPT"},
}


def kinds() -> list[type[Strict]]:
    """Every configuration of the package that can be asked for."""
    found: dict[str, type[Strict]] = {}
    pending: list[Any] = [*vars(stillroom.config).values(), RankSettings, BigramSweep, RecallConfig]
    pending += [SupervisedConfig, ReinforcedConfig]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and issubclass(kind, Strict) and kind is not Strict and kind.__name__ not in found:
            found[kind.__name__] = kind
            pending += [part for field in kind.model_fields.values() for part in _parts(field.annotation)]
    return sorted(found.values(), key=lambda kind: kind.__name__)


def _parts(annotation: Any) -> list[Any]:
    return [annotation, *(part for inner in typing.get_args(annotation) for part in _parts(inner))]


def numbers(value: Any) -> list[float]:
    """Every number inside a value."""
    if isinstance(value, BaseModel):
        return numbers(list(vars(value).values()))
    if isinstance(value, dict):
        return numbers(list(value.values()))
    if isinstance(value, list | tuple):
        return [number for inner in value for number in numbers(inner)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_an_odd_value_is_refused_in_one_sentence_or_means_a_finite_number(kind):
    needed = NEEDED.get(kind.__name__, {})
    for name, field in kind.model_fields.items():
        for odd in ODD:
            try:
                made = parse(kind, needed | {name: odd}, "config.yaml")
            except UserError as error:
                message = str(error)
                assert message.startswith("config.yaml: ") and message.endswith(".") and "\n" not in message
                assert len(message) < 700, message
                continue
            assert all(math.isfinite(n) and (isinstance(n, float) or abs(n) < 2**63) for n in numbers(made)), (
                name,
                odd,
            )
            if odd is True:
                assert bool in _parts(field.annotation), name
            if odd == []:
                assert isinstance(getattr(made, name), tuple), name


def test_seeds_are_what_torch_and_numpy_take():
    for kind in kinds():
        if "seed" in kind.model_fields:
            for seed in (-1, 2**63, 0.5):
                with pytest.raises(UserError, match="seed"):
                    parse(kind, NEEDED.get(kind.__name__, {}) | {"seed": seed}, "x")
            parse(kind, NEEDED.get(kind.__name__, {}) | {"seed": 2**63 - 1}, "x")


EMPTY_LISTS = ("temperatures", "ks", "rule_shots", "needle_lengths", "needle_depths", "context_notes")


@pytest.mark.parametrize("field", EMPTY_LISTS)
def test_a_list_of_which_one_is_needed_may_not_be_empty(field):
    with pytest.raises(UserError, match=rf"evaluation\.{field}"):
        override(study(), [f"evaluation.{field}=[]"])


def study(**changes: Any) -> StudyConfig:
    sources = {"facts": SourceConfig(kind="facts")}
    return StudyConfig(
        **({"name": "s", "corpus": CorpusConfig(sources=sources), "arms": {"spt": ArmConfig()}} | changes)
    )


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("training.learning_rate=.nan", "finite"),
        ("training.learning_rate=.inf", "finite"),
        ("training.learning_rate=nan", "number"),
        ("corpus.vocab_size=1000000000000", "vocab_size"),
        ("evaluation.recall_length=1000000", "recall_length"),
        ("evaluation.recall_sequences=1000000000000", "recall_sequences"),
        ("training.seed=-1", "training.seed"),
        ("training.tokens=true", "no true or false"),
        ("training.epochs=2", "every arm has its own; set arms.NAME.epochs"),
        ("arms.spt.temperature=0", "temperature"),
        ("corpus.sources.facts.share=.inf", "finite"),
    ],
)
def test_numbers_that_make_no_sense_are_named(assignment, words):
    with pytest.raises(UserError) as error:
        override(study(), [assignment])
    assert words in str(error.value)


def test_items_that_memory_would_not_hold_are_refused_together():
    override(study(), ["evaluation.recall_length=100", "evaluation.recall_sequences=1000000"])
    with pytest.raises(UserError, match="recall_sequences and recall_length make 16,000,000,000 tokens"):
        override(study(), ["evaluation.recall_length=16000", "evaluation.recall_sequences=1000000"])


NAMES = (
    *("", ".", "..", "../../x", "/abs", "a/b", "a\\b", "a:b", "a\0b", "a\nb", "-x", ".hidden", "~x", " a", "a ", "a."),
    *("CON", "nul.txt", "x" * 101, "é" * 51, "a\u202eb", "a\x1bb"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_folders_name_is_refused_everywhere(name):
    sources = {"facts": SourceConfig(kind="facts")}
    for values in (
        {"name": name},
        {"arms": {name: {}}},
        {"corpus": {"sources": {name: {"kind": "facts"}}}},
        {"teacher": {"mixture": {"teachers": {name: "x"}}}},
    ):
        with pytest.raises(UserError, match="becomes that of a folder"):
            parse(StudyConfig, study().canonical() | values, "x")
    with pytest.raises(UserError, match="becomes that of a folder"):
        parse(stillroom.config.RunConfig, {"name": name, "corpus": {"sources": sources}}, "x")
    with pytest.raises(UserError, match="becomes that of a folder"):
        parse(RecallConfig, {"name": name, "arms": {"spt": {"label": "x"}}, "training": {"steps": 3}}, "x")


@pytest.mark.parametrize("name", ["dpt90-s3", "spt_half_twice-s4", "α=0.9", "日本語", "a b", "x[red]", "<img>", "50 %"])
def test_a_name_may_hold_any_sign_that_is_seen(name):
    assert name in parse(StudyConfig, study().canonical() | {"arms": {name: {}}}, "x").arms


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ({"Spt": {}, "spt": {}}, "one name on some file systems"),
        ({"caf\u00e9": {}, "cafe\u0301": {}}, "one name on some file systems"),
        ({"spt-s1": {}, "spt_seed01": {}}, "both named as one seed of one arm"),
        ({"teacher": {}}, "RUN:teacher says of the study itself"),
        ({"Teacher": {}}, "RUN:Teacher says of the study itself"),
    ],
)
def test_arms_that_would_share_a_folder_are_refused(arms, words):
    with pytest.raises(UserError, match=words):
        parse(StudyConfig, study().canonical() | {"arms": arms}, "x")


def test_the_names_of_every_frozen_study_are_accepted():
    for file in Path(__file__).parents[1].glob("experiments/*/config.yaml"):
        values = yaml.safe_load(file.read_text())
        values["training"]["epochs"] = 1.0  # study 011 says three, which nothing read
        parse(StudyConfig, {name: value for name, value in values.items() if name != "kind"}, str(file))


def test_a_configuration_survives_its_own_limits():
    assert parse(TrainingConfig, TrainingConfig().canonical(), "x") == TrainingConfig()
