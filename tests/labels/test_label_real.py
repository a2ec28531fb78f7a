"""The real teacher labels real text, and its store is small, faithful and read back."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from stillroom.config import CorpusConfig, LabelsConfig, SourceConfig
from stillroom.corpora import build_corpus
from stillroom.labels import Identity, LabelStore, inspect_store, label
from stillroom.models import load_model
from stillroom.teachers import LiveLabels, ModelScores
from stillroom.teachers.smollm2 import WEIGHTS, take_weights, unpack_smollm2
from stillroom.types import Batch

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("gguf", "accelerate")),
        reason="reading GGUF needs the extra gguf",
    ),
]
LENGTH = 256
FOLDER = Path(__file__).parents[2] / "teachers" / "smollm2-135m"
"""Made by ``make smollm-teacher``."""


class Source:
    """Python's own library, packed."""

    sequence_length = LENGTH

    def __init__(self, tokenizer, count: int):
        text = Path(importlib.util.__file__).parent.joinpath("abc.py").read_text() + Path(torch.__file__).read_text()
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][: count * LENGTH]
        self._tokens = torch.tensor(ids).view(count, LENGTH)

    def __len__(self) -> int:
        return len(self._tokens)

    def batch(self, indices: Sequence[int]) -> Batch:
        tokens_BT = self._tokens[list(indices)]
        targets_BT = torch.nn.functional.pad(tokens_BT[:, 1:], (0, 1), value=-100)
        return Batch(tokens_BT, targets_BT, torch.zeros_like(tokens_BT, dtype=torch.int32))


def test_a_real_teacher_over_real_text(tmp_path_factory):
    folder = unpack_smollm2(FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load_model(folder, dtype=torch.bfloat16)
    source = Source(tokenizer, 24)
    out = tmp_path_factory.mktemp("real") / "labels"
    identity: Identity = {
        "teacher": "smollm2",
        "tokenizer": "smollm2",
        "vocab_size": len(tokenizer),
        "corpus": "python",
    }
    manifest = label(
        ModelScores(model, len(tokenizer)), source, LabelsConfig(shard_sequences=8), out, identity=identity
    )
    assert 0.5 < manifest.teacher_ce_nats < 4.0 and abs(manifest.teacher_ce_nats - manifest.teacher_entropy_nats) < 1.0
    assert float(manifest.fidelity["squared_error_over_independent"]) <= 0.5
    store = LabelStore.open(out)
    assert list(store.verify()) == [1, 2, 3]
    batch = source.batch([5, 17])
    stored, live = store.labels(batch), LiveLabels(ModelScores(model, len(tokenizer)), LabelsConfig()).labels(batch)
    assert (stored.entropy - live.entropy).abs().mean() < 0.05
    inspection = inspect_store(store, decode=tokenizer.decode)
    records = sum(size for name, size in inspection.bytes_by_column.items() if "codebook" not in name)
    assert records < 26  # at 256 tokens a record; 6,144 tokens share one codebook, which is left out


def test_a_gguf_file_is_a_teacher_of_the_label_command(tmp_path: Path) -> None:
    """The weights as they are distributed, named on the command line, beside the folder that was made of them."""
    weights = tmp_path / WEIGHTS
    take_weights(weights)
    sources = {"python": SourceConfig(kind="python-library")}
    config = CorpusConfig(
        sources=sources, tokenizer=str(FOLDER), sequence_length=64, train_tokens=1024, heldout_tokens=64
    )
    build_corpus(config, tmp_path / "corpus")
    stores = []
    for name, teacher in (("file", weights), ("folder", FOLDER)):
        out = tmp_path / name
        arguments = ["label", str(teacher), "--corpus", str(tmp_path / "corpus"), "--out", str(out)]
        subprocess.run([sys.executable, "-m", "stillroom", *arguments], check=True, capture_output=True)
        stores.append(LabelStore.open(out))
    assert stores[0].manifest.num_tokens == stores[1].manifest.num_tokens == 1024
    assert stores[0].manifest.teacher_ce_nats == pytest.approx(stores[1].manifest.teacher_ce_nats, abs=0.05)
