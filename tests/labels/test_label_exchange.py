"""Other trainers read a store, and a store reads what other tools wrote."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from stillroom.config import LabelsConfig
from stillroom.corpora.corpus import SequenceSet, make_batch
from stillroom.labels import (
    LabelCollator,
    LabelDataset,
    LabelStore,
    batch_of,
    export_parquet,
    import_distillkit,
    import_kd,
    import_parquet,
    soft_labels_of,
)
from stillroom.types import IGNORE_INDEX, SpecialIds, UserError
from tiny_labels import IDENTITY, LENGTH, VOCAB, TinySequences, make


def test_a_data_loader_gives_tokens_and_labels_of_the_corpus(corpus, made):
    store = LabelStore.open(made)
    loader = DataLoader(LabelDataset(store), batch_size=8, shuffle=True, collate_fn=LabelCollator(store))
    seen = []
    for batch in loader:
        labels = soft_labels_of(batch)
        wanted = store.lookup(batch["input_ids"])
        assert torch.equal(labels.entropy, wanted.entropy) and set(batch) == {"input_ids", "labels", "position_ids"}
        seen.append(batch["input_ids"])
    order = sorted(map(tuple, torch.cat(seen).tolist()))
    assert order == sorted(map(tuple, corpus.batch(range(24)).tokens_BT.tolist()))


def test_targets_of_the_collator_do_not_cross_documents(corpus, made):
    store = LabelStore.open(made)
    items = [LabelDataset(store)[number] for number in range(24)]
    batch = LabelCollator(store)(items)
    by_tokens = {tuple(row): place for place, row in enumerate(corpus.batch(range(24)).tokens_BT.tolist())}
    original = corpus.batch([by_tokens[tuple(row)] for row in batch["input_ids"].tolist()])
    shifted = torch.full_like(batch["labels"], IGNORE_INDEX)
    shifted[:, :-1] = batch["labels"][:, 1:]
    assert torch.equal(shifted, original.targets_BT)
    begins = original.document_BT.diff(dim=1, prepend=original.document_BT[:, :1] - 1) != 0
    assert torch.equal(batch["position_ids"] == 0, begins)
    again = batch_of(batch)
    assert torch.equal(again.tokens_BT, original.tokens_BT) and torch.equal(again.targets_BT, original.targets_BT)
    assert torch.equal(again.document_BT, original.document_BT - original.document_BT[:, :1])


@pytest.mark.parametrize("eos", [0, 1])
def test_special_ids_tell_the_documents_that_a_store_does_not_know(teacher, tmp_path, eos):
    """Of one mark for both ends, and of labels that another software wrote, which have a next token everywhere."""
    tokens_RT = TinySequences().batch(range(8)).tokens_BT
    known = make_batch(tokens_RT, 0, eos)
    whole = SequenceSet((tokens_RT.numpy(),), np.zeros(8), np.zeros(8), -1, 8)  # type: ignore[arg-type]
    kept = SequenceSet((tokens_RT.numpy(),), np.zeros(8), np.zeros(8), 0, 8, 0)  # type: ignore[arg-type]
    make(teacher, kept if eos == 0 else whole, tmp_path / "labels")  # type: ignore[arg-type]
    collate = LabelCollator(LabelStore.open(tmp_path / "labels"), SpecialIds(0, eos))
    batch = batch_of(collate([{"row": row} for row in range(8)]))
    by_tokens = {tuple(row): place for place, row in enumerate(tokens_RT.tolist())}
    order = [by_tokens[tuple(row)] for row in batch.tokens_BT.tolist()]
    assert torch.equal(batch.targets_BT, known.targets_BT[order])
    wanted = known.document_BT[order]
    assert torch.equal(batch.document_BT, wanted - wanted[:, :1])


@pytest.mark.parametrize("codec", ["sampled", "top-k"])
def test_export_and_import_give_the_same_labels(teacher, corpus, tmp_path, codec):
    make(teacher, corpus, tmp_path / "labels", codec=codec, k=30)
    store = LabelStore.open(tmp_path / "labels")
    assert export_parquet(store, tmp_path / "labels.parquet") == 24
    table = pyarrow.parquet.read_table(tmp_path / "labels.parquet")
    assert set(table.column_names) >= {"input_ids", "token_ids", "logprobs", "entropy", "gold_logprob", "gold_rank"}
    manifest = import_parquet(
        tmp_path / "labels.parquet", tmp_path / "again", identity=IDENTITY, sequence_length=LENGTH
    )
    assert manifest.num_records == 24 and float(manifest.fidelity["mean_kl_nats"]) < 1e-3
    tokens = corpus.batch([0, 7]).tokens_BT
    first, second = (LabelStore.open(folder).lookup(tokens) for folder in (tmp_path / "labels", tmp_path / "again"))
    dense = [torch.zeros(2, LENGTH, VOCAB).scatter_add(2, one.ids, one.weights) for one in (first, second)]
    assert (dense[0] - dense[1]).abs().max() < 0.02


def foreign_rows(count: int = 6, width: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, ids and log-probabilities in the way of other tools: largest first."""
    chance = np.random.default_rng(0)
    tokens = TinySequences().batch(range(count)).tokens_BT.numpy()
    ids = np.stack([chance.permutation(VOCAB)[:width] for _ in range(count * LENGTH)]).reshape(count, LENGTH, width)
    logprobs = np.log(np.sort(chance.dirichlet(np.ones(width + 1), (count, LENGTH)))[..., ::-1][..., :width])
    return tokens, ids, logprobs.astype(np.float32)


