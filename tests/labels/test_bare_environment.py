"""A store is opened, read and labelled into with torch, numpy and what its format needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "transformers", "pydantic", "pydantic_core", "rich", "typer", "yaml", "jinja2", "scipy", "fsspec", "pyarrow"
        }:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())
"""

READ = """
from stillroom.labels import LabelCollator, LabelDataset, LabelStore, inspect_store, soft_labels_of
store = LabelStore.open({store!r})
assert list(store.verify()) == [1, 2]
tokens, labels = store.read(range(2))
assert labels.ids.shape[:2] == tokens.shape and store.lookup(tokens).ids.equal(labels.ids)
assert soft_labels_of(LabelCollator(store)([LabelDataset(store)[0]])).ids.shape[0] == 1
assert inspect_store(store).bytes_per_token > 0
"""

WRITE = """
from pathlib import Path
import torch
from stillroom.labels import LabelSettings, LabelStore, label
from stillroom.labels.codecs.largest import TopK
from stillroom.types import Batch

class Scores:
    device, isolate, precision_name = torch.device("cpu"), True, "fp32"

    def chunks(self, batch):
        yield torch.arange(100.0).expand(batch.tokens_BT.numel(), 100) / 10

class Sequences:
    sequence_length = 16

    def __len__(self):
        return 8

    def batch(self, indices):
        tokens_BT = torch.tensor([[(7 * i + t) % 100 for t in range(16)] for i in indices])
        return Batch(tokens_BT, tokens_BT.roll(-1, 1), torch.zeros_like(tokens_BT, dtype=torch.int32))

identity = {{"teacher": "t", "tokenizer": "k", "vocab_size": 100, "corpus": "c"}}
manifest = label(Scores(), Sequences(), LabelSettings(TopK(5)), Path({folder!r}), identity=identity)
assert manifest.labels["k"] == 5 and len(LabelStore.open({folder!r})) == 8
"""


@pytest.mark.parametrize("code", [READ, WRITE])
def test_labels_need_no_more_than_torch_numpy_and_their_format(code: str, tmp_path: Path) -> None:
    store = str(Path(__file__).parent / "golden" / "sampled")
    text = REFUSE + code.format(store=store, folder=str(tmp_path / "labels"))
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-2000:]
