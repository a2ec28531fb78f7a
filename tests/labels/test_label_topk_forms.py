"""Labels to and from the forms of LlamaKD, DistillKit, surogate, MaxText and Megatron-LM, by what these document."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import zstandard
from safetensors.numpy import save

from stillroom.labels import (
    LabelStore,
    Manifest,
    export_distillkit,
    export_kd,
    export_llamakd,
    export_maxtext,
    import_distillkit,
    import_kd,
    import_maxtext,
    import_megatron,
    import_parquet,
)
from stillroom.labels.exchange import maxtext
from stillroom.study.label_stage import export_labels
from stillroom.types import UserError
from tiny_labels import IDENTITY, LENGTH, VOCAB, TinySequences, make

ARGUMENTS: dict[str, Any] = {"identity": IDENTITY, "sequence_length": LENGTH}


@pytest.fixture(scope="module", params=["sampled", "top-k", "top-p"])
def store(request, teacher, corpus, tmp_path_factory) -> LabelStore:
    folder = tmp_path_factory.mktemp("forms") / "labels"
    make(teacher, corpus, folder, codec=request.param, k=20, p=0.9)
    return LabelStore.open(folder)


def dense(store: LabelStore, tokens_RT: torch.Tensor) -> torch.Tensor:
    labels = store.lookup(tokens_RT)
    return torch.zeros(*tokens_RT.shape, VOCAB).scatter_add(2, labels.ids, labels.weights)


def check_same(store: LabelStore, folder: Path, corpus: TinySequences, most: float = 0.012) -> None:
    """The square roots of probabilities are a store's own steps apart, at most."""
    tokens_RT = corpus.batch(range(24)).tokens_BT
    found, wanted = dense(LabelStore.open(folder), tokens_RT), dense(store, tokens_RT)
    assert (found.sqrt() - wanted.sqrt()).abs()[:, :-1].max() < most


def test_llamakd_there_and_back(store, corpus, tmp_path) -> None:
    assert export_llamakd(store, tmp_path / "train-0.parquet") == 24
    table = pyarrow.parquet.read_table(tmp_path / "train-0.parquet")
    assert table.column_names == ["inputs", "targets"]
    row = table.to_pylist()[0]
    pairs = np.array(row["targets"])
    assert pairs.shape[:2] == (LENGTH, 2) and len(row["inputs"]) == LENGTH
    assert (np.diff(np.exp(pairs[:, 0]), axis=1) <= 0).all()  # log-probabilities, largest first, then their ids
    tokens_1T = torch.tensor([row["inputs"]])
    np.testing.assert_allclose(
        np.exp(pairs[:, 0]).sum(1), store.lookup(tokens_1T).weights[0].sum(-1).numpy(), rtol=1e-5
    )
    manifest = import_parquet(tmp_path / "train-0.parquet", tmp_path / "labels", **ARGUMENTS)
    assert manifest.fidelity["imported_from"] == "train-0.parquet"
    check_same(store, tmp_path / "labels", corpus)


