"""The command line: help that teaches and answers at once, mistakes in one sentence, nothing written by a dry run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stillroom.cli.main import app

VERBS = sorted(command.name for command in app.registered_commands if command.name)
MICRO = Path(__file__).parents[1] / "micro.py"


def test_the_verbs_are_there():
    assert VERBS == [
        "config",
        "doctor",
        "evaluate",
        "export",
        "init",
        "inspect",
        "label",
        "ls",
        "report",
        "study",
        "train",
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_has_an_example(verb, call):
    code, out, _ = call([verb, "--help"])
    assert code == 0 and f"stillroom {verb}" in re.sub(r"\s+", " ", out.split("Example", 1)[1])


def test_the_paragraphs_of_help_fill_their_lines_and_examples_keep_theirs(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = [line.strip() for line in call(["sandbox", "bigram", "--help"])[1].splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("Everything is known"))
    paragraph = lines[start : lines.index("", start)]
    assert len(paragraph) > 2 and all(len(line) > 75 for line in paragraph[:-1])  # 100 columns; no short line inside
    assert sum(line.startswith(("stillroom sandbox", "Examples:")) for line in lines) == 3


def test_help_imports_neither_torch_nor_transformers():
    script = (
        "import sys; from stillroom.cli import main\n"
        "try: main.run(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'numpy', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_a_dry_run_prints_everything_and_writes_nothing(call):
    code, out, err = call(["study", str(MICRO), "--set", "evaluation.suites=[lm]", "--dry-run"])
    assert code == 0, err
    for words in ("sequence_length: 64", "alpha: 0.9", "parameters", "FLOPs", "memory", "teacher", "labels", "routed"):
        assert words in out
    assert list(Path().iterdir()) == []


MISTAKES = {
    "unknown recipe": (["study", "quikstart"], ["quikstart", "quickstart"]),
    "unknown field": (["study", str(MICRO), "--set", "arms.spt.alfa=1"], ["alfa", "arms.spt", "alpha"]),
    "unknown arm": (["study", str(MICRO), "--set", "arms.stp.alpha=1"], ["stp", "spt"]),
    "alpha": (["study", str(MICRO), "--set", "arms.spt.alpha=1.5"], ["arms.spt.alpha", "1.5", "1"]),
    "share": (
        ["study", str(MICRO), "--set", "arms.routed.routing.share=1"],
        ["arms.routed.routing.share", "less than 1"],
    ),
    "length": (["study", str(MICRO), "--set", "corpus.sequence_length=512"], ["sequence_length", "512", "128"]),
    "missing arm": (["train", str(MICRO)], ["--arm", "teacher", "spt"]),
    "wrong arm": (["train", str(MICRO), "--arm", "sptt"], ["sptt", "spt"]),
    "missing yaml": (["study", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
    "missing run": (["report", "nowhere"], ["nowhere", "no such"]),
    "missing folder": (["inspect", "nowhere"], ["nowhere", "no such"]),
    "missing corpus": (["label", "x", "--corpus", "nowhere", "--out", "y"], ["nowhere", "no such folder"]),
    "unknown verb": (["distil"], ["distil", "--help"]),
    "unknown option": (["study", "tiny", "--seet", "a=1"], ["--seet", "--set"]),
    "missing argument": (["study"], ["recipe", "--help"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_sentence_and_writes_nothing(name, call):
    arguments, words = MISTAKES[name]
    code, _, err = call(arguments)
    assert code == 2 and len(err.strip().splitlines()) == 1 and err.startswith("stillroom: "), err
    assert all(word in err for word in words), err
    assert list(Path().iterdir()) == []


def test_a_process_ends_as_a_call_does(tmp_path):
    arguments, words = MISTAKES["unknown verb"]
    command = [sys.executable, "-m", "stillroom", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("stillroom: ") and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and all(word in done.stderr for word in words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file or folder"),
        ({}, "holds no file that matches"),
        ({"a.txt": b"\0\1"}, "is binary"),
        ({"a.txt": b"\xe9" * 50}, "is not UTF-8"),
        ({"a.txt": b""}, "holds no text"),
    ],
)
def test_a_bad_corpus_path_ends_in_one_sentence_and_writes_nothing(content, words, call, tmp_path):
    texts = tmp_path / "texts"
    if content is not None:
        texts.mkdir()
        for name, data in content.items():
            (texts / name).write_bytes(data)
    source = f"corpus.sources.python={{kind: files, path: {texts}, share: 1.0}}"
    code, _, err = call(["study", str(MICRO), "--set", source])
    assert code == 2 and words in err and str(texts) in err and "Traceback" not in err, err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_is_asked_first_waits_for_no_library(option):
    code = (
        f"import sys\nfrom stillroom.cli.main import run\ntry:\n    run(['{option}'])\nexcept SystemExit as left:\n"
        "    assert not left.code\nheavy = ('torch', 'transformers', 'pydantic', 'numpy', 'scipy', 'yaml', 'jinja2')\n"
        "assert not [name for name in heavy if name in sys.modules]"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stdout, shown.stderr
