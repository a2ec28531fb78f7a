"""Recipes are other people's Python: whatever one does when it is read ends in a sentence with its line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stillroom.config import RunConfig, StudyConfig
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError

GOOD = (Path(__file__).parents[1] / "micro.py").read_text()

HOSTILE = {
    "exits": ("import sys\n\n\ndef recipe():\n    sys.exit(3)\n", "line 5 ends in SystemExit: 3"),
    "exits when read": ("raise SystemExit\n", "line 1 ends in SystemExit;"),
    "raises": ("def recipe():\n    raise KeyError('a\\nb')\n", "line 2 ends in KeyError: 'a\\nb';"),
    "raises a mark-up": ("def recipe():\n    raise ValueError('[/red]\\x1b[31m')\n", "ValueError: [/red]\\x1b[31m;"),
    "raises two lines": ("def recipe():\n    raise ValueError('one\\ntwo')\n", "ValueError: one two;"),
    "misses an import": ("import nothing_of_this_name\n", "line 1 ends in ModuleNotFoundError: No module named"),
    "is no Python": ("def recipe(:\n", "line 1 ends in SyntaxError:"),
    "holds a zero byte": ("a = 1\0\n", "ends in SyntaxError:"),
    "recurses": ("def recipe():\n    return recipe()\n", "line 2 ends in RecursionError:"),
    "needs arguments": ("def recipe(a):\n    return a\n", "ends in TypeError: recipe() missing 1 required"),
    "runs out of memory": ("def recipe():\n    raise MemoryError\n", "line 2 ends in MemoryError;"),
    "asks": ("def recipe():\n    return input()\n", "line 2 ends in "),
    "returns nothing": ("def recipe():\n    pass\n", "recipe() returned NoneType, expected StudyConfig or RunConfig."),
    "returns a mapping": ("def recipe():\n    return {}\n", "recipe() returned dict, expected"),
    "is a number": ("recipe = 3\n", "has no function 'recipe'"),
    "has another name": ("def recipy():\n    pass\n", "recipy() returned NoneType, expected StudyConfig or RunConfig."),
    "has two": (
        "def a():\n    pass\n\n\ndef b():\n    pass\n",
        "holds 2 functions (a, b) and none of the file's name; name one, as in",
    ),
    "has none": ("from stillroom.config import ArmConfig\n", "has no function 'recipe'."),
    "asks for too much": (
        "from stillroom.config import TrainingConfig\n\n\ndef recipe():\n    return TrainingConfig(tokens=0)\n",
        "line 5 TrainingConfig: tokens is 0, should be greater than 0",
    ),
    "gives an unknown field": (
        "from stillroom.config import TrainingConfig\n\n\ndef recipe():\n    return TrainingConfig(tokns=5)\n",
        "line 5 TrainingConfig: tokns is not a field here; did you mean tokens?",
    ),
    "raises a group": ("raise BaseExceptionGroup('g', [ValueError('x')])\n", "line 1 ends in ExceptionGroup: g"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_recipe_does_ends_in_a_sentence_with_its_line(name, tmp_path):
    text, words = HOSTILE[name]
    file = tmp_path / "recipe.py"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        resolve_recipe(str(file))
    message = str(error.value)
    assert message.startswith(f"{file}: ") and words in message and "\n" not in message, message


CHANGED = {
    "an unknown field": ("tokns=5", "training.tokns is not a field here; did you mean tokens?"),
    "a value out of range": ("tokens=0", "training.tokens is 0, should be greater than 0"),
    "a value of another type": ("tokens='many'", "training.tokens is 'many', should be a valid integer"),
    "an object of another type": ("tokens=config.teacher", "training.tokens: should be a valid integer"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_copy_changes_is_checked_as_what_is_made_anew(name, tmp_path):
    change, words = CHANGED[name]
    file = tmp_path / "recipe.py"
    file.write_text(
        GOOD.replace("def micro", "def _micro")
        + "\n\ndef recipe():\n    config = _micro()\n"
        + f"    training = config.training.model_copy(update=dict({change}))\n"
        + "    return config.model_copy(update={'training': training})\n"
    )
    with pytest.raises(UserError) as error:
        resolve_recipe(str(file))
    assert str(error.value).startswith(f"{file}: recipe(): {words}"), str(error.value)


@pytest.mark.parametrize(
    "text", ["import shared\nmicro = shared.micro", "from shared import micro"], ids=["all", "one"]
)
def test_a_file_may_import_its_neighbours_and_another_recipe_has_neighbours_of_its_own(text, tmp_path, monkeypatch):
    for folder, tokens in (("a", "8192"), ("b", "4096")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "shared.py").write_text(GOOD.replace("8192", tokens).replace("8_192", tokens))
        (tmp_path / folder / "own.py").write_text(f"{text}\n\n\ndef own():\n    import shared\n    return micro()\n")
    monkeypatch.chdir(tmp_path)
    found = []
    for folder in ("a", "b"):
        config = resolve_recipe(f"{folder}/own.py")
        assert isinstance(config, StudyConfig)
        found.append(config.corpus.train_tokens)
    assert found == [8192, 4096] and "shared" not in sys.modules and str(tmp_path / "a") not in sys.path


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ("def micro(:\n", "shared.py line 1 ends in SyntaxError"),
        ("\n1 / 0\n", "shared.py line 2 ends in ZeroDivisionError"),
        ("def micro():\n    raise KeyError('x')\n", "shared.py line 2 ends in KeyError: 'x'"),
        ("", "line 1 ends in ImportError: cannot import name 'micro' from 'shared'"),
    ],
    ids=["no Python", "raises", "raises later", "lacks a name"],
)
def test_a_mistake_in_a_neighbour_is_told_with_its_file_and_line(shared, words, tmp_path):
    (tmp_path / "shared.py").write_text(shared)
    file = tmp_path / "own.py"
    file.write_text("from shared import micro\n\n\ndef own():\n    return micro()\n")
    with pytest.raises(UserError) as error:
        resolve_recipe(str(file))
    assert str(error.value).startswith(f"{file}: {words}") and "\n" not in str(error.value), str(error.value)


def test_a_neighbour_takes_no_place_of_python_s_own_modules(tmp_path):
    (tmp_path / "statistics.py").write_text("mine = 1\n")
    (tmp_path / "own.py").write_text(GOOD + "\n\nimport statistics\n\nassert not hasattr(statistics, 'mine')\n")
    assert isinstance(resolve_recipe(f"{tmp_path}/own.py:micro"), StudyConfig)


FILES_OF_ONE = {
    "one function": "def micro",
    "one that is said to return a study": "def helper(x):\n    return x\n\n\ndef micro",
}


@pytest.mark.parametrize("name", FILES_OF_ONE)
def test_a_file_with_one_recipe_needs_no_function_s_name(name, tmp_path):
    (tmp_path / "other.py").write_text(GOOD.replace("def micro", FILES_OF_ONE[name]))
    assert isinstance(resolve_recipe(str(tmp_path / "other.py")), StudyConfig)


@pytest.mark.parametrize("name", ["ownn.py", "ownn.py:own", "ownn.yaml"])
def test_the_nearest_file_is_named_of_one_that_is_not_there(name, tmp_path):
    for ending in ("py", "yaml"):
        (tmp_path / f"own.{ending}").write_text("")
    with pytest.raises(UserError, match=f"there is no such file; did you mean {tmp_path}/own.{name[5:7]}"):
        resolve_recipe(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a b [1].py", "ü.py", "stillroom.py", "json.py", "config.py", "a:b.py"])
def test_a_recipes_file_may_have_any_name(name, tmp_path):
    file = tmp_path / name
    file.write_text(GOOD)
    assert isinstance(resolve_recipe(f"{file}:micro"), StudyConfig)
    import json

    assert json.__name__ == "json" and sys.modules["stillroom"].__name__ == "stillroom"


def test_a_file_of_spaces_and_brackets_is_asked_for_a_function_of_its_name(tmp_path):
    file = tmp_path / "a b[1].py"
    file.write_text(GOOD.replace("def micro", "def a_b_1_"))
    assert isinstance(resolve_recipe(str(file)), StudyConfig)


def test_dataclasses_and_models_of_a_recipes_own_work(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from stillroom.config import CorpusConfig, RunConfig, SourceConfig\n\n\n@dataclass\nclass Sizes:\n"
        "    none: ClassVar[int] = 1\n    tokens: int = 5\n\n\ndef own() -> RunConfig:\n"
        "    corpus = CorpusConfig(sources={'a': SourceConfig(kind='facts')})\n"
        "    return RunConfig(name=str(Sizes().tokens), corpus=corpus)\n"
    )
    config = resolve_recipe(str(file))
    assert isinstance(config, RunConfig) and config.name == "5"


@pytest.mark.parametrize("make", ["folder", "missing", "dangling", "loop", "pipe"])
@pytest.mark.parametrize("ending", ["py", "yaml"])
def test_what_is_no_file_is_no_recipe(make, ending, tmp_path):
    import os

    file = tmp_path / f"x.{ending}"
    if make == "folder":
        file.mkdir()
    elif make == "dangling":
        file.symlink_to("nowhere")
    elif make == "loop":
        file.symlink_to(file)
    elif make == "pipe":
        os.mkfifo(file)
    with pytest.raises(UserError) as error:
        resolve_recipe(str(file))
    assert str(error.value).startswith(f"{file}: ")


def test_ctrl_c_in_a_recipe_is_ctrl_c(tmp_path):
    (tmp_path / "x.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        resolve_recipe(str(tmp_path / "x.py"))
