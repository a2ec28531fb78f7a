"""What leaves the teacher's device is little, whatever the vocabulary, and memory does not grow with the store."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from stillroom.config import LabelsConfig
from stillroom.labels import reading
from stillroom.labels.format.index import write_index
from stillroom.labels.format.layout import Index, ShardCounts, ShardTable, record_keys
from stillroom.labels.settings import settings_of
from stillroom.teachers import LiveLabels, ModelScores
from tiny_labels import LENGTH, VOCAB, TinySequences, scores_of, tiny_teacher


@pytest.fixture
def moved(monkeypatch) -> list[int]:
    """Numbers of one position's values that leave the device, for every tensor that does."""
    sizes: list[int] = []
    real = reading._host

    def host(values: torch.Tensor, kind: type) -> np.ndarray:
        sizes.append(values.numel())
        return real(values, kind)

    monkeypatch.setattr(reading, "_host", host)
    return sizes


@pytest.mark.parametrize(
    "config", [LabelsConfig(), LabelsConfig(codec="top-k", k=20), LabelsConfig(codec="top-p", k=9)]
)
def test_only_kept_ids_and_four_numbers_leave_the_device(teacher, corpus, moved, config):
    scores = ModelScores(teacher, VOCAB, precision="fp32")
    rows = reading.capture(scores, corpus.batch(range(8)), np.full(8 * LENGTH, 0.5), settings_of(config))
    kept, positions = len(rows.ids_E), 8 * LENGTH
    assert max(moved) <= reading.rows_at_a_time(VOCAB) * max(config.num_samples, config.k)
    assert sum(moved) <= 2 * kept + 5 * positions < positions * VOCAB / 2


def test_scores_over_the_vocabulary_exist_for_a_chunk_at_a_time(teacher, monkeypatch):
    monkeypatch.setattr("stillroom.teachers.scores.HEAD_CHUNK", 40)
    batch = TinySequences().batch(range(6))
    whole = torch.cat(list(ModelScores(teacher, VOCAB, precision="fp32").chunks(batch)))
    sizes = [len(chunk) for chunk in ModelScores(teacher, VOCAB, precision="fp32").chunks(batch)]
    assert max(sizes) == 40 and sum(sizes) == batch.tokens_BT.numel() == len(whole)
    monkeypatch.undo()
    torch.testing.assert_close(torch.cat(list(ModelScores(teacher, VOCAB, precision="fp32").chunks(batch))), whole)


def test_bf16_is_close_to_fp32(teacher, corpus):
    batch = corpus.batch(range(4))
    half, full = (
        LiveLabels(ModelScores(teacher, VOCAB, precision=name), LabelsConfig()).labels(batch).entropy
        for name in ("bf16", "fp32")
    )
    assert not torch.equal(half, full)
    assert (half - full).abs().mean() < 0.05 * full.mean()


def test_a_lookup_copies_nothing_of_the_index(tmp_path: Path):
    count = 200_000
    keys = record_keys(np.arange(2 * count).reshape(count, 2))
    table = ShardTable(keys, np.arange(count), np.full(count, 9), ShardCounts())
    write_index(tmp_path / "index.bin", lambda: iter([(0, table)]), count)
    index = Index(tmp_path / "index.bin")
    index.find(keys[:3])
    tracemalloc.start()
    rows = index.find(keys[[7, 150_000, 199_999]])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert index.columns["offset"][rows].tolist() == [7, 150_000, 199_999]
    assert peak < 50_000 < (tmp_path / "index.bin").stat().st_size / 100


@pytest.mark.gpu
def test_a_teacher_on_another_device_answers_on_the_batchs_own(corpus):
    batch = corpus.batch(range(4))
    here = LiveLabels(scores_of(tiny_teacher()), LabelsConfig()).labels(batch)
    there = LiveLabels(scores_of(tiny_teacher().cuda()), LabelsConfig()).labels(batch)
    assert there.weights.device == batch.tokens_BT.device
    assert (there.entropy - here.entropy).abs().max() < 1e-3
    on_gpu = LiveLabels(scores_of(tiny_teacher().cuda()), LabelsConfig()).labels(batch.to("cuda"))
    assert on_gpu.weights.is_cuda and torch.equal(on_gpu.ids.cpu(), there.ids)
