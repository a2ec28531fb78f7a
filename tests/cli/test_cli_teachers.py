"""``stillroom teachers``: help that teaches, mistakes in one sentence with exit code 2, dry runs that write nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillroom.cli.main import run
from stillroom.config import ModelConfig
from stillroom.corpora import Corpus
from stillroom.models import build_model, export_model


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        run(["teachers", *arguments])
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def model(tiny_corpus: Corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "small"
    shape = ModelConfig(hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, max_positions=128)
    export_model(build_model(shape, tiny_corpus.vocab_size, 0), folder)
    tiny_corpus.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("verb", ["rank", "supervise", "reinforce"])
def test_the_help_has_an_example(verb, capsys):
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0 and "Example" in out and f"stillroom teachers {verb}" in " ".join(out.split())


def test_a_dry_run_says_what_it_will_take_and_writes_nothing(model, tiny_corpus, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(
        capsys, "rank", str(model), "--corpus", str(tiny_corpus.folder), "--proxy-tokens", "4096", "--dry-run"
    )
    assert code == 0 and "FLOPs" in out and "2 proxy students" in out and "Nothing was written" in " ".join(out.split())
    code, out, _ = call(capsys, "supervise", str(model), "--out", "tuned", "--problems", "20", "--dry-run")
    assert code == 0 and "20 worked problems" in out
    code, out, _ = call(capsys, "reinforce", str(model), "--out", "tuned", "--dry-run")
    assert code == 0 and "100 steps" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rank", "nowhere/model", "--corpus", "CORPUS"], ["nowhere/model"]),
        (["rank", "./nowhere", "--corpus", "CORPUS"], ["./nowhere", "config.json", "RUN:ARM"]),
        (["rank", "MODEL", "--corpus", "nowhere"], ["--corpus nowhere", "no such folder"]),
        (["rank", "MODEL", "--corpus", "CORPUS", "--sequences", "0"], ["heldout_sequences", "0", "greater than 0"]),
        (["rank", "MODEL", "MODEL", "--corpus", "CORPUS"], ["the same model"]),
        (["rank", "MODEL"], ["--corpus"]),
        (["supervise", "MODEL", "--out", "x", "--families", "betwen"], ["betwen", "between"]),
        (["supervise", "MODEL", "--out", "x", "--epochs", "-1"], ["epochs", "greater than 0"]),
        (["reinforce", "MODEL", "--out", "x", "--steps", "0"], ["steps", "greater than 0"]),
        (["reinforce", "./nowhere", "--out", "x", "--dry-run"], ["./nowhere", "config.json"]),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words, model, tiny_corpus, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [{"MODEL": str(model), "CORPUS": str(tiny_corpus.folder)}.get(word, word) for word in arguments]
    code, _, err = call(capsys, *given)
    assert code == 2, err
    assert err.startswith("stillroom: ") and len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert all(word in err for word in words), err
    assert list(tmp_path.iterdir()) == []


def test_rank_writes_a_ranking_and_a_page(model, tiny_corpus, capsys, tmp_path):
    out = tmp_path / "ranking"
    code, said, _ = call(
        capsys, "rank", str(model), "--corpus", str(tiny_corpus.folder), "--out", str(out), "--sequences", "8",
        "--problems", "2", "--samples", "2",
    )  # fmt: skip
    assert code == 0 and "only candidate" in " ".join(said.split())
    found = json.loads((out / "ranking.json").read_text())
    assert [teacher["name"] for teacher in found["teachers"]] == ["small"]
    page = (out / "ranking.html").read_text()
    assert page.startswith("<!doctype html>") and "small" in page and "http" not in page.replace("http-equiv", "")
