"""A codec of someone else's: one class that says what it keeps and one that writes it, and a store works."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from stillroom.config import LabelsConfig
from stillroom.labels import LabelSettings, LabelStore, inspect_store, label, price
from stillroom.labels.codecs import codec as registry
from stillroom.labels.codecs.codec import EntryCoder, Kept, ScoredPositions, register_codec
from stillroom.labels.codecs.position_kinds import Rankings
from stillroom.labels.format.record import Columns, PackedRecords
from stillroom.labels.ragged import RaggedLabels
from stillroom.labels.settings import Options, settings_of
from stillroom.labels.terminal import inspection_tables
from stillroom.teachers import ExactScores, LiveLabels
from stillroom.types import UserError
from tiny_labels import IDENTITY, VOCAB, TinySequences, scores_of


@dataclass(frozen=True)
class NoContext:
    """Nothing is said of the other columns but the tail."""

    tail_N: np.ndarray

    @property
    def entropy_context_N(self) -> np.ndarray:
        return np.zeros(len(self.tail_N), np.intp)

    def stored_place(self, place_N: np.ndarray) -> np.ndarray:
        return place_N

    def place(self, stored_N: np.ndarray) -> np.ndarray:
        return stored_N

    def gold_context(self, place_N: np.ndarray) -> np.ndarray:
        return place_N.astype(np.intp)


@dataclass(frozen=True)
class FirstEntries:
    """The likeliest id as four plain bytes, its probability in steps."""

    SYMBOLS: ClassVar[tuple[str, ...]] = ("chance",)
    PLAIN: ClassVar[tuple[str, ...]] = ("first",)
    HAS_TAIL: ClassVar[bool] = True
    rankings: Rankings
    steps: int

    def encode(self, rows: RaggedLabels) -> tuple[RaggedLabels, Columns, NoContext]:
        assert rows.tail_N is not None
        chance = np.rint(rows.values_E * self.steps).astype(np.uint8)
        columns = Columns({"chance": chance}, {"first": rows.ids_E.astype("<i4").tobytes()})
        return rows, columns, NoContext(rows.tail_N)

    def sizes(self, record: PackedRecords) -> Sequence[np.ndarray]:
        return (np.ones(len(record) * record.length, np.int64),)

    def fill(
        self, record: PackedRecords, sizes: Sequence[np.ndarray], ids_NK: np.ndarray, weights_NK: np.ndarray
    ) -> NoContext:
        ids_NK[:, 0] = np.frombuffer(record.joined("first"), "<i4")
        weights_NK[:, 0] = record.symbols("chance") / np.float32(self.steps)
        return NoContext(1.0 - weights_NK[:, 0])

    def to_parts(self) -> dict[str, bytes]:
        return {"steps": struct.pack("<I", self.steps)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes], rankings: Rankings) -> Self:
        return cls(rankings, *struct.unpack("<I", parts["steps"]))

    def is_sound(self) -> bool:
        return 0 < self.steps <= 255


@dataclass(frozen=True)
class First:
    """Keeps the likeliest id and its probability."""

    name: ClassVar[str] = "first"
    coder: ClassVar[type[EntryCoder]] = FirstEntries
    steps: int = 100

    @classmethod
    def of(cls, options: Options) -> Self:
        return cls(options.whole("steps", 100, 1, 255))

    @property
    def draws(self) -> None:
        return None

    @property
    def summary(self) -> str:
        return f"{self.steps} steps"

    def read(self, scored: ScoredPositions) -> Kept:
        top = scored.shifted_nV.max(-1)
        chance_n = (top.values - scored.log_total_n).exp()
        return Kept(top.indices, chance_n, torch.ones_like(top.indices), 1 - chance_n)

    def fit(self, labels: RaggedLabels, vocab_size: int) -> FirstEntries:
        return FirstEntries(Rankings.train(labels.ids_E, labels.num_N, vocab_size, 1), self.steps)

    def bytes_per_token(self, vocab_size: int) -> float:
        return 9.0


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_CODECS", dict(registry._CODECS))
    register_codec(First)
    yield


def test_another_codec_writes_prices_reads_and_shows_a_store(
    teacher: PreTrainedModel, corpus: TinySequences, tmp_path: Path
) -> None:
    settings = LabelSettings(First(steps=200), shard_sequences=8)
    manifest = label(scores_of(teacher), corpus, settings, tmp_path / "labels", identity=IDENTITY)
    assert manifest.labels["codec"] == "first" and manifest.labels["steps"] == 200
    assert manifest.fidelity["kl"] == "live to stored" and manifest.settings == settings
    store = LabelStore.open(tmp_path / "labels")
    assert list(store.verify()) == [1, 2, 3]
    batch = corpus.batch(range(5))
    log_p_NV = torch.cat(list(scores_of(teacher).chunks(batch))).log_softmax(-1)
    found = store.labels(batch).flatten()
    assert torch.equal(found.ids[:, 0], log_p_NV.argmax(-1))
    assert (found.weights[:, 0] - log_p_NV.amax(-1).exp()).abs().max() < 0.5 / 200 + 1e-5
    assert found.tail is not None and torch.allclose(found.tail, 1 - found.weights[:, 0])
    live = LiveLabels(ExactScores(lambda one: log_p_NV.view(5, -1, VOCAB)), settings).labels(batch).flatten()
    assert torch.equal(live.ids, found.ids) and torch.equal(live.gold_rank, found.gold_rank)
    assert price(1000, 1.0, settings, VOCAB).num_bytes == 9000
    assert inspect_store(store).bytes_by_column["first"] == 4.0
    assert inspection_tables(inspect_store(store)) is not None


def test_options_of_a_codec_are_checked_by_name() -> None:
    for wrong, sentence in (
        ({"codec": "last"}, "labels: codec is 'last', expected one of first, sampled, top-k, top-p"),
        ({"codec": "first", "steps": 0}, "labels: steps is 0, expected a whole number from 1 to 255"),
        ({"codec": "sampled", "steps": 4}, "labels: has 'steps', which codec sampled does not know"),
    ):
        with pytest.raises(UserError, match=sentence):
            LabelSettings.of(wrong)
    config = LabelsConfig(codec="first", options={"steps": 9})
    assert settings_of(LabelsConfig.model_validate(config.canonical())).codec == First(9)
    with pytest.raises(ValueError, match="codec is 'last', expected one of first, sampled"):
        LabelsConfig(codec="last")
    assert LabelSettings.of(replace(LabelSettings(), codec=First(7)).canonical()).codec == First(7)
