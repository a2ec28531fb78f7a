"""``stillroom label``: what it shows while it runs, a teacher that is a process, and ranks under torchrun."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from stillroom.cli.main import app
from stillroom.config import (
    ArmConfig,
    CorpusConfig,
    LabelsConfig,
    MixtureConfig,
    ModelConfig,
    SourceConfig,
    StudyConfig,
    TeacherConfig,
    TrainingConfig,
)
from stillroom.corpora import Corpus, build_corpus, open_corpus
from stillroom.labels import LabelStore
from stillroom.models import build_model, load_model, unembedding
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.exactworlds import drawn_sequences, exact_scores, exact_world
from stillroom.study.interrupts import Stopper
from stillroom.study.label_stage import LabelRequest, label_corpus
from stillroom.study.labelprogress import bytes_per_token, label_stage
from stillroom.study.pipeline import Stages
from stillroom.study.progress import StageDisplay
from stillroom.teachers import LiveLabels, ModelScores
from stillroom.types import UserError
from stillroom.worlds.exact import ExactBigram, ExactRecall, register_exact_world
from tiny_labels import TinySequences, contents, make, tiny_teacher


class Drifting:
    """The next id is near the present one: a process whose distribution depends on one token and one option."""

    def __init__(self, size: int, width: float):
        self.vocab_size = size
        distance = np.abs(np.arange(size)[:, None] - np.arange(size)[None])
        rows = np.exp(-distance / width)
        self.rows = rows / rows.sum(1, keepdims=True)

    def exact_probabilities(self, tokens_BT: np.ndarray) -> np.ndarray:
        return self.rows[tokens_BT]


@pytest.fixture(scope="module")
def text_corpus(tmp_path_factory) -> tuple[Path, Corpus]:
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    config = CorpusConfig(
        sources={"facts": SourceConfig(kind="facts")},
        sequence_length=32,
        train_tokens=4096,
        heldout_tokens=256,
        vocab_size=280,
    )
    build_corpus(config, folder)
    return folder, open_corpus(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A finished store; not to be written to."""
    folder = tmp_path_factory.mktemp("made") / "labels"
    make(tiny_teacher(), TinySequences(), folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def drifting(text_corpus) -> None:
    size = text_corpus[1].vocab_size
    register_exact_world("drifting", lambda options: Drifting(size, float(options.get("width", 3.0))))
    register_exact_world("short", lambda options: Short())


def captured() -> tuple[StageDisplay, io.StringIO]:
    text = io.StringIO()
    return StageDisplay(Console(file=text, width=200)), text


def test_a_world_labels_a_corpus_and_the_line_says_rate_bytes_and_time(text_corpus, tmp_path):
    folder, built = text_corpus
    display, text = captured()
    label_corpus(LabelRequest('world:drifting:{"width": 2.0}', folder, tmp_path / "labels", {}, 2048, False), display)
    store = LabelStore.open(tmp_path / "labels")
    batch = built.train.batch([0, 5])
    exact = torch.from_numpy(Drifting(built.vocab_size, 2.0).exact_probabilities(batch.tokens_BT.numpy())).float()
    found = store.lookup(batch.tokens_BT)
    dense = torch.zeros_like(exact).scatter_add(2, found.ids, found.weights)
    assert ((dense - exact).abs() < 1 / 50 + 1e-5).all()
    entropy = -torch.xlogy(exact, exact).sum(-1)
    assert (found.entropy - entropy).abs().max() < 0.02
    live = LiveLabels(exact_scores('world:drifting:{"width": 2.0}', built.vocab_size), LabelsConfig())
    told = live.labels(batch)
    assert torch.equal(torch.zeros_like(exact).scatter_add(2, told.ids, told.weights), dense)
    assert "100 % of 2,048 tokens" in text.getvalue() and "tokens/s" in text.getvalue()
    assert " bytes/token, 0:00:00 left" in text.getvalue()


def test_another_option_is_another_teacher(text_corpus, tmp_path):
    folder, _ = text_corpus
    display, _ = captured()
    label_corpus(LabelRequest("world:drifting", folder, tmp_path / "labels", {}, 1024, False), display)
    with pytest.raises(UserError, match=r"identity\.teacher"):
        label_corpus(LabelRequest('world:drifting:{"width": 9}', folder, tmp_path / "labels", {}, 1024, False), display)


@pytest.mark.parametrize(
    ("teacher", "sentence"),
    [
        ("world:nowhere", "no exact world of this name; expected one of: .*drifting"),
        ("world:drifting:[1]", "no JSON object; expected world:NAME"),
        ('world:bigram:{"state": 7}', "state is not a knob.*states"),
        ('world:recall:{"draw": "per-sequence"}', "nobody knows what follows"),
        ("world:recall", "gives probabilities of 65 tokens, the corpus has"),
        ("world:short", "gives probabilities of 7 tokens, the corpus has"),
    ],
)
def test_a_world_that_does_not_fit_is_refused_in_one_sentence(text_corpus, tmp_path, teacher, sentence):
    display, _ = captured()
    with pytest.raises(UserError, match=sentence):
        label_corpus(LabelRequest(teacher, text_corpus[0], tmp_path / "labels", {}, None, False), display)


class Short:
    """Knows 7 tokens only."""

    vocab_size = 7

    def exact_probabilities(self, tokens_BT: np.ndarray) -> np.ndarray:
        return np.full((*tokens_BT.shape, 7), 1 / 7)


DRAWN = {
    "world:bigram": ('world:bigram:{"states": 40, "high_share": 1.0}', ExactBigram),
    "world:recall": ('world:recall:{"characters": 30, "triggers": 3}', ExactRecall),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_world_labels_what_it_draws_itself(name, tmp_path):
    teacher, kind = DRAWN[name]
    out = tmp_path / "labels"
    asked = ["label", teacher, "--tokens", "2000", "--length", "64", "--seed", "3", "--out", str(out)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    store = LabelStore.open(out)
    sequences = drawn_sequences(teacher, 2000, 64, 3)
    assert len(store) == len(sequences) == 31
    batch = sequences.batch(range(31))
    found = store.lookup(batch.tokens_BT)
    world = exact_world(teacher)
    assert isinstance(world, kind)
    exact = torch.from_numpy(world.exact_probabilities(batch.tokens_BT.numpy())).float()
    dense = torch.zeros_like(exact).scatter_add(2, found.ids, found.weights)
    assert ((dense - exact).abs() < 1 / 50 + 1e-5).all()
    assert (found.entropy - -torch.xlogy(exact, exact).sum(-1)).abs().max() < 0.03
    gold = exact[:, :-1].gather(2, batch.tokens_BT[:, 1:, None])[..., 0].log()
    assert (found.gold_logprob[:, :-1] - gold).abs().max() < 0.26
    before = contents(out)
    assert CliRunner().invoke(app, [*asked[:1], f" {teacher}".strip(), *asked[2:]]).exit_code == 0
    assert contents(out) == before


def test_a_student_learns_from_the_labels_of_a_drawn_world(tmp_path):
    teacher = 'world:bigram:{"states": 12, "high_share": 0.5}'
    display, _ = captured()
    label_corpus(LabelRequest(teacher, None, tmp_path / "labels", {}, 6400, False, length=32), display)
    store, batch = LabelStore.open(tmp_path / "labels"), drawn_sequences(teacher, 6400, 32, 0).batch(range(200))
    labels = store.lookup(batch.tokens_BT)
    counts = torch.zeros(12, 12)
    target = torch.zeros(*labels.weights.shape[:2], 12).scatter_add(2, labels.ids, labels.weights)
    counts.index_add_(0, batch.tokens_BT.flatten(), target.flatten(0, 1))
    rows = counts / counts.sum(1, keepdim=True)
    exact = torch.from_numpy(exact_world(teacher).exact_probabilities(np.arange(12)[None])[0]).float()
    assert (rows - exact).abs().max() < 0.01  # the mean of unbiased labels is the process


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["world:bigram"], "--tokens tokens in sequences of --length"),
        (["world:bigram", "--tokens", "100", "--length", "200"], "2 <= length <= tokens"),
        (["world:drifting", "--tokens", "1000"], "draws no sequences; give --corpus"),
        (["some/model"], "only a teacher world:NAME can draw"),
        (["world:bigram", "--tokens", "900", "--with", "b=else"], "--corpus is missing"),
        (["some/model", "--corpus", "c", "--rule", "domain"], "name a second teacher by --with"),
        (["some/model", "--corpus", "c", "--with", "b"], "expected NAME=VALUE"),
        (["some/model", "--corpus", "c", "--with", "b=x", "--with", "b=y"], "every name once"),
        (["some/model", "--corpus", "c", "--with", "b=x", "--weight", "d=2"], "names teacher 'd'"),
        (["some/model", "--corpus", "c", "--with", "b=x", "--weight", "b=-2"], "greater than 0"),
        (["some/model", "--corpus", "c", "--with", "b=x", "--rule", "best"], "rule"),
    ],
)
def test_what_cannot_be_labelled_is_told_in_one_sentence(arguments, sentence, tmp_path):
    ended = CliRunner().invoke(app, ["label", *arguments, "--out", str(tmp_path / "labels")])
    assert isinstance(ended.exception, UserError)
    assert re.search(sentence, str(ended.exception))
    assert not (tmp_path / "labels").exists()