def test_llamakd_by_the_columns_of_its_viewer(tmp_path) -> None:
    """``inputs`` and ``targets`` [T, 2, 32], with a number of its line beside."""
    chance = np.random.default_rng(0)
    tokens = TinySequences().batch([0, 1]).tokens_BT.numpy()
    ids = np.argsort(chance.random((2, LENGTH, VOCAB)), axis=-1)[..., :32]
    logprobs = np.log(-np.sort(-chance.dirichlet(np.ones(40), (2, LENGTH)))[..., :32])
    targets = np.stack([logprobs, ids.astype(float)], 2).tolist()
    table = pyarrow.table({"inputs": tokens.tolist(), "targets": targets, "line_number": [4, 22]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    import_parquet(tmp_path / "a.parquet", tmp_path / "labels", **ARGUMENTS)
    found = dense(LabelStore.open(tmp_path / "labels"), torch.from_numpy(tokens)).numpy()
    error = np.sqrt(np.take_along_axis(found, ids, 2)) - np.exp(logprobs / 2)
    assert np.abs(error)[:, :-1].max() < 1 / 199


def test_distillkit_there_and_back(store, corpus, tmp_path) -> None:
    assert export_distillkit(store, tmp_path / "out") == 24
    settings = json.loads((tmp_path / "out/compression_config.yaml").read_text())
    assert settings["d"] == VOCAB and settings["exact_k"] == settings["k"] and not settings["delta_encoding"]
    import_distillkit(tmp_path / "out", tmp_path / "labels", **ARGUMENTS)
    check_same(store, tmp_path / "labels", corpus)


def test_a_sidecar_of_surogate_there_and_back(store, corpus, tmp_path) -> None:
    """Bound by content: the shard's windows, in the shard's order, and an end that is no whole window."""
    windows = corpus.batch([5, 0, 17]).tokens_BT.numpy()
    shard = np.append(windows.reshape(-1), [7, 7, 7])
    assert export_kd(store, shard, tmp_path / "train-000.bin.kd", "0123456789abcdef") == 3
    data = (tmp_path / "train-000.bin.kd").read_bytes()
    numbers = np.frombuffer(data, "<i4", 8)
    width = int(numbers[3])
    assert data[:8] == b"KD.LOGP\n" and data[64:80] == b"0123456789abcdef"
    assert numbers[2:8].tolist() == [1, width, len(shard), VOCAB, 0, 0] and len(data) == 1024 + 6 * width * len(shard)
    assert not any(data[-2 * width * 3 :])
    import_kd(tmp_path / "train-000.bin.kd", shard, tmp_path / "labels", **ARGUMENTS)
    tokens_RT = torch.from_numpy(windows)
    found, wanted = dense(LabelStore.open(tmp_path / "labels"), tokens_RT), dense(store, tokens_RT)
    assert (found.sqrt() - wanted.sqrt()).abs()[:, :-1].max() < 0.012
    with pytest.raises(UserError, match="has no labels for the sequence"):
        export_kd(store, np.full(LENGTH, 3), tmp_path / "other.kd")
    with pytest.raises(UserError, match="expected a window of 32 at least"):
        export_kd(store, shard[:5], tmp_path / "other.kd")
    assert not (tmp_path / "other.kd").exists()


class Records:
    """In the place of the package array-record: records of a file, one after another."""

    def __init__(self, path: str, options: str = "") -> None:
        self.path, self.written = Path(path), []
        self.kept = json.loads(self.path.read_text()) if not options else []

    def write(self, record: bytes) -> None:
        self.written.append(record.hex())

    def close(self) -> None:
        self.path.write_text(json.dumps(self.written))

    def num_records(self) -> int:
        return len(self.kept)

    def ok(self) -> bool:
        return True

    def read(self) -> bytes:
        return bytes.fromhex(self.kept.pop(0))


@pytest.fixture
def records(monkeypatch) -> None:
    module = type("module", (), {"ArrayRecordReader": Records, "ArrayRecordWriter": Records})
    monkeypatch.setattr(maxtext, "_array_record", lambda: module)


def maxtext_record(**changed: Any) -> bytes:
    chance = np.random.default_rng(1)
    fields = {
        "tokens": TinySequences().batch([0, 1]).tokens_BT.numpy().astype(np.int32),
        "top_k_logits": -np.sort(-chance.normal(0, 3, (2, LENGTH, 9))).astype(np.float32),
        "top_k_indices": np.argsort(chance.random((2, LENGTH, VOCAB)), axis=-1)[..., :9].astype(np.int32),
    }
    return save({name: np.ascontiguousarray(v) for name, v in {**fields, **changed}.items() if v is not None})


def write_records(path: Path, *data: bytes) -> Path:
    path.write_text(json.dumps([one.hex() for one in data]))
    return path


def test_maxtext_there_and_back(store, corpus, records, tmp_path) -> None:
    assert export_maxtext(store, tmp_path / "a.array_record") == 24
    import_maxtext(tmp_path / "a.array_record", tmp_path / "labels", **ARGUMENTS)
    tokens_RT = corpus.batch(range(24)).tokens_BT
    wanted = dense(store, tokens_RT)
    wanted /= wanted.sum(-1, keepdim=True)  # logits do not tell what lay outside
    found = dense(LabelStore.open(tmp_path / "labels"), tokens_RT)
    assert (found.sqrt() - wanted.sqrt()).abs()[:, :-1].max() < 0.012


@pytest.mark.real
def test_maxtext_by_the_package_that_it_uses(store, corpus, tmp_path) -> None:
    module = pytest.importorskip("array_record.python.array_record_module")
    export_maxtext(store, tmp_path / "a.array_record")
    assert module.ArrayRecordReader(str(tmp_path / "a.array_record")).num_records() == 1
    import_maxtext(tmp_path, tmp_path / "labels", **ARGUMENTS)
    assert len(LabelStore.open(tmp_path / "labels")) == 24
    (tmp_path / "a.array_record").write_bytes(b"no such file")
    with pytest.raises(UserError, match="holds no records that ArrayRecord can read"):
        import_maxtext(tmp_path, tmp_path / "other", **ARGUMENTS)


MAXTEXT_FAULTS = {
    "a pickle": (b"\x80\x04K\x01.", "is a pickle, as MaxText wrote before"),
    "no safetensors": (b"nothing", "is no safetensors"),
    "a missing column": (maxtext_record(top_k_indices=None), "has no top_k_indices"),
    "other shapes": (maxtext_record(tokens=np.zeros((2, 5), np.int32)), "expected \\(B, T\\) and twice"),
    "not finite": (maxtext_record(top_k_logits=np.full((2, LENGTH, 9), np.nan, np.float32)), "found nan"),
    "ids beyond": (maxtext_record(top_k_indices=np.full((2, LENGTH, 9), VOCAB, np.int32)), f"found {VOCAB}"),
}


@pytest.mark.parametrize("fault", MAXTEXT_FAULTS)
def test_records_of_maxtext_that_are_none_are_named(fault: str, records, tmp_path) -> None:
    data, said = MAXTEXT_FAULTS[fault]
    path = write_records(tmp_path / "a.array_record", maxtext_record(), data)
    with pytest.raises(UserError, match=said) as error:
        import_maxtext(path, tmp_path / "labels", **ARGUMENTS)
    assert "record 1" in str(error.value) and not (tmp_path / "labels").exists()


def megatron_tar(path: Path, steps: dict[int, list[tuple[np.ndarray, np.ndarray]]], dtype: str = "fp16") -> Path:
    """As Megatron-LM writes it: values, lower 16 bits and 17th bit of ids of every micro-batch, (T, B, K)."""
    kinds = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    meta = {"hash": "0", "identifiers": {"sequence_length": LENGTH}, "saver": {"k": 6, "p": None, "save_dtype": dtype}}
    members = [("_meta.json", json.dumps(meta).encode())]
    for iteration, batches in steps.items():
        buffer = io.BytesIO()
        ids = [torch.from_numpy(ids_TBK) for ids_TBK, _ in batches]
        torch.save(
            {
                "values": [torch.from_numpy(values).to(kinds[dtype]) for _, values in batches],
                "indices_low": [(one & 0xFFFF).to(torch.uint16) for one in ids],
                "bit_17": [(one >> 16).to(torch.bool) for one in ids],
            },
            buffer,
        )
        members.append((f"{iteration}.pt.zst", zstandard.compress(buffer.getvalue())))
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def megatron_batch(seed: int, size: int, vocab: int = VOCAB, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    ids = chance.integers(0, vocab - width, (LENGTH, size, 1)) + np.arange(width)
    values = np.log(-np.sort(-chance.dirichlet(np.ones(width + 2), (LENGTH, size)))[..., :width])
    return ids, values.astype(np.float32)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_a_tar_of_megatron_is_read_without_its_pickle(dtype: str, tmp_path, monkeypatch) -> None:
    vocab = 70_000 if dtype == "fp32" else VOCAB  # beyond 16 bits, where the 17th is used
    batches = [megatron_batch(seed, 2, vocab) for seed in range(5)]
    batches[1][1][3, 0, 4:] = -1e3  # what top-p left out
    megatron_tar(tmp_path / "cp0_dp0__1.tar", {0: batches[:2], 1: batches[2:4]}, dtype)
    megatron_tar(tmp_path / "cp0_dp0__12.tar", {12: batches[4:]}, dtype)
    tokens = TinySequences(10).batch(range(10)).tokens_BT.numpy()
    monkeypatch.setattr(torch, "load", None)
    identity = {**IDENTITY, "vocab_size": vocab}
    manifest: Manifest = import_megatron(
        tmp_path, tokens.reshape(-1), tmp_path / "labels", identity=identity, sequence_length=LENGTH
    )  # type: ignore[arg-type]
    assert manifest.num_records == 10
    labels = LabelStore.open(tmp_path / "labels").lookup(torch.from_numpy(tokens))
    for number, (ids_TBK, values_TBK) in enumerate(batches):
        for place in range(2):
            row = 2 * number + place
            for position in range(LENGTH - 1):
                kept = values_TBK[position, place] > -900
                listed = ids_TBK[position, place][kept].tolist()
                wanted = dict(zip(listed, values_TBK[position, place][kept], strict=True))
                ids, weights = labels.ids[row, position].tolist(), labels.weights[row, position].tolist()
                found = {one: weight for one, weight in zip(ids, weights, strict=True) if weight > 0}
                assert found.keys() == wanted.keys()
                assert all(abs(found[one] ** 0.5 - np.exp(wanted[one] / 2)) < 0.012 for one in wanted)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


MEGATRON_FAULTS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "ids of another number": (lambda _: None, 3, "do not fit 96 token ids"),
    "another rank beside": (lambda folder: megatron_tar(folder / "cp0_dp1__1.tar", {}), 2, "cp0_dp0, cp0_dp1"),
    "context parallelism": (lambda folder: (folder / "cp0_dp0__1.tar").rename(folder / "cp1_dp0__1.tar"), 2, "cp1_dp0"),
    "another name": (lambda folder: megatron_tar(folder / "x.tar", {}), 2, "expected tars"),
    "cut off": (lambda folder: cut(folder / "cp0_dp0__1.tar"), 2, "cannot be read as Megatron-LM's tar"),
}


@pytest.mark.parametrize("fault", MEGATRON_FAULTS)
def test_tars_of_megatron_that_are_none_are_named(fault: str, tmp_path) -> None:
    change, count, said = MEGATRON_FAULTS[fault]
    (tmp_path / "in").mkdir()
    megatron_tar(tmp_path / "in/cp0_dp0__1.tar", {0: [megatron_batch(0, 1)], 1: [megatron_batch(1, 1)]})
    change(tmp_path / "in")
    tokens = TinySequences().batch(range(count)).tokens_BT.numpy()
    with pytest.raises(UserError, match=said):
        import_megatron(tmp_path / "in", tokens, tmp_path / "labels", **ARGUMENTS)
    assert not (tmp_path / "labels").exists()


LLAMAKD_FAULTS = {
    "three lists": ([[[-0.5], [3.0], [1.0]]] * LENGTH, "two lists of 1 numbers"),
    "other lengths": ([[[-0.5, -1.0], [3.0]]] * LENGTH, "two lists of 2 numbers"),
    "ids that are none": ([[[-0.5], [3.5]]] * LENGTH, "ids that are no whole numbers"),
    "ids and values in turn": ([[[3.0], [-0.5]]] * LENGTH, "column targets"),
    "flat": ([[-0.5, 3.0]] * LENGTH, "is of type list<.*; expected list of list of list of numbers"),
}


@pytest.mark.parametrize("fault", LLAMAKD_FAULTS)
def test_rows_of_llamakd_that_are_none_are_named(fault: str, tmp_path) -> None:
    targets, said = LLAMAKD_FAULTS[fault]
    table = pyarrow.table({"inputs": [list(range(LENGTH))], "targets": [targets]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=said):
        import_parquet(tmp_path / "a.parquet", tmp_path / "labels", **ARGUMENTS)
    assert not (tmp_path / "labels").exists()


def test_a_form_that_there_is_not_is_refused(made, tmp_path) -> None:
    with pytest.raises(UserError, match="--to: is 'llama', expected one of parquet, llamakd, distillkit, maxtext"):
        export_labels(made, tmp_path / "x", "llama")
    with pytest.raises(UserError, match="give its ids by --import-tokens"):
        export_labels(made, tmp_path / "x.kd", "parquet")
    assert not list(tmp_path.iterdir())
