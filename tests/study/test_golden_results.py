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

from stillroom.choosing import RankRequest, RankSettings, prepare_ranking, rank_teachers
from stillroom.choosing.positions import Positions
from stillroom.choosing.tuning import reinforce as reinforcement
from stillroom.choosing.tuning.supervise import SupervisedConfig, supervise, worked_problems
from stillroom.config import CorpusConfig, ModelConfig, ObjectiveConfig, SourceConfig, TrainingConfig, override
from stillroom.console import Terminal
from stillroom.corpora import Part, load_tokenizer
from stillroom.corpora.tasks import task_lists
from stillroom.files import fingerprint, read_json, read_json_lines
from stillroom.results.json_form import as_json
from stillroom.results_versions import RESULTS_VERSIONS
from stillroom.sandbox.bigram.bigram_cells import seed_cell, theory_cell
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.bigram_transformer import transformer_cell
from stillroom.sandbox.recall.recall_cell import Cell, train_cell
from stillroom.sandbox.recall.recall_config import (
    RecallArmConfig,
    RecallConfig,
    RecallProbeConfig,
    RecallTeacherConfig,
    RecallWorldConfig,
)
from stillroom.study.label_stage import LabelRequest, label_corpus
from stillroom.study.pipeline import run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.vocabulary import Vocabulary
from stillroom.worlds.problems_world import problems