@pytest.fixture(scope="module")
def teachers(text_corpus, tmp_path_factory) -> list[Path]:
    """Two model folders with the corpus's tokenizer."""
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"teacher{seed}")
        model = build_model(
            ModelConfig(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2),
            text_corpus[1].vocab_size,
            seed,
        )
        with torch.no_grad():
            unembedding(model)[0].mul_(12.0)
        model.save_pretrained(folder)
        text_corpus[1].tokenizer.save_pretrained(folder)
        folders.append(folder)
    return folders


@pytest.mark.parametrize("rule", ["average", "position", "domain"])
def test_a_mixture_of_teachers_is_labelled_by_options(text_corpus, teachers, tmp_path, rule):
    folder, built = text_corpus
    asked = ["label", str(teachers[0]), "--with", f"second={teachers[1]}", "--rule", rule, "--corpus", str(folder)]
    asked += {"average": ["--weight", "second=3"], "position": [], "domain": ["--domain", "facts=second"]}[rule]
    asked += ["--tokens", "512", "--codec", "top-k", "--k", "280", "--out", str(tmp_path / "labels")]
    ended = CliRunner().invoke(app, asked)
    assert ended.exit_code == 0, ended.output
    batch = built.train.batch(range(4))
    found = LabelStore.open(tmp_path / "labels").lookup(batch.tokens_BT)
    members = [ModelScores(load_model(path), built.vocab_size, built.isolate) for path in teachers]
    one, two = (torch.cat(list(member.chunks(batch))).log_softmax(-1).exp() for member in members)
    gold = batch.targets_BT.flatten()[:, None]
    takes_two = two.gather(1, gold.clamp(min=0)) > one.gather(1, gold.clamp(min=0))
    by_position = torch.where(gold >= 0, torch.where(takes_two, two, one), (one + two) / 2)
    exact = {"average": 0.25 * one + 0.75 * two, "position": by_position, "domain": two}[rule]
    dense = torch.zeros_like(exact).scatter_add(1, found.ids.flatten(0, 1), found.weights.flatten(0, 1))
    assert (dense - exact).abs().max() < 0.01
    with pytest.raises(UserError, match=r"identity\.teacher"):  # the first teacher alone is another one
        label_corpus(
            LabelRequest(str(teachers[0]), folder, tmp_path / "labels", {"codec": "top-k", "k": 280}, 512, False),
            captured()[0],
        )


