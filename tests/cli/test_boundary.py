"""Every verb with every kind of thing that is not what it asks for: one sentence, exit 2, and nothing written."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillroom.cli import main
from stillroom.files import shaped
from stillroom.report.pages.bigram_page import build_bigram_report
from stillroom.report.pages.recall_page import build_recall_report
from stillroom.report.pages.teachers_page import build_teachers_page
from stillroom.types import UserError

MICRO = str(Path(__file__).parents[1] / "micro.py")


def odd_places(folder: Path) -> dict[str, str]:
    """Paths of every kind that is neither a model, a corpus, a store, a run nor a recipe."""
    folder.mkdir()
    (folder / "file").write_text("x")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "a").write_text("1")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    names = (
        "file",
        "empty",
        "full",
        "dangling",
        "loop",
        "pipe",
        "missing",
        "file/inside",
        "x" * 300,
        "[/red]",
        "caf\udcff",
    )
    return {name[:12]: str(folder / name) for name in names} | {
        "nothing": "", "zero byte": "a\0b", "device": "/dev/zero", "memory": "/proc/self/mem",
    }  # fmt: skip


VERBS = {
    "study": ["study", "{}"],
    "study of yaml": ["study", "{}.yaml"],
    "dry run": ["study", "{}", "--dry-run"],
    "train": ["train", "{}"],
    "train of python": ["train", "{}.py"],
    "label by": ["label", "{}", "--corpus", "{empty}"],
    "label of": ["label", "x", "--corpus", "{}"],
    "label from": ["label", "x", "--corpus", "{empty}", "--import", "{}"],
    "label export": ["label", "--out", "{}", "--export", "o.parquet"],
    "label by source": ["label", "x", "--domain", "{}"],
    "evaluate": ["evaluate", "{}", "--corpus", "{empty}"],
    "evaluate on": ["evaluate", "{empty}", "--corpus", "{}"],
    "export": ["export", "{}", "out"],
    "inspect": ["inspect", "{}"],
    "report": ["report", "{}"],
    "report of two": ["report", "{}", "{}", "--out", "o.html"],
    "rank": ["teachers", "rank", "{}", "--corpus", "{empty}"],
    "rank for": ["teachers", "rank", "{empty}", "--corpus", "{}"],
    "supervise": ["teachers", "supervise", "{}", "--out", "o"],
    "reinforce": ["teachers", "reinforce", "{}", "--out", "o"],
    "recall": ["sandbox", "recall", "--preset", "{}"],
    "recall of yaml": ["sandbox", "recall", "--preset", "{}.yaml"],
    "bigram": ["sandbox", "bigram", "--world", "{}"],
    "bigram of": ["sandbox", "bigram", "--world", "{}.npy", "--dry-run"],
}


def told_once(code: object, err: str) -> bool:
    """Whether a command ended as mistakes do: exit 2, and one sentence at the end of what it printed."""
    lines = err.strip("\n").split("\n")
    starts = [line.startswith("stillroom: ") for line in lines]
    return code == 2 and starts[-1] and sum(starts) == 1 and "Traceback" not in err


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_asked_for_ends_in_one_sentence_and_writes_nothing(verb, call, tmp_path):
    places = odd_places(tmp_path / "places")
    before = sorted(tmp_path.rglob("*"))
    for name, place in places.items():
        arguments = [one.replace("{}", place).replace("{empty}", places["empty"]) for one in VERBS[verb]]
        code, _, err = call(arguments)
        assert told_once(code, err), (name, code, err)
        assert sorted(tmp_path.rglob("*")) == before, (name, err)


OUTS = {
    "study": ["study", MICRO, "--out", "{}"],
    "artifacts": ["study", MICRO, "--artifacts", "{}"],
    "train": ["train", MICRO, "--arm", "spt", "--artifacts", "{}"],
    "train export": ["train", MICRO, "--arm", "spt", "--export", "{}"],
    "label": ["label", "x", "--corpus", "y", "--out", "{}"],
    "evaluate": ["evaluate", "x", "--corpus", "y", "--out", "{}"],
    "export": ["export", "x", "{}"],
    "report": ["report", "x", "--out", "{}/inside"],
    "inspect": ["inspect", "x", "--html", "{}/inside"],
    "rank": ["teachers", "rank", "x", "--corpus", "y", "--out", "{}"],
    "supervise": ["teachers", "supervise", "x", "--out", "{}"],
    "recall": ["sandbox", "recall", "--out", "{}"],
    "bigram": ["sandbox", "bigram", "--out", "{}"],
    "cells": ["sandbox", "bigram", "--artifacts", "{}"],
}


@pytest.mark.parametrize("verb", OUTS)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(verb, call, tmp_path):
    places = odd_places(tmp_path / "places")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "dangling", "loop", "pipe", "file/inside", "zero byte", "x" * 12):
        arguments = [one.replace("{}", places[name]) for one in OUTS[verb]]
        code, _, err = call(arguments)
        assert told_once(code, err) and len(err.strip("\n").split("\n")) == 1, (name, code, err)
        assert "expected a f" in err or "null byte" in err, (name, err)
        assert sorted(tmp_path.rglob("*")) == before, (name, err)


FILES = {
    "report": ["report", "x", "--out", "{}"],
    "inspect": ["inspect", "x", "--html", "{}"],
    "label": ["label", "--out", "x", "--export", "{}"],
}


@pytest.mark.parametrize("verb", FILES)
def test_a_file_never_takes_the_place_of_a_device(verb, call, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "pipe"), "/dev/null", "/dev/stdout"):
        code, _, err = call([one.replace("{}", name) for one in FILES[verb]])
        assert told_once(code, err) and f"{name}: is a pipe, a socket or a device" in err, err


BAD_OPTIONS = {
    "no number": ["study", MICRO, "--jobs", "many"],
    "no jobs": ["study", MICRO, "--jobs", "0"],
    "no tokens": ["label", "x", "--corpus", "y", "--tokens", "0"],
    "fewer than none": ["label", "x", "--corpus", "y", "--tokens", "-5"],
    "a share above one": ["label", "x", "--corpus", "y", "--codec", "top-p", "--p", "1.5"],
    "no pointers": ["label", "x", "--corpus", "y", "--num-samples", "0"],
    "not a number": ["label", "x", "--corpus", "y", "--temperature", "nan"],
    "unknown codec": ["label", "x", "--corpus", "y", "--codec", "[/red]"],
    "unknown option": ["study", "--[/red]\x1b[31m"],
    "unknown verb": ["[/red]\x1b[31m"],
    "negative problems": ["teachers", "rank", "x", "--corpus", "y", "--problems", "-1"],
    "seed": ["teachers", "rank", "x", "--corpus", "y", "--seed", "99999999999999999999999"],
    "endless rate": ["teachers", "supervise", "x", "--out", "y", "--learning-rate", "inf"],
    "bigram alpha": ["sandbox", "bigram", "--alpha", "2"],
    "bigram samples": ["sandbox", "bigram", "--samples", "nan"],
    "bigram endless samples": ["sandbox", "bigram", "--samples", "inf"],
    "bigram states": ["sandbox", "bigram", "--states", "1000000000000"],
    "recall seeds": ["sandbox", "recall", "--seeds", "0"],
    "recall seeds without end": ["sandbox", "recall", "--seeds", "99999999999999999999999", "--dry-run"],
    "no suite": ["evaluate", "x", "--corpus", "y", "--suite", ","],
    "world states": ["label", 'world:bigram:{"states": 1000000}', "--tokens", "1000"],
    "world entropy": ["label", 'world:bigram:{"low_entropy": NaN}', "--tokens", "1000"],
    "world seed": ["label", 'world:recall:{"seed": -1}', "--tokens", "1000"],
    "recall length": ["sandbox", "recall", "--set", "world.sequence_length=1000000000"],
    "state and end": ["study", MICRO, "--status", "--cancel"],
    "price and reasons": ["study", MICRO, "--dry-run", "--explain"],
    "two names": ["study", MICRO, "--set", "arms={a: {}, A: {}}"],
    "an alias": ["study", MICRO, "--set", "arms=&a {b: *a}"],
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_a_bad_value_of_an_option_is_one_line(name, call, tmp_path):
    code, _, err = call(BAD_OPTIONS[name])
    assert told_once(code, err) and len(err.strip("\n").split("\n")) == 1, err
    assert "\x1b[31m" not in err.replace("\x1b[1;31m", "") and list(Path().iterdir()) == []


EVALUATIONS = {
    "copying": (["evaluation.copying_period=100"], "copying_period 100 x copying_repeats 3 takes 300 tokens"),
    "recall": (["evaluation.recall_length=200"], "recall_length 200"),
    "needles": (["evaluation.suites=[retrieval]", "evaluation.needle_lengths=[500]"], "needle_lengths 500"),
    "samples": (["evaluation.max_new_tokens=128"], "max_new_tokens 128"),
    "triggers": (["evaluation.recall_triggers=200"], "recall_triggers is 200"),
    "vocabulary": (["evaluation.copying_vocabulary=5"], "copying_period is 8"),
    "ks": (["evaluation.ks=[1, 100]"], "pass@100"),
}


@pytest.mark.parametrize("name", EVALUATIONS)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_cannot_be_measured_is_told_before_anything_is_trained(name, more, call):
    assignments, words = EVALUATIONS[name]
    code, _, err = call(["study", MICRO, *more, *(part for one in assignments for part in ("--set", one))])
    assert told_once(code, err) and len(err.strip("\n").split("\n")) == 1, err
    assert words in err and list(Path().iterdir()) == []


UNEXPECTED = {
    "no right": (PermissionError(errno.EACCES, "Permission denied", "/a/[b]"), "/a/[b]: the system refuses"),
    "two files": (OSError(errno.EXDEV, "Cross-device link", "/a", None, "/b"), "/a -> /b: the system refuses"),
    "no such": (
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/a\udcff"),
        "/a\\udcff: the system refuses",
    ),
    "text": (UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range"), "a text cannot be read or written"),
    "memory": (MemoryError(), "memory does not suffice"),
    "depth": (RecursionError("maximum recursion depth"), "nested too deeply"),
    "the end of a file": (EOFError("compressed file ended"), "ended too early"),
    "a mistake": (UserError("a\nb\x1b[2J"), "a\\nb\\x1b[2J"),
}


@pytest.mark.parametrize("name", UNEXPECTED)
def test_what_a_system_answers_unexpectedly_is_a_sentence_too(name, call, monkeypatch):
    error, words = UNEXPECTED[name]

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("stillroom.study.recipe_files.resolve_recipe", fails)
    monkeypatch.setattr("stillroom.cli.ask.resolve_recipe", fails)
    code, _, err = call(["study", "tiny"])
    assert told_once(code, err) and words in err, err


def test_a_broken_promise_of_the_program_is_no_mistake_of_the_users(monkeypatch):
    def fails(*_: object) -> None:
        raise AssertionError("broken")

    monkeypatch.setattr("stillroom.cli.ask.resolve_recipe", fails)
    with pytest.raises(AssertionError, match="broken"):
        main.run(["study", "tiny"])


def test_ctrl_c_is_told_as_such(call, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stillroom.cli.ask.resolve_recipe", stopped)
    code, _, err = call(["study", "tiny"])
    assert code == 130 and "stopped; what was complete is kept" in err


def started(arguments: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"} | options.pop("env", {})  # type: ignore[operator]
    command = [sys.executable, "-m", "stillroom", *arguments]
    return subprocess.run(command, env=environment, check=False, stderr=subprocess.PIPE, **options)  # type: ignore


def test_a_reader_that_goes_away_is_not_complained_of():
    read, write = os.pipe()
    os.close(read)
    done = started(["--help"], stdout=write)
    os.close(write)
    assert done.returncode == 1 and done.stderr == b""


@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_a_terminal_without_a_sign_shows_its_code(env, tmp_path):
    done = started(["report", os.fsdecode(b"caf\xff-\xc3\xbc-[/red]")], cwd=tmp_path, env=env, stdout=subprocess.PIPE)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert done.stderr.isascii() and b"[/red]: no such folder" in done.stderr


SHAPES: tuple[str, ...] = (
    "null",
    "[]",
    "3",
    '"x"',
    "{}",
    '{"a": 1}',
    "[[[]]]",
    "true",
    "[" * 5000 + "]" * 5000,
    "",
    "{",
    "NaN",
)


def variants(good: str) -> list[str]:
    """A file's text with other shapes, and its object with each part left out or of another kind."""
    values = json.loads(good)
    made = list(SHAPES)
    for name, value in values.items():
        made.append(json.dumps({key: other for key, other in values.items() if key != name}))
        made += [json.dumps(values | {name: odd}) for odd in (None, [[1]]) if odd != value]
    return made


