"""A suite that a package of someone else's adds: run, kept and compared as the others are, named nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillroom.config import EvaluationConfig, StudyConfig, parse
from stillroom.evaluation import Material, Suite, SuiteConfig, SuiteResult, find_suite, suite_names
from stillroom.evaluation import suite as registry
from stillroom.results.json_form import read
from stillroom.results.schema import Evaluation, SampledProblem
from stillroom.results.statistics import mean
from stillroom.strict import Items, override
from stillroom.study.evaluations import evaluate_models, keep_evaluated
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import Estimate, UserError


class LettersConfig(SuiteConfig):
    num: Items = 4


@dataclass(frozen=True)
class LettersResult:
    parameters: Estimate
    seed: int


class LettersSuite(Suite[LettersConfig]):
    """How many parameters a model has, measured again and again."""

    name = "letters"
    config = LettersConfig
    needs_corpus = False

    def measure(self, model, config, material, sampler, progress) -> SuiteResult:
        values = np.full(config.num, float(model.num_parameters()))
        line = SampledProblem(family="f", prompt="p", temperature=0.0, completions=("a",), answers=("a",))
        return SuiteResult({"letters": LettersResult(mean(values, seed=config.seed), config.seed)}, [line])


SUITE = LettersSuite()


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that names the suite above under the entry point."""
    entries = {name: EntryPoint(name, f"{__name__}:{value}", "stillroom.suites")
               for name, value in (("letters", "SUITE"), ("broken", "NOTHING"), ("wrong", "np"))}  # fmt: skip
    monkeypatch.setattr(registry, "_others", lambda: entries)
    yield


@pytest.fixture
def model(make_llama, tokenizer, tmp_path: Path) -> Path:
    make_llama().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_it_is_measured_and_stands_in_the_evaluation(added, model: Path, tmp_path: Path, capsys) -> None:
    values: dict[str, Any] = {"options": {"letters": {"num": 3}}, "seed": 7}
    for _ in range(2):
        evaluate_models([model], None, ["letters"], tmp_path / "out", values, StageDisplay())
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["letters"]["parameters"]["num"] == 3 and found["letters"]["seed"] == 7
    assert read(Evaluation, folder / "evaluation.json").others == {
        name: part for name, part in found.items() if name != "measured_on"
    }
    assert json.loads((folder / "samples-letters.jsonl").read_text())["completions"] == ["a"]
    assert "letters parameters" in capsys.readouterr().out
    keep_evaluated(folder, ["samples-letters.jsonl"])
    assert not (folder / "suite-letters.json").exists()  # so that it is measured again


def test_names_and_fields_are_checked(added) -> None:
    assert suite_names()[-1] == "wrong" and find_suite("letters") is SUITE
    asked = parse(EvaluationConfig, {"suites": ["letters"], "options": {"letters": {"nun": 3}}}, "here")
    with pytest.raises(UserError, match=r"evaluation\.options\.letters: nun is not a field here; did you mean num"):
        SUITE.config_in(asked)
    for values, said in (
        ({"suites": ["leters"]}, "suites names 'leters', which is none; did you mean letters"),
        ({"over_training": ["leters"]}, "over_training names 'leters', which is none; did you mean letters"),
        ({"options": {"letters": {}}}, "options names 'letters', which suites does not"),
    ):
        with pytest.raises(UserError, match=said):
            parse(EvaluationConfig, values, "here")
    for name, said in (("broken", "could not be loaded"), ("wrong", "is module, expected a Suite")):
        with pytest.raises(UserError, match=said):
            find_suite(name)


def test_its_fields_are_set_one_by_one_on_the_command_line(added) -> None:
    suites = "evaluation.suites=[lm, letters]"
    config = override(resolve_recipe("tiny"), [suites, "evaluation.options.letters.num=3"])
    assert isinstance(config, StudyConfig) and SUITE.config_in(config.evaluation).num == 3
    again = override(config, ["evaluation.options.letters.num=5", "evaluation.options.letters.seed=2"])
    assert SUITE.config_in(again.evaluation) == LettersConfig(num=5, seed=2)
    with pytest.raises(UserError, match="options names 'leters', which suites does not; did you mean letters"):
        override(config, [suites, "evaluation.options.leters.num=3"])


def test_a_suite_that_needs_a_corpus_says_so(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--corpus is missing"):
        evaluate_models([model], None, ["lm"], tmp_path / "out", {}, StageDisplay())
    with pytest.raises(UserError, match="--corpus is missing"):
        _ = Material(None).heldout  # type: ignore[arg-type]