def test_the_folder_of_a_training_run_stands_for_its_model(text_corpus, teachers, tmp_path):
    shutil.copytree(teachers[0], tmp_path / "run" / "model")
    for name, teacher in (("one", tmp_path / "run"), ("two", teachers[0])):
        label_corpus(LabelRequest(str(teacher), text_corpus[0], tmp_path / name, {}, 512, False), captured()[0])
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_dry_run_prices_every_member_of_a_mixture(text_corpus, teachers, tmp_path):
    flops = []
    for mixture in (
        None,
        MixtureConfig(teachers={"b": str(teachers[1])}),
        MixtureConfig(rule="domain", teachers={"b": str(teachers[1])}),
    ):
        display, text = captured()
        label_corpus(LabelRequest(str(teachers[0]), text_corpus[0], tmp_path / "x", {}, 1024, True, mixture), display)
        flops.append(float(re.findall(r"(\S+) teacher FLOPs", text.getvalue())[0]))
    assert flops[1] == pytest.approx(2 * flops[0], rel=0.02) and flops[2] == pytest.approx(flops[0], rel=0.02)
    assert not (tmp_path / "x").exists()


def test_a_dry_run_of_a_world_costs_no_flops(text_corpus, tmp_path):
    display, text = captured()
    label_corpus(LabelRequest("world:drifting", text_corpus[0], tmp_path / "labels", {}, 1024, True), display)
    assert "1,024 tokens to label" in text.getvalue() and "0.00e+00 teacher FLOPs" in text.getvalue()
    assert not (tmp_path / "labels").exists()


def test_a_study_shows_the_same_line_as_labelling_alone(text_corpus, teachers, tmp_path):
    config = StudyConfig(
        name="line",
        corpus=CorpusConfig(sources={"facts": SourceConfig(kind="facts")}, sequence_length=32),
        teacher=TeacherConfig(model=ModelConfig(path=str(teachers[0])), training=None),
        labels=LabelsConfig(shard_sequences=16),
        training=TrainingConfig(tokens=1024),
        arms={"kd": ArmConfig(alpha=0.9)},
    )
    display, text = captured()
    stages = Stages(config, ArtifactStore(tmp_path), display, Stopper())
    artifact = stages.labels(text_corpus[1], (teachers[0], "key"))
    assert artifact is not None and LabelStore.open(artifact.store).manifest.num_tokens == 1024
    assert re.search(r"100 % of 1,024 tokens, [\d,]+ tokens/s, [\d.]+ bytes/token, 0:00:00 left", text.getvalue())
    assert "labels ..." in text.getvalue() and "✓ labels" in text.getvalue()
    stages.labels(text_corpus[1], (teachers[0], "key"))
    assert "already there" in text.getvalue() and [stage.reused for stage in stages.record] == [False, True]


