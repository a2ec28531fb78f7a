"""Labels of token blocks that were made elsewhere, by a call, read back by the blocks themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from stillroom.labels import LabelSettings, LabelStore
from stillroom.labels.codecs.largest import TopK
from stillroom.models import load_model
from stillroom.study.own_blocks import label_blocks
from stillroom.types import UserError
from stillroom.vocabulary import num_ids
from tokenizer_kinds import KEEPS

LENGTH = 16


def _teacher(folder: Path, kind: str = "byte-level", spare: int = 0) -> int:
    """A random GPT-2 with a tokenizer and some rows that no token owns; returns the number of tokens."""
    tokenizer = KEEPS[kind]()
    size = num_ids(tokenizer)
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=size + spare, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return size


@pytest.mark.parametrize("spare", [0, 7])
@pytest.mark.parametrize("kind", ["byte-level", "Llama 2", "characters"])
def test_labels_are_the_teachers_distribution_of_every_document_alone(tmp_path: Path, kind: str, spare: int) -> None:
    size = _teacher(tmp_path / "teacher", kind, spare)
    blocks = np.random.default_rng(0).integers(4, size, (6, LENGTH))
    blocks[:, [0, 7]] = 1  # its bos
    settings = LabelSettings(TopK(k=min(size, 60), value_steps=255))
    manifest = label_blocks(tmp_path / "teacher", blocks, tmp_path / "labels", settings)
    assert manifest.num_tokens == blocks.size and manifest.vocab_size == size
    model = load_model(tmp_path / "teacher")
    found = LabelStore.open(tmp_path / "labels").lookup(torch.from_numpy(blocks))
    for row, (start, stop) in ((0, (0, 7)), (5, (7, LENGTH))):
        with torch.no_grad():
            logits = model(torch.from_numpy(blocks[row : row + 1, start:stop]), use_cache=False).logits[0, :, :size]
        dense = torch.zeros_like(logits).scatter_(1, found.ids[row, start:stop], found.weights[row, start:stop])
        expected = logits.softmax(-1)
        kept = dense > 0
        assert float((dense - expected)[kept].abs().max()) < 2e-3
    assert int((found.gold_rank[0] == -1).sum()) == 2  # the ends of both documents


def test_the_same_call_goes_on_and_other_blocks_are_refused(tmp_path: Path) -> None:
    size = _teacher(tmp_path / "teacher")
    blocks = np.random.default_rng(0).integers(4, size, (2, LENGTH))
    first = label_blocks(tmp_path / "teacher", blocks, tmp_path / "labels")
    assert label_blocks(str(tmp_path / "teacher"), torch.from_numpy(blocks), str(tmp_path / "labels")) == first
    with pytest.raises(UserError, match=r"holds labels with identity\.corpus .* is asked for"):
        label_blocks(tmp_path / "teacher", blocks + 1, tmp_path / "labels")


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (np.full((2, 8), 100_000), r"token id 100000 found, but the tokenizer of .* has \d+ tokens"),
        (np.full((2, 8), -1), "token id -1 found"),
        (np.ones(8, np.int64), r"found int64 of shape \(8,\), expected whole numbers of shape \(blocks, tokens\)"),
        (np.ones((2, 8)), "found float64 of shape"),
        (np.ones((0, 8), np.int64), r"shape \(0, 8\)"),
    ],
    ids=["another tokenizer", "negative", "one row", "fractions", "none"],
)
def test_blocks_that_are_none_are_refused_and_nothing_is_written(tmp_path: Path, blocks, said: str) -> None:
    _teacher(tmp_path / "teacher")
    with pytest.raises(UserError, match=said):
        label_blocks(tmp_path / "teacher", blocks, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()
