"""``stillroom init``: what it writes is valid Python that resolves, for any name, text and teacher."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stillroom.cli.main import run
from stillroom.config import StudyConfig
from stillroom.study.recipe_files import resolve_recipe


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, beside one of text."""
    (tmp_path / "work").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("Some words of a text.\n" * 5000)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def ended(*arguments: str) -> object:
    with pytest.raises(SystemExit) as left:
        run(["init", *arguments])
    return left.value.code


def study(file: str) -> StudyConfig:
    config = resolve_recipe(file)
    assert isinstance(config, StudyConfig)
    return config


@pytest.mark.parametrize(
    "name", ["mine", "my-study", "2nd", "class", "a b", "ü", "it's", 'a"""b', "mine.py", "[x]", "{x}"]
)
def test_a_recipe_of_any_name_resolves(name, work):
    assert ended(name, "../texts") == 0
    stem = name.removesuffix(".py")
    config = study(f"{stem}.py")
    assert config.name == stem and config.corpus.sources["text"].path == "../texts"
    assert set(config.arms) == {"spt", "dpt90"} and config.teacher.training is not None


@pytest.mark.parametrize("folder", ["texts", "a b", "it's", '"', "{x}", "ü", "caf\udcff"])
def test_text_of_any_name_is_named_as_it_is(folder, work):
    os.rename("../texts", f"../{folder}")
    assert ended("mine", f"../{folder}") == 0
    assert study("mine.py").corpus.sources["text"].path == f"../{folder}"


@pytest.mark.parametrize("teacher", ["org/name", "models/x", "a/b.gguf", "runs/x:teacher", "it's"])
def test_a_pretrained_teacher_brings_its_tokenizer_and_is_used_as_it_is(teacher, work):
    assert ended("mine", "../texts", "--teacher", teacher) == 0
    config = study("mine.py")
    assert config.teacher.model.path == config.corpus.tokenizer == teacher and config.teacher.training is None


@pytest.mark.parametrize(("copies", "most"), [(1, 30_000), (40, 800_000), (400, 2_000_000)])
def test_what_is_asked_for_is_there(copies, most, work):
    text = Path("../texts/a.txt").read_text() * copies
    Path("../texts/a.txt").write_text(text)
    assert ended("mine", "../texts") == 0
    config = study("mine.py")
    assert 4_096 <= config.corpus.train_tokens <= min(most, len(text) / 5)
    assert config.corpus.heldout_tokens < len(text) / 5 / 20  # one text in twenty is held out
    assert len(text) / config.corpus.sources["text"].max_document_chars > 100


def test_without_text_the_recipe_says_where_it_goes(work, capsys):
    assert ended("mine") == 0
    assert study("mine.py").corpus.sources["text"].path == "text"
    assert "a folder called text" in capsys.readouterr().out
    assert ended("larger", "--tokens", "5000000") == 0 and study("larger.py").training.tokens == 5_000_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine", "nowhere"], "nowhere: is no file and no folder"),
        (["mine", "../empty"], "../empty: holds 0 bytes of text, expected at least 30,000"),
        (["mine", "../short"], "../short: holds 5 bytes of text"),
        (["a/b"], "init: 'a/b': the name holds a slash"),
        ([""], "init: '': the name is empty"),
        ([".."], "init: '..': the name"),
        (["there"], "there.py: is there already, nothing was written"),
        (["dangling"], "dangling.py: is there already"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(arguments, words, work, capsys):
    Path("../empty").mkdir()
    Path("../short").mkdir()
    Path("../short/x.txt").write_text("words")
    Path("there.py").write_text("mine\n")
    Path("dangling.py").symlink_to("nowhere")
    before = sorted(work.iterdir())
    assert ended(*arguments) == 2
    assert words in capsys.readouterr().err and sorted(work.iterdir()) == before
    assert Path("there.py").read_text() == "mine\n"


def test_a_group_of_verbs_alone_shows_its_help(capsys):
    with pytest.raises(SystemExit) as left:
        run(["sandbox"])
    shown = capsys.readouterr()
    assert not left.value.code and "bigram" in shown.out + shown.err and "stillroom: " not in shown.err
