"""Stores written by earlier versions open, and what is written now has the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_rows import COUNT, SETTINGS, VOCAB, GoldenSource

from stillroom.config import LabelsConfig
from stillroom.labels import Identity, LabelStore
from stillroom.labels.format.layout import SCHEMA
from stillroom.labels.format.manifest import Plan
from stillroom.labels.ragged import padded
from stillroom.labels.write import write_store
from tiny_labels import contents

GOLDEN = Path(__file__).parent / "golden"


def plan_of(name: str) -> Plan:
    labels = LabelsConfig.model_validate({**SETTINGS[name], "shard_sequences": 16}).canonical()
    identity = Identity(teacher="t", tokenizer="k", vocab_size=VOCAB, corpus="c")
    return Plan(
        schema=SCHEMA, identity=identity, labels=labels, num_sequences=COUNT, sequence_length=64,
        isolate_documents=True, precision="fp32", forward_sequences=8,
    )  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_store_of_an_earlier_version_is_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    write_store(GoldenSource(name), plan_of(name), tmp_path / "labels")
    assert contents(tmp_path / "labels") == contents(GOLDEN / name)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_store_of_an_earlier_version_gives_back_what_went_in(name: str) -> None:
    store = LabelStore.open(GOLDEN / name)
    assert list(store.verify()) == [1, 2]
    tokens_BT, given = GoldenSource(name).rows(range(8))
    found = store.lookup(torch.from_numpy(tokens_BT)).flatten()
    wanted = padded(given, 1 / 50 if name == "sampled" else 1.0)
    size = found.ids.shape[-1]
    for ids_K, weights_K, wanted_ids, wanted_weights in zip(
        found.ids.numpy(), found.weights.numpy(), wanted.ids_NK, wanted.weights_NK, strict=True
    ):
        dense = np.zeros((2, VOCAB))
        np.add.at(dense[0], ids_K, weights_K)
        np.add.at(dense[1], wanted_ids, wanted_weights)
        error = np.abs(np.sqrt(dense[0]) - np.sqrt(dense[1]))
        assert (error < (1e-6 if name == "sampled" else 0.25 if name == "top-k-coarse" else 0.01)).all(), size
    assert np.array_equal(found.gold_rank.numpy(), given.gold_rank_N)
