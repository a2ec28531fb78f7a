"""What each stage makes of a tiny input, by the version of its results: it fails when results change without one.

To change results on purpose: raise the stage in ``stillroom.results_versions``, say so in CHANGELOG.md, and add a line
for the new version here, which a failure prints. A line that is there is never edited. What does not depend on the
processor is hashed: token ids, the bytes of labels of an exact world, sizes and rates of steps, which measures there
are, numbers of tables to six digits. Losses and scores of trained weights are compared to a part in a thousand.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from stillroom.config import override
from stillroom.console import Terminal
from stillroom.files import fingerprint, read_json, read_json_lines
from stillroom.results_versions import RESULTS_VERSIONS
from stillroom.sandbox.bigram.bigram_cells import seed_cell, theory_cell
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.study.label_stage import LabelRequest, label_corpus
from stillroom.study.pipeline import run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe

GOLDEN: dict[tuple[str, int], str] = {
    ("corpus", 1): "bb27616270858b11",
    ("model", 1): "d719d97df85a87ab",
    ("labels", 1): "7ad1fc0990d6737f",
    ("evaluation", 1): "42ef15da8bb6ea5f",
    ("sandbox-bigram", 1): "20a574eb789122c8",
}
LOSSES: dict[tuple[str, int], list[float]] = {
    ("model", 1): [5.69425978, 5.61255895, 5.59120785, 5.69425978, 5.6222785, 5.60789735],
    ("evaluation", 1): [5.94543066, -0.00191779],
}
SETTINGS = (
    "training.tokens=1024", "training.precision=fp32", "teacher.training.tokens=1024",
    "teacher.training.precision=fp32", "corpus.train_tokens=4096",
)  # fmt: skip


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("golden")
    config = override(resolve_recipe(str(Path(__file__).parents[1] / "micro.py")), list(SETTINGS))
    sources = {name: one for name, one in config.corpus.sources.items() if name != "python"}  # another in every Python
    corpus = config.corpus.model_copy(update={"sources": sources})
    arms = {name: config.arms[name] for name in ("spt", "dpt90")}
    config = config.model_copy(update={"corpus": corpus, "arms": arms})
    return run_study(config, root / "run", root / "artifacts", StageDisplay(Terminal(quiet=True)))


def check(stage: str, found: str) -> None:
    key = (stage, RESULTS_VERSIONS[stage])
    assert GOLDEN.get(key) == found, f"results of stage {stage} changed; see the head of this file: {key}: {found!r}"


def check_near(stage: str, found: list[float]) -> None:
    key = (stage, RESULTS_VERSIONS[stage])
    assert LOSSES.get(key) == pytest.approx(found, rel=1e-3, abs=1e-3), f"see the head of this file: {key}: {found}"


def test_corpus(artifacts: Path) -> None:
    digest = hashlib.sha256()
    for file in sorted((artifacts.parent / "artifacts").glob("corpus-*/corpus/*/*.npy")):
        digest.update(f"{file.parent.name}/{file.name}".encode() + np.load(file).tobytes())
    check("corpus", digest.hexdigest()[:16])


def test_model(artifacts: Path) -> None:
    for name in ("spt", "dpt90"):
        records = read_json_lines(artifacts / "models" / name / "metrics.jsonl")
        assert records
    train = [one for one in records if one["kind"] == "train"]
    check("model", fingerprint([[one["tokens"], round(one["learning_rate"], 9)] for one in train]))
    losses = [
        one["ce"] for name in ("spt", "dpt90") for one in read_json_lines(artifacts / f"models/{name}/metrics.jsonl")
    ]
    check_near("model", losses)


def test_labels(tmp_path) -> None:
    values = {"codec": "sampled", "num_samples": 20, "seed": 3}
    request = LabelRequest("world:bigram", None, tmp_path / "labels", values, 2048, False, None, 64)
    label_corpus(request, StageDisplay(Terminal(quiet=True)))
    files = sorted((tmp_path / "labels").rglob("*.bin"))
    check("labels", fingerprint([hashlib.sha256(file.read_bytes()).hexdigest() for file in files]))


def test_evaluation(artifacts: Path) -> None:
    found = read_json(artifacts / "models/spt/evaluation.json")
    check("evaluation", fingerprint({name: sorted(part) for name, part in found.items()}))
    values = [found["lm"]["bits_per_byte"]["value"], found["copying"]["icl_score"]["value"]]
    check_near("evaluation", values)


def test_bigram_cells() -> None:
    sweep = BigramSweep(states=8, samples=(100, 1000), seeds=1, teachers=("exact",), ratio_supports=(5,))
    world = sweep.make_world()
    cells = json.dumps([seed_cell(world, sweep, 0), theory_cell(world, sweep)], sort_keys=True, default=list)
    check("sandbox-bigram", fingerprint(json.loads(cells, parse_float=lambda text: f"{float(text):.6g}")))