def check_import(folder: Path, tokens: np.ndarray, ids: np.ndarray, logprobs: np.ndarray) -> None:
    labels = LabelStore.open(folder).lookup(torch.from_numpy(tokens))
    dense = np.zeros((*tokens.shape, VOCAB))
    np.put_along_axis(dense, labels.ids.numpy(), labels.weights.numpy(), 2)
    found = np.take_along_axis(dense, ids, 2)
    assert (np.abs(np.sqrt(found) - np.exp(logprobs / 2))[:, :-1] < 1.0 / LabelsConfig().value_steps).all()
    gold = tokens[:, 1:, None] == ids[:, :-1]
    listed = gold.any(-1)
    assert np.allclose(labels.gold_logprob.numpy()[:, :-1][listed], logprobs[:, :-1][gold], atol=0.05)
    assert np.array_equal(labels.gold_rank.numpy()[:, :-1][listed], gold.argmax(-1)[listed])
    assert (labels.gold_rank.numpy()[:, :-1][~listed] == ids.shape[2]).all()


def test_import_of_a_kd_sidecar_by_its_documented_layout(tmp_path):
    tokens, ids, logprobs = foreign_rows()
    count, width = tokens.size + 5, ids.shape[2]
    header = bytearray(1024)
    header[:8] = b"KD.LOGP\n"
    header[8:32] = np.array([1, width, count, VOCAB, 0, 0], "<i4").tobytes()
    tail = ((0, 5), (0, 0))
    body = np.pad(ids.reshape(-1, width), tail).astype("<u4").tobytes()
    body += np.pad(logprobs.reshape(-1, width), tail).astype("<f2").tobytes()
    (tmp_path / "train-000.bin.kd").write_bytes(bytes(header) + body)
    stream = np.pad(tokens.reshape(-1), (0, 5))
    arguments = {"identity": IDENTITY, "sequence_length": LENGTH}
    import_kd(tmp_path / "train-000.bin.kd", stream, tmp_path / "labels", **arguments)
    check_import(tmp_path / "labels", tokens, ids, logprobs)
    with pytest.raises(UserError, match="give the shard it belongs to"):
        import_kd(tmp_path / "train-000.bin.kd", stream[:-1], tmp_path / "other", **arguments)


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of so many bits each along the last axis, highest bit first."""
    flat = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(flat.reshape(*values.shape[:-1], -1).astype(np.uint8), axis=-1)


@pytest.mark.parametrize("delta", [False, True])
def test_import_of_distillkit_rows_by_their_documented_layout(tmp_path, delta):
    tokens, ids, _ = foreign_rows()
    width, exact = ids.shape[2], 2
    places = np.arange(width - exact)
    coefficients = np.array([-3.0, -0.15, -0.3], np.float32)
    smooth = coefficients[0] + coefficients[1] * places + coefficients[2] * np.sqrt(places)
    logprobs = np.concatenate(([-0.5, -2.0], smooth)).astype(np.float32)
    kept = np.diff(logprobs, prepend=np.float32(0)) if delta else logprobs
    terms = np.float32([kept[exact], 0, 0]) if delta else coefficients
    if delta:  # steps that a constant describes
        kept = np.concatenate((kept[:exact], np.full(width - exact, kept[exact])))
        logprobs = kept.cumsum()
    row = np.concatenate((kept[:exact].astype("<f4").view(np.uint8), terms.astype("<f4").view(np.uint8)))
    bits = math.ceil(math.log2(VOCAB))
    rows = {
        "input_ids": tokens.tolist(),
        "compressed_logprobs": [[row.tolist()] * LENGTH] * len(tokens),
        "bytepacked_indices": packed(ids, bits).tolist(),
    }
    (tmp_path / "in").mkdir()
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "in/data_0.parquet")
    settings = {
        "d": VOCAB, "k": width, "exact_k": exact, "exact_dtype": "float32", "polynomial_terms": [0, 1, "sqrt"],
        "term_dtype": "float32", "residual_bins": [], "delta_encoding": delta, "normalize_t": False,
    }  # fmt: skip
    (tmp_path / "in/compression_config.yaml").write_text(yaml.safe_dump(settings))
    manifest = import_distillkit(tmp_path / "in", tmp_path / "labels", identity=IDENTITY, sequence_length=LENGTH)
    assert manifest.fidelity["imported_from"] == "in"
    wanted = np.broadcast_to(logprobs - max(0.0, np.log(np.exp(logprobs).sum())), ids.shape)
    check_import(tmp_path / "labels", tokens, ids, wanted)


def test_sequences_that_are_too_short_are_counted(tmp_path):
    rows = {
        "input_ids": [[1, 2, 3, 4], [1, 2]],
        "token_ids": [[[1]] * 4, [[1]] * 2],
        "logprobs": [[[-0.1]] * 4, [[-0.1]] * 2],
    }
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    manifest = import_parquet(tmp_path / "a.parquet", tmp_path / "labels", identity=IDENTITY, sequence_length=4)
    assert (manifest.num_records, manifest.fidelity["skipped_sequences"]) == (1, 1)
    with pytest.raises(UserError, match="no sequence of the wanted length"):
        import_parquet(tmp_path / "a.parquet", tmp_path / "other", identity=IDENTITY, sequence_length=5)


def test_files_that_are_not_what_they_should_be_are_named(tmp_path):
    with pytest.raises(UserError, match="no Parquet file"):
        import_parquet(tmp_path / "none", tmp_path / "labels", identity=IDENTITY, sequence_length=4)
    with pytest.raises(UserError, match=r"compression_config.yaml: no such file"):
        import_distillkit(tmp_path / "none", tmp_path / "labels", identity=IDENTITY, sequence_length=4)
    (tmp_path / "x.kd").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"does not begin like a .kd"):
        import_kd(tmp_path / "x.kd", np.zeros(4), tmp_path / "labels", identity=IDENTITY, sequence_length=4)
    pyarrow.parquet.write_table(pyarrow.table({"input_ids": [[1]], "token_ids": [[[1]]]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="expected input_ids, token_ids and logprobs"):
        import_parquet(tmp_path / "a.parquet", tmp_path / "labels", identity=IDENTITY, sequence_length=1)