def test_shards_that_were_there_are_no_part_of_the_rate(made):
    now = [100.0]
    display, _ = captured()
    with label_stage(display, made) as progress:  # 3 shards of 8 sequences of 32 tokens
        progress.clock, progress.begin = lambda: now[0], now[0]
        progress(768, 1536)
        assert progress.rate is None
        now[0] = 102.0
        progress(968, 1536)
        size = sum(path.stat().st_size for path in (made / "shards").iterdir()) / 768
        assert bytes_per_token(made) == pytest.approx(size)
        line = f"63 % of 1,536 tokens, 100 tokens/s, {size:.1f} bytes/token, 0:00:06 left"
        assert progress.line() == line
    with label_stage(display, made, rank=1, world_size=2) as own:
        own.clock, own.begin = lambda: now[0], 102.0
        now[0] = 103.0
        own(256 + 50, 768)
        assert own.rate == pytest.approx(50.0)


def test_a_terminal_shows_one_line_that_moves(tmp_path):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160)
    with label_stage(StageDisplay(console), tmp_path) as update:
        update(10, 100)
        update(100, 100)
    assert "100 % of 100 tokens" in text.getvalue() and "- bytes/token" in text.getvalue()


RANK = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from tiny_labels import IDENTITY, TinySequences, scores_of, tiny_teacher
from stillroom.config import LabelsConfig
from stillroom.labels import label_part
torch.set_num_threads(1)
label_part(
    scores_of(tiny_teacher()), TinySequences(), LabelsConfig(shard_sequences=8), Path({folder!r}), identity=IDENTITY,
    rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]),
)
"""


@pytest.mark.slow
def test_two_ranks_under_torchrun_make_the_store_of_one_process(made, tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(RANK.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path / "labels")))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    ended = subprocess.run(
        launch, capture_output=True, text=True, timeout=280, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert contents(tmp_path / "labels") == contents(made)


@pytest.mark.parametrize("tokens", [0, -5, 31])
def test_fewer_tokens_than_a_sequence_are_refused(text_corpus, tmp_path, tokens):
    asked = ["label", "world:drifting", "--corpus", str(text_corpus[0]), "--tokens", str(tokens)]
    ended = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "labels")])
    if tokens < 1:  # the option itself refuses these
        assert ended.exit_code == 2 and "--tokens" in ended.output
        assert "greater than or equal to 1" in " ".join(ended.output.split())
    else:
        assert isinstance(ended.exception, UserError)
        assert re.search(rf"--tokens is {tokens}, expected at least one sequence of 32 tokens", str(ended.exception))
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"ids\.npy: no such file"),
        (b"", r"ids\.npy: cannot be read"),
        (b"\x93NUMPY\x01\x00", r"ids\.npy: cannot be read"),
        (b"cos\nsystem\n(S'true'\ntR.", r"ids\.npy: cannot be read .*pickle"),
        (np.array([0.5, 1.5]), r"ids\.npy: holds float64; expected a NumPy file"),
        (np.array(["a"]), r"ids\.npy: holds <U1"),
    ],
)
def test_the_ids_beside_a_sidecar_are_whole_numbers(text_corpus, tmp_path, content, sentence):
    ids, sidecar = tmp_path / "ids.npy", tmp_path / "x.kd"
    sidecar.write_bytes(b"KD.LOGP\n" + bytes(2000))
    if isinstance(content, bytes):
        ids.write_bytes(content)
    elif content is not None:
        np.save(ids, content)
    asked = ["label", "them", "--import", str(sidecar), "--import-tokens", str(ids), "--corpus", str(text_corpus[0])]
    ended = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "labels")])
    assert isinstance(ended.exception, UserError) and re.search(sentence, str(ended.exception))
    assert not (tmp_path / "labels").exists()


def test_a_broken_teacher_ends_the_command_in_one_sentence_and_leaves_nothing(text_corpus, teachers, tmp_path):
    model = load_model(teachers[0])
    with torch.no_grad():
        unembedding(model)[0][5, 5] = float("inf")
    model.save_pretrained(tmp_path / "broken")  # type: ignore[operator]
    text_corpus[1].tokenizer.save_pretrained(tmp_path / "broken")
    for codec in ("sampled", "top-k", "top-p"):
        asked = ["label", str(tmp_path / "broken"), "--corpus", str(text_corpus[0]), "--codec", codec]
        ended = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "labels")])
        assert isinstance(ended.exception, UserError), ended.exception
        assert not (tmp_path / "labels").exists()