GOLDEN: dict[tuple[str | int, ...], str] = {
    ("corpus", 1): "bb27616270858b11",
    ("corpus", 2): "b22d51eea5a85e48",
    ("large-corpus", 3): "be19592c7fd7fa07",
    ("model", 1): "d719d97df85a87ab",
    ("labels", 1): "7ad1fc0990d6737f",
    ("evaluation", 1): "42ef15da8bb6ea5f",
    ("evaluation", 2): "4cb98f2698e7a743",
    ("sandbox-bigram", 1): "20a574eb789122c8",
    ("ranking", 1): "e13e6429b5ac202b",
    ("tuning", 1): "0f9c68070444f04a",
    ("ranking", 1, 2): "e8f21e2c395b0277",
    ("tuning", 1, 2): "6f456e92ee5fadea",
    ("sandbox-recall", 1): "191758c35924d147",
    ("sandbox-bigram-transformer", 1): "f7a37f3a51d288bb",
}
LOSSES: dict[tuple[str | int, ...], list[float]] = {
    ("model", 1): [5.69425978, 5.61255895, 5.59120785, 5.69425978, 5.6222785, 5.60789735],
    ("evaluation", 1): [5.94543066, -0.00191779],
    ("evaluation", 2): [5.94543066, -0.00191779],
    ("model", 1, 2): [5.70676067, 5.63572275, 5.57095271, 5.70676067, 5.64196457, 5.58554769],
    ("evaluation", 2, 2): [6.23990161, -0.04871042],
    ("ranking", 1): [
        5.36982537,
        -0.30761168,
        0.96040525,
        5.60789735,
        -0.09090152,
        1.00298496,
        0.99528775,
        0.99628633,
        0.00507076,
        5.59120784,
        0.22963814,
        7.8,
    ],
    ("tuning", 1): [8, 3072, 5.43109469],
    ("tuning", 1, 2): [8, 3072, 5.43987967],
    ("ranking", 1, 2): [
        5.33401736,
        -0.34512917,
        0.95746951,
        5.58554771,
        -0.11306074,
        1.00261984,
        0.99514971,
        0.99611187,
        0.00470054,
        5.57095271,
        0.22963814,
        7.8,
    ],
    ("sandbox-recall", 1): [
        2.46989846,
        2.38313258,
        0.90802425,
        0.39074833,
        0.07748913,
        2.46764445,
        2.3875552,
        0.90036267,
        0.38254113,
        0.07555594,
    ],
    ("sandbox-bigram-transformer", 1): [
        1.83306038,
        0.3572444,
        0.75500053,
        0.39542124,
        1.42330897,
        1.84432507,
        0.35848847,
        0.76129025,
        0.39899337,
        1.44864535,
    ],
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


def key_of(stage: str) -> tuple[str | int, ...]:
    """A stage and its version; where it is measured on a corpus, that of corpora too since their second."""
    corpus = RESULTS_VERSIONS["corpus"]
    is_of_corpus = stage in ("model", "evaluation", "ranking", "tuning") and corpus > 1
    return (stage, RESULTS_VERSIONS[stage], *([corpus] if is_of_corpus else []))


def check(stage: str, found: str) -> None:
    key = key_of(stage) if key_of(stage) in GOLDEN else key_of(stage)[:2]
    assert GOLDEN.get(key) == found, f"results of stage {stage} changed; see the head of this file: {key}: {found!r}"


def check_near(stage: str, found: list[float]) -> None:
    key = key_of(stage)
    assert LOSSES.get(key) == pytest.approx(found, rel=1e-3, abs=1e-3), f"see the head of this file: {key}: {found}"


def test_every_stage_has_one() -> None:
    assert {key_of(stage)[:2] for stage in RESULTS_VERSIONS} <= set(GOLDEN)


def test_corpus(artifacts: Path) -> None:
    digest = hashlib.sha256()
    for file in sorted((artifacts.parent / "artifacts").glob("corpus-*/corpus/*/*.npy")):
        digest.update(f"{file.parent.name}/{file.name}".encode() + np.load(file).tobytes())
    check("corpus", digest.hexdigest()[:16])


def test_large_corpus() -> None:
    parts = {"one": [Part(f"{number}.txt", 0, 1, "bytes", 100_000) for number in range(3_000)]}
    config = CorpusConfig(sources={"one": SourceConfig(kind="files", path=".")}, train_tokens=40_000_000)
    check("large-corpus", fingerprint([task.key() for task in task_lists(config, parts)["train", "one"].tasks]))


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
    cells = json.dumps(as_json([seed_cell(world, sweep, 0), theory_cell(world, sweep)]), sort_keys=True)
    check("sandbox-bigram", fingerprint(json.loads(cells, parse_float=lambda text: f"{float(text):.6g}")))


@pytest.fixture
def whole_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``auto`` stands for would be bf16 on some machines."""
    for module in ("choosing.measure", "choosing.tuning.supervise"):
        monkeypatch.setattr(f"stillroom.{module}.own_precision", lambda *_: "fp32")
    monkeypatch.setattr("stillroom.sandbox.bigram.bigram_transformer.precision_name", lambda *_: "fp32")


def display() -> StageDisplay:
    return StageDisplay(Terminal(quiet=True))


def shape_of(found: object) -> object:
    """Names of fields, whole numbers and words; of other numbers only that they are there."""
    if isinstance(found, dict):
        return {name: shape_of(one) for name, one in found.items()}
    if isinstance(found, list):
        return [shape_of(one) for one in found]
    return "a number" if isinstance(found, float) else found


def test_ranking(artifacts: Path, tmp_path: Path, whole_precision: None) -> None:
    settings = RankSettings(
        heldout_sequences=16, copying_sequences=4, copying_period=8, copying_repeats=3, problems=4,
        samples_per_problem=2, max_new_tokens=4, proxy_tokens=1024,
    )  # fmt: skip
    asked = RankRequest([f"{artifacts}:teacher", f"{artifacts}:dpt90"], artifacts, None, tmp_path / "out", settings)
    rank_teachers(prepare_ranking(asked), display())
    found = read_json(tmp_path / "out" / "ranking.json")
    first, second = found["teachers"]
    measured = [shape_of(one["looking_back"]["copying"]) for one in found["teachers"]]
    counts = [found["heldout"], found["settings"], [one["copyable"]["share"] for one in found["teachers"]]]
    check("ranking", fingerprint([sorted(found), sorted(first), sorted(first["cost"]), measured, counts]))
    sampled = [Positions.load(file) for file in sorted(tmp_path.glob("out/teachers/*/positions.npz"))]
    assert len(sampled) == 3 and len({one.logprob_PV.shape for one in sampled}) == 1  # the teachers, and the student
    values = [one[name]["value"] for one in (first, second) for name in ("ce", "overconfidence_nats", "capacity")]
    values += [one["leak"]["shared"]["value"] for one in (first, second)]
    values += [found["agreement"]["jensen_shannon_nats"][0][1], found["proxies"]["hard_labels_ce"][0]]
    check_near("ranking", [*values, first["cost"]["flops"] / 1e9, first["cost"]["bytes_per_token"]])


class Arguments(dict):
    """Stands for what TRL takes, so that it need not be installed."""

    GRPOConfig = dict


def test_tuning(artifacts: Path, tmp_path: Path, whole_precision: None) -> None:
    run = json.loads((artifacts / "study.json").read_text())
    base = artifacts / run["places"]["models"]["spt"]
    tokenizer, families = load_tokenizer(str(base)), {"families": "between pair_sum"}
    data = worked_problems(tokenizer, num=40, length=96, seed=0, split="train", options=families)
    digest = hashlib.sha256(data.tokens_ST.tobytes() + data.targets_ST.tobytes() + data.document_ST.tobytes())
    items = problems(8, 0, split="train", options=families)
    config = reinforcement.ReinforcedConfig(families=families["families"], steps=20)
    arguments = reinforcement._arguments(Arguments, config, Path("out")) | {"use_cpu": 0, "dataloader_pin_memory": 0}
    vocabulary = Vocabulary.of(tokenizer)
    endings = [[*tokenizer(f" {answer}")["input_ids"], *end] for answer in range(12) for end in ([], [vocabulary.eos])]
    reward = reinforcement.reward_function(items, vocabulary)
    rewards = [reward(completion_ids=endings, number=[place] * len(endings)) for place in range(len(items))]
    rows = reinforcement._rows(tokenizer, items)
    check("tuning", fingerprint([digest.hexdigest(), rows, arguments, rewards]))
    tuning = SupervisedConfig(
        families=families["families"], problems=40, heldout_problems=8, sequence_length=96, epochs=2, batch_sequences=4
    )
    supervise(str(base), tuning, tmp_path / "tuned", display())
    result = read_json(tmp_path / "tuned" / "result.json")
    check_near("tuning", [result["steps"], result["tokens"], result["answer_ce"]])


def test_recall_cells(tmp_path: Path) -> None:
    config = RecallConfig(
        world=RecallWorldConfig(characters=12, triggers=2, sequence_length=16),
        model=ModelConfig(hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, max_positions=64),
        training=TrainingConfig(steps=6, batch_sequences=4, validate_every=0, precision="fp32"),
        teachers={"leaking": RecallTeacherConfig(kind="leaking", leak=0.1)},
        arms={
            "spt": RecallArmConfig(label="SPT"),
            "leaking": RecallArmConfig(label="DPT-90", teacher="leaking", objective=ObjectiveConfig(alpha=0.9)),
        },
        probes=RecallProbeConfig(sequences=8, pattern_sequences=2, per_doubling=1),
    )
    found, last = [], []
    for name in config.arms:
        train_cell(tmp_path / name, config, Cell(name, 0))
        probes = read_json_lines(tmp_path / name / "probes.jsonl")
        result = {key: value for key, value in read_json(tmp_path / name / "result.json").items() if key != "seconds"}
        found += [[shape_of(probe) for probe in probes], shape_of(result)]
        last += [probes[-1][one] for one in ("loss", "copy_loss", "kl", "kl_high", "calibration_error")]
    check("sandbox-recall", fingerprint(found))
    check_near("sandbox-recall", last)


def test_bigram_transformer(tmp_path: Path, whole_precision: None) -> None:
    sweep = BigramSweep(
        states=8, teachers=("exact",), alphas=(0.9,), ratio_supports=(5,), transformer_tokens=8192, seeds=1
    )
    world, found, last = sweep.make_world(), [], []
    for arm in sweep.transformer_arms():
        transformer_cell(tmp_path / arm.name, world, sweep, arm, 0)
        cell = {key: value for key, value in read_json(tmp_path / arm.name / "cell.json").items() if key != "seconds"}
        found.append([arm.name, shape_of(cell)])
        last += [cell["validation_ce"], *cell["tv"][-1].values(), *cell["kl"][-1].values()]
    check("sandbox-bigram-transformer", fingerprint(found))
    check_near("sandbox-bigram-transformer", last)