def test_a_corpus_whose_manifest_has_another_shape_ends_in_one_sentence(call, tiny_corpus, tmp_path):
    import shutil

    folder = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.folder, folder)
    good = (folder / "corpus.json").read_text()
    refused = 0
    for text in variants(good):
        (folder / "corpus.json").write_text(text)
        code, _, err = call(["inspect", str(folder)])
        assert code == 0 or told_once(code, err), (text, err)
        refused += code == 2
    assert refused > len(SHAPES) + 20


@pytest.mark.parametrize(
    "text", [*SHAPES, '{"places": 3}', '{"places": {"corpus": 3, "models": {}}}', '{"places": {"corpus": "x"}}']
)
def test_a_study_whose_places_have_another_shape_ends_in_one_sentence(text, call, tmp_path):
    (tmp_path / "study.json").write_text(text)
    code, _, err = call(["teachers", "rank", str(tmp_path), "--corpus", str(tmp_path)])
    assert told_once(code, err) and "study.json" in err, err


PAGES = {
    "ranking.json": (build_teachers_page, dict.fromkeys(
        ("teachers", "teacher_loss", "agreement", "recommendation", "settings", "heldout", "corpus", "student"))),
    "sandbox.json": (build_recall_report, {"kind": "recall"} | dict.fromkeys(
        ("world", "arms", "teachers", "seeds", "tokens", "name"))),
    "sandbox.json of bigrams": (build_bigram_report, {"kind": "sandbox-bigram"} | dict.fromkeys(
        ("world", "samples", "seeds", "arms", "theory", "ratio", "pass", "deviation", "stages", "total_seconds"))),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_results_of_another_shape_is_a_sentence(name, tmp_path):
    build, parts = PAGES[name]
    file = tmp_path / name.partition(" ")[0]
    (tmp_path / "environment.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("kind: x\n")
    fillings = [dict.fromkeys(parts, odd) | {key: value for key, value in parts.items() if value} for odd in
                (None, [], {}, "x", 1, [None], [{}], {"a": None})]  # fmt: skip
    for text in (*SHAPES, *map(json.dumps, fillings)):
        file.write_text(text)
        with pytest.raises(UserError) as error:
            build(tmp_path)
        assert str(error.value).startswith(f"{file}: "), error.value
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json", ".yaml"]


def test_a_broken_promise_inside_a_shaped_block_passes():
    with pytest.raises(AssertionError), shaped(Path("x"), "y"):
        raise AssertionError
    with pytest.raises(UserError, match="x: does not hold what it should has no 'a'"), shaped(Path("x"), "y"):
        {}["a"]
    assert isinstance(sys.stdout, io.TextIOBase)
