"""The plain reader beside the format's specification gives what the package gives: on the vectors, on any store."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_rows import LENGTH, SETTINGS, VOCAB
from hypothesis import given, settings
from hypothesis import strategies as st
from test_golden_stores import GOLDEN, plan_of

from stillroom.config import LabelsConfig
from stillroom.labels import LabelStore
from stillroom.labels.ragged import NO_GOLD, RaggedLabels
from stillroom.labels.write import write_store
from stillroom.types import SoftLabels

READER = Path(__file__).parents[2] / "docs/design/label_store_reader.py"
VECTORS = json.loads((GOLDEN / "expected.json").read_text())
SIDE = ("entropy", "gold_logprob", "gold_rank")


def reader() -> Any:
    spec = importlib.util.spec_from_file_location("label_store_reader", READER)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_same(store: Any, own: LabelStore, step: int = 1) -> None:
    """Every (or every ``step``-th) record has the same tokens and labels by both ways, and is found by its tokens."""
    assert len(store.index[0]) == len(own)
    for row in range(0, len(own), step):
        tokens_1T, labels = own.read([row])
        found = store.read(row)
        assert np.array_equal(found["tokens"], tokens_1T[0]) and store.find(tokens_1T[0].numpy()) == row
        assert set(found) == {"tokens", "ids", "weights", *SIDE, *([] if labels.tail is None else ["tail"])}
        for name in found.keys() - {"tokens", "ids", "weights"}:
            assert np.array_equal(found[name], getattr(labels, name)[0]), name
        check_entries(found, labels)


def check_entries(found: dict[str, Any], labels: SoftLabels) -> None:
    """The ids and weights of one record; places that are not used hold id 0 and weight 0."""
    for place, (ids, weights) in enumerate(zip(found["ids"], found["weights"], strict=True)):
        rest = (0, labels.ids.shape[-1] - len(ids))
        assert np.array_equal(np.pad(ids, rest), labels.ids[0, place])
        np.testing.assert_allclose(np.pad(weights, rest), labels.weights[0, place], rtol=2e-6)


def test_the_reader_is_short_and_needs_three_packages() -> None:
    text = READER.read_text()
    parts = [part for part in ast.walk(ast.parse(text)) if isinstance(part, ast.Import | ast.ImportFrom)]
    names = {part.module if isinstance(part, ast.ImportFrom) else part.names[0].name for part in parts}
    assert names == {"json", "struct", "pathlib", "numpy", "xxhash", "zstandard"}
    assert len(text.splitlines()) <= 150


@pytest.mark.parametrize("name", SETTINGS)
def test_vectors_hold_for_the_reader_and_for_the_package(name: str) -> None:
    store, own = reader().Store(GOLDEN / name), LabelStore.open(GOLDEN / name)
    check_same(store, own, 8)
    for wanted in VECTORS[name]["records"]:
        found = store.read(wanted["row"])
        for column in wanted.keys() - {"row", "ids", "weights"}:
            np.testing.assert_allclose(found[column], wanted[column], rtol=1e-6)
        for place, ids in enumerate(wanted["ids"]):
            assert found["ids"][place].tolist() == ids
            np.testing.assert_allclose(found["weights"][place], wanted["weights"][place], rtol=2e-6)


@dataclass(frozen=True)
class Drawn:
    """Labels of any shape: from certain to flat, with and without next tokens, some sequences twice."""

    seed: int
    vocab: int
    length: int
    most: int
    is_sampled: bool

    def rows(self, numbers: range) -> tuple[np.ndarray, RaggedLabels]:
        pieces = [self._one(np.random.default_rng([self.seed, number // 2])) for number in numbers]
        return np.stack([tokens for tokens, _ in pieces]), _joined([labels for _, labels in pieces])

    def _one(self, chance: np.random.Generator) -> tuple[np.ndarray, RaggedLabels]:
        count = self.length
        num_N = chance.integers(1, min(self.most, self.vocab) + 1, count)
        ids = [chance.permutation(self.vocab)[:num] for num in num_N]
        shares = [chance.dirichlet(np.full(num + 1, 10.0 ** chance.integers(-2, 2))) for num in num_N]
        if self.is_sampled:
            drawn = [chance.multinomial(self.most - len(one), share) for one, share in zip(ids, shares, strict=True)]
            values = [times[:-1] + 1 for times in drawn]
            for one in values:
                one[0] += self.most - one.sum()
        else:
            values = [np.maximum(share[:-1], 1e-9) for share in shares]
        rank = chance.integers(NO_GOLD, self.vocab, count).astype(np.int32)
        tokens = np.array([one[0] if chance.random() < 0.5 else chance.integers(self.vocab) for one in ids])
        kept = np.concatenate(values)
        tail = None if self.is_sampled else np.array([max(0.0, 1 - one.sum()) for one in values], np.float32)
        return np.roll(tokens, 1), RaggedLabels(
            num_N=num_N.astype(np.uint16),
            ids_E=np.concatenate(ids).astype(np.int32),
            values_E=kept.astype(np.uint8 if self.is_sampled else np.float32),
            entropy_N=chance.exponential(2, count).clip(max=40).astype(np.float32),
            gold_logprob_N=np.where(rank == NO_GOLD, 0, -chance.exponential(6, count).clip(max=44)).astype(np.float32),
            gold_rank_N=rank,
            tail_N=tail,
        )

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        return {"positions": labels.entropy.numel()}


def _joined(pieces: list[RaggedLabels]) -> RaggedLabels:
    names = [name for name, value in vars(pieces[0]).items() if value is not None]
    return RaggedLabels(**{name: np.concatenate([getattr(one, name) for one in pieces]) for name in names})


@given(
    codec=st.sampled_from(["sampled", "top-k", "top-p"]),
    most=st.sampled_from([1, 2, 7, 20, 60]),
    steps=st.sampled_from([3, 15, 16, 199, 255]),
    shape=st.tuples(st.integers(2, 400), st.sampled_from([1, 2, 31]), st.integers(1, 7)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_the_reader_equals_the_package_on_any_store(codec, most, steps, shape, seed) -> None:
    vocab, length, count = shape
    labels = LabelsConfig.model_validate(
        {"codec": codec, "num_samples": most, "k": most, "value_steps": steps, "shard_sequences": 5}
    )
    base = plan_of("sampled")
    plan = replace(
        base, labels=labels.canonical(), num_sequences=count, sequence_length=length, forward_sequences=3,
        identity={**base.identity, "vocab_size": vocab},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_store(Drawn(seed, vocab, length, most, codec == "sampled"), plan, Path(folder) / "labels")
        check_same(reader().Store(Path(folder) / "labels"), LabelStore.open(Path(folder) / "labels"))


def test_sets_of_more_than_256_ids_and_several_kinds_of_positions(tmp_path: Path) -> None:
    base = plan_of("top-k")
    labels = LabelsConfig(codec="top-k", k=700, shard_sequences=5).canonical()
    plan = replace(
        base, labels=labels, num_sequences=4, sequence_length=260, identity={**base.identity, "vocab_size": 900}
    )
    write_store(Drawn(3, 900, 260, 700, False), plan, tmp_path / "labels")
    store = reader().Store(tmp_path / "labels")
    assert len(store.order) > 1 and max(map(len, store.read(0)["ids"])) > 256
    check_same(store, LabelStore.open(tmp_path / "labels"), 4)


def test_what_is_not_there_or_not_whole_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "sampled", tmp_path / "labels")
    store = reader().Store(tmp_path / "labels")
    with pytest.raises(LookupError):
        store.find(np.full(LENGTH, VOCAB - 1))
    shard = tmp_path / "labels/shards/00000000.bin"
    shard.write_bytes(bytes(byte ^ 1 for byte in shard.read_bytes()))
    with pytest.raises(ValueError, match="does not match its checksum"):
        store.read(int(np.flatnonzero(store.index[2] == 0)[0]))
