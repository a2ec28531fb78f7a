"""``stillroom label``: what it shows while it runs, a teacher that is a process, and ranks under torchrun."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_labels import contents

from stillroom.config import CorpusConfig, LabelsConfig, SourceConfig
from stillroom.corpora import Corpus, build_corpus, open_corpus
from stillroom.study.labelprogress import LabelProgress, label_stage
from stillroom.study.labels import LabelRequest, exact_scores, label_corpus
from stillroom.study.progress import StageDisplay
from stillroom.teachers import LabelStore, WorldTeacher
from stillroom.types import UserError
from stillroom.worlds.exact import register_exact_world


class Drifting:
    """The next id is near the present one: a process whose distribution depends on one token and one option."""

    def __init__(self, size: int, width: float):
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
    live = WorldTeacher(exact_scores('world:drifting:{"width": 2.0}', built.vocab_size).log_probs, LabelsConfig())
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
        ("world:short", "gives probabilities of 7 tokens, the corpus has"),
    ],
)
def test_a_world_that_does_not_fit_is_refused_in_one_sentence(text_corpus, tmp_path, teacher, sentence):
    display, _ = captured()
    with pytest.raises(UserError, match=sentence):
        label_corpus(LabelRequest(teacher, text_corpus[0], tmp_path / "labels", {}, None, False), display)


class Short:
    """Knows 7 tokens only."""

    def exact_probabilities(self, tokens_BT: np.ndarray) -> np.ndarray:
        return np.full((*tokens_BT.shape, 7), 1 / 7)


def test_a_dry_run_of_a_world_costs_no_flops(text_corpus, tmp_path):
    display, text = captured()
    label_corpus(LabelRequest("world:drifting", text_corpus[0], tmp_path / "labels", {}, 1024, True), display)
    assert "1,024 tokens to label" in text.getvalue() and "0.00e+00 teacher FLOPs" in text.getvalue()
    assert not (tmp_path / "labels").exists()


def test_the_rate_leaves_out_shards_that_were_there(made):
    now = [100.0]
    progress = LabelProgress(made, clock=lambda: now[0])  # 3 shards of 8 sequences of 32 tokens
    progress.update(768, 1536)
    assert progress.tokens_per_second is None and progress.seconds_left is None
    now[0] = 102.0
    progress.update(968, 1536)
    assert progress.tokens_per_second == pytest.approx(100.0) and progress.seconds_left == pytest.approx(5.68)
    size = sum(path.stat().st_size for path in (made / "shards").iterdir()) / 768
    assert progress.bytes_per_token() == pytest.approx(size)
    assert progress.line() == f"63 % of 1,536 tokens, 100 tokens/s, {size:.1f} bytes/token, 0:00:06 left"
    own = LabelProgress(made, rank=1, world_size=2, clock=lambda: now[0])
    now[0] = 103.0
    own.update(256 + 50, 768)
    assert own.tokens_per_second == pytest.approx(50.0)


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
from tiny_labels import IDENTITY, TinySequences, tiny_teacher
from stillroom.config import LabelsConfig
from stillroom.teachers import label_part
torch.set_num_threads(1)
label_part(
    tiny_teacher(), TinySequences(), LabelsConfig(shard_sequences=8), Path({folder!r}), identity=IDENTITY,
    precision="fp32", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]),
)
"""


@pytest.mark.slow
def test_two_ranks_under_torchrun_make_the_store_of_one_process(made, tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(RANK.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "labels")))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    ended = subprocess.run(
        launch, capture_output=True, text=True, timeout=280, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert contents(tmp_path / "labels") == contents(made)
