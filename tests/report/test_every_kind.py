"""``report`` and ``inspect`` take every kind of run folder, and say of the others what they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import test_sandbox_recall_page
import test_teachers_page

from make_run import SKETCHES, make_run
from stillroom.cli.main import run as command
from stillroom.results.runs import load
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.run_bigram import run_bigram
from stillroom.study.progress import StageDisplay


def study(folder: Path) -> None:
    make_run(folder)


def bigram(folder: Path) -> None:
    sweep = BigramSweep(
        states=8, samples=(50, 500), alphas=(0.5,), teachers=("exact",), temperatures=(1.0,), routings=("none",),
        seeds=2, ratio_supports=(5,), gradient_samples=0, transformer_tokens=0,
    )  # fmt: skip
    run_bigram(sweep, folder, None, StageDisplay())


def recall(folder: Path) -> None:
    test_sandbox_recall_page.make_run(folder)


def ranking(folder: Path) -> None:
    folder.mkdir()
    (folder / "ranking.json").write_text(json.dumps(test_teachers_page.ranking("a", "b")))


def training(folder: Path) -> None:
    """One training's artifact, without its weights."""
    whole = make_run(folder.with_name("whole"))
    shutil.copytree(whole / "models/dpt90", folder)
    for file in ("evaluation.json", "samples.jsonl"):
        (folder / file).unlink()
    (folder / "config.yaml").write_text("kind: run\nname: dpt90\nobjective: {alpha: 0.9, routing: null}\n")
    result = {"parameters": 1_049_600, "distinct_tokens": 1_000_000, "tokens": 1_000_000, "steps": 244, "seconds": 58.8}
    (folder / "result.json").write_text(json.dumps(result | {"validation_ce": 3.2, "corpus": "abc"}))
    shutil.rmtree(whole)


def tuned(folder: Path) -> None:
    """A teacher that was tuned."""
    training(folder)
    (folder / "config.yaml").unlink()
    (folder / "tuning.json").write_text(json.dumps({"kind": "supervised", "base": "abc", "config": {}}))
    (folder / "result.json").write_text(json.dumps({"steps": 5, "tokens": 100, "answer_ce": 1.0, "seconds": 2.0}))


def evaluations(folder: Path) -> None:
    """As ``stillroom evaluate`` leaves them."""
    whole = make_run(folder.with_name("whole"))
    for name in ("spt", "dpt90"):
        shutil.copytree(whole / f"models/{name}", folder / f"{name}-0123abcd")
        (folder / f"{name}-0123abcd/metrics.jsonl").unlink()
    (folder / "comparison.json").write_bytes((whole / "comparison.json").read_bytes())
    shutil.rmtree(whole)


def evaluation(folder: Path) -> None:
    evaluations(folder.with_name("both"))
    (folder.with_name("both") / "spt-0123abcd").rename(folder)
    shutil.rmtree(folder.with_name("both"))


KINDS: dict[Callable[[Path], None], tuple[str, ...]] = {
    study: ("DPT-90", "SPT-2x"),
    bigram: ("Bigram sandbox",),
    recall: ("DPT-90 &lt;b&gt;",),
    ranking: ("A tie: a and b.",),
    training: ("dpt90", "learning"),
    tuned: ("tuned", "learning"),
    evaluations: ("spt", "dpt90", "bits per byte"),
    evaluation: ("evaluation", "bits per byte"),
}


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        command(list(arguments))
    captured = capsys.readouterr()
    return int(done.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_page_is_made_of_every_kind_of_run(kind, tmp_path, capsys):
    run = tmp_path / "my runs [v2]" / kind.__name__
    run.parent.mkdir()
    kind(run)
    code, out, err = call(capsys, "report", str(run))
    assert code == 0, err
    page = Path(out.replace("\n", "").rpartition("Report: ")[2])
    assert page.parent == run and all(word in page.read_text() for word in KINDS[kind])
    code, out, err = call(capsys, "report", str(run), "--out", str(tmp_path / "elsewhere.html"))
    assert code == 0, err
    assert (tmp_path / "elsewhere.html").read_text() == page.read_text()


@pytest.mark.parametrize(
    "kind", [study, bigram, recall, ranking, evaluations, evaluation], ids=lambda one: one.__name__
)
def test_every_kind_of_run_is_inspected(kind, tmp_path, capsys):
    kind(tmp_path / kind.__name__)
    code, out, err = call(capsys, "inspect", str(tmp_path / kind.__name__))
    words = {study: "dpt90", bigram: "sandbox-bigram", recall: "routed", ranking: "A tie: a and b."}
    assert code == 0 and words.get(kind, "bits_per_byte") in out, err


def test_what_measures_models_is_compared_on_one_page(tmp_path, capsys):
    for kind in (study, training, evaluations):
        kind(tmp_path / kind.__name__)
    folders = [str(tmp_path / name) for name in ("study", "training", "evaluations")]
    code, _, err = call(capsys, "report", *folders, "--out", str(tmp_path / "all.html"))
    assert code == 0 and "3 runs compared" in (tmp_path / "all.html").read_text(), err
    ranking(tmp_path / "ranking")
    code, _, err = call(capsys, "report", folders[0], str(tmp_path / "ranking"), "--out", str(tmp_path / "no.html"))
    assert code == 2 and "is a ranking of teachers, whose page is its own; name it alone" in err
    assert not (tmp_path / "no.html").exists()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "is no run, for it holds none of study.json"),
        ({"config.yaml": "kind: study\n"}, "holds no study.json: it is under way and has no results yet"),
        ({"result.json": "[]"}, "result.json"),
        ({"result.json": '{"tokens": "many"}', "metrics.jsonl": ""}, "does not hold what it should"),
        ({"evaluation.json": '{"lm": 5}'}, "evaluation.json"),
        ({"sandbox.json": "{}", "environment.json": "{}", "config.yaml": ""}, "sandbox.json"),
        ({"ranking.json": "{}"}, "ranking.json"),
    ],
)
def test_what_is_no_finished_run_is_told_in_a_sentence(files, words, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    code, _, err = call(capsys, "report", str(tmp_path))
    assert code == 2 and words in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_a_training_is_loaded_with_its_curves(tmp_path):
    training(tmp_path / "one")
    (model,) = load(tmp_path / "one").models
    assert (model.record.alpha, model.record.tokens, model.record.parameters) == (0.9, 1_000_000, 1_049_600)
    assert len(model.validation.tokens) > 5 and model.forward_kl.values and SKETCHES[3].name == model.record.name
