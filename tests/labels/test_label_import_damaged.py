"""Labels that others wrote and damaged: one sentence that names file, row and column, and nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillroom.labels import LabelStore, import_distillkit, import_kd, import_parquet
from stillroom.types import UserError
from tiny_labels import IDENTITY

LENGTH = 6
VOCAB = 300
NAN, INF = float("nan"), float("inf")
Table = dict[str, Any]


def good(rows: int = 3) -> Table:
    """Three sequences of six tokens with two ids each."""
    return {
        "input_ids": [[5, 6, 7, 8, 9, row] for row in range(rows)],
        "token_ids": [[[place, place + 1] for place in range(LENGTH)] for _ in range(rows)],
        "logprobs": [[[-0.2, -2.5]] * LENGTH for _ in range(rows)],
    }


def changed(column: str, row: int, position: int, value: Any) -> Callable[[Table], None]:
    def change(table: Table) -> None:
        table[column][row] = [*table[column][row]]
        table[column][row][position] = value

    return change


def refused(folder: Path, table: Any, **options: Any) -> str:
    """The sentence that an import of a table ends in; nothing is left of it."""
    path = folder / "x.parquet"
    pyarrow.parquet.write_table(table if isinstance(table, pyarrow.Table) else pyarrow.table(table), path)
    with pytest.raises(UserError) as error:
        import_parquet(path, folder / "labels", identity=IDENTITY, sequence_length=LENGTH, **options)
    assert sorted(one.name for one in folder.iterdir()) == ["x.parquet"]
    sentence = str(error.value)
    assert "x.parquet" in sentence and sentence.endswith(".") and sentence.count(". ") == 0
    return sentence


DAMAGED: dict[str, tuple[Callable[[Table], object], str]] = {
    "NaN": (changed("logprobs", 1, 2, [NAN, -1.0]), r"row 1, column logprobs, position 2: found nan"),
    "positive": (changed("logprobs", 0, 3, [0.7, -1.0]), r"row 0, column logprobs, position 3: found 0\.69"),
    "infinite": (changed("logprobs", 2, 5, [INF, -1.0]), r"row 2, column logprobs, position 5: found inf"),
    "probabilities": (changed("logprobs", 0, 0, [0.6, 0.3]), r"position 0: found 0\.6.*logarithms"),
    "scores": (changed("logprobs", 0, 0, [14.5, 12.0]), r"position 0: found 14\.5.*logarithms"),
    "too much": (changed("logprobs", 1, 1, [-0.1, -0.1]), r"row 1, column logprobs, position 1: found 1\.8"),
    "an id of another": (changed("token_ids", 1, 4, [3, VOCAB]), r"row 1, column token_ids, position 4: found 300"),
    "a negative id": (changed("token_ids", 1, 4, [-1, 3]), r"row 1, column token_ids, position 4: found -1"),
    "a huge id": (changed("token_ids", 0, 4, [2**32 + 3, 3]), r"column token_ids, position 4: found 4294967299"),
    "an id twice": (changed("token_ids", 2, 0, [9, 9]), r"row 2, column token_ids, position 0: found 9.*once"),
    "a token of another": (changed("input_ids", 2, 1, VOCAB), r"row 2, column input_ids, position 1: found 300"),
    "a negative token": (changed("input_ids", 2, 1, -3), r"row 2, column input_ids, position 1: found -3"),
    "a huge token": (changed("input_ids", 2, 1, 2**32 + 5), r"column input_ids, position 1: found 4294967301"),
    "a null token": (changed("input_ids", 0, 0, None), r"column input_ids holds a null among rows 0 to 2"),
    "a null id": (changed("token_ids", 0, 0, [None, 1]), r"column token_ids holds a null"),
    "a null value": (changed("logprobs", 0, 0, [None, -1.0]), r"column logprobs holds a null"),
    "a null position": (changed("logprobs", 0, 0, None), r"column logprobs holds a null"),
    "a null row": (lambda table: table["token_ids"].__setitem__(1, None), r"column token_ids holds a null"),
    "fewer ids": (changed("token_ids", 0, 2, [4]), r"row 0: token_ids and logprobs name 6 and 6 positions, or other"),
    "fewer positions": (
        lambda table: [table[name].__setitem__(1, table[name][1][:4]) for name in ("token_ids", "logprobs")],
        r"row 1: input_ids has 6 tokens but token_ids 4 positions",
    ),
    "more positions": (
        lambda table: [table[name].__setitem__(1, table[name][1] * 2) for name in ("token_ids", "logprobs")],
        r"row 1: input_ids has 6 tokens but token_ids 12 positions",
    ),
    "a position without ids": (
        lambda table: [changed(name, 1, 2, [])(table) for name in ("token_ids", "logprobs")],
        r"row 1, column logprobs, position 2: found 0, expected an id to each position",
    ),
    "all impossible": (changed("logprobs", 1, 2, [-INF, -INF]), r"row 1, column logprobs, position 2: found 0"),
    "no column of ids": (lambda table: table.pop("token_ids"), r"column token_ids is missing, found input_ids"),
    "no column of values": (lambda table: table.pop("logprobs"), r"expected input_ids, token_ids and logprobs"),
    "no column of tokens": (lambda table: table.pop("input_ids"), r"column input_ids is missing"),
    "texts": (lambda table: table.update(input_ids=[["a"] * 6] * 3), r"input_ids is of type list<.*string>; expected"),
    "a flat column": (lambda table: table.update(token_ids=[[1] * 6] * 3), r"token_ids is of type list<.*int64>; exp"),
    "a text column": (lambda table: table.update(token_ids=["a", "b", "c"]), r"token_ids is of type string; expected"),
    "numbers with a point": (lambda table: table.update(input_ids=[[0.5] * 6] * 3), r"input_ids is of type list<.*dou"),
    "texts for values": (lambda table: table.update(logprobs=[[["x", "y"]] * 6] * 3), r"logprobs is of type"),
    "truths for ids": (lambda table: table.update(token_ids=[[[True, False]] * 6] * 3), r"token_ids is of type"),
    "nothing but empty rows": (
        lambda table: table.update(input_ids=[[]] * 3, token_ids=[[]] * 3, logprobs=[[]] * 3),
        r"holds no sequence of the wanted length",
    ),
    "far below": (changed("logprobs", 1, 2, [1e300, -1e300]), r"row 1, column logprobs, position 2: found inf"),
    "no rows": (
        lambda table: table.update({name: pyarrow.array(column)[:0] for name, column in table.items()}),
        r"holds no sequence of the wanted length",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_named(tmp_path, damage):
    change, sentence = DAMAGED[damage]
    table = good()
    change(table)
    assert re.search(sentence, refused(tmp_path, table))


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    names, columns = zip(*good().items(), strict=True)
    table = pyarrow.Table.from_arrays([pyarrow.array(one) for one in (*columns, columns[2])], [*names, "logprobs"])
    assert "column logprobs is there more than once" in refused(tmp_path, table)


def test_damage_far_down_is_named_by_its_row(tmp_path):
    table = good(40)
    changed("logprobs", 37, 2, [NAN, -1.0])(table)
    assert "row 37, column logprobs, position 2" in refused(tmp_path, table)


@pytest.mark.parametrize(
    "kind", ["large_list", "fixed", "float16", "int32", "uint16", "unsorted", "top_values", "half"]
)
def test_other_forms_of_the_same_labels_are_read(tmp_path, kind):
    table = good()
    arrays = {name: pyarrow.array(column) for name, column in table.items()}
    nested = pyarrow.list_(pyarrow.list_(pyarrow.float32()))
    if kind == "large_list":
        arrays["logprobs"] = arrays["logprobs"].cast(pyarrow.large_list(pyarrow.large_list(pyarrow.float64())))
    if kind == "fixed":
        arrays["input_ids"] = arrays["input_ids"].cast(pyarrow.list_(pyarrow.int64(), 6))
        arrays["token_ids"] = arrays["token_ids"].cast(pyarrow.list_(pyarrow.list_(pyarrow.int64(), 2)))
    if kind == "float16":
        arrays["logprobs"] = pyarrow.array(
            [[np.array([-0.2, -2.5], np.float16).tolist()] * LENGTH] * 3,
            pyarrow.list_(pyarrow.list_(pyarrow.float16())),
        )
    if kind in ("int32", "uint16"):
        arrays["token_ids"] = arrays["token_ids"].cast(pyarrow.list_(pyarrow.list_(getattr(pyarrow, kind)())))
    if kind == "unsorted":
        arrays["logprobs"] = pyarrow.array([[[-2.5, -0.2]] * LENGTH] * 3, nested)
    if kind == "half":  # rounding may lift a sum a little above 1
        arrays["logprobs"] = pyarrow.array([[[-0.693, -0.69]] * LENGTH] * 3, nested)
    if kind == "top_values":
        arrays["top_values"] = arrays.pop("logprobs")
    pyarrow.parquet.write_table(pyarrow.table(arrays), tmp_path / "x.parquet")
    import_parquet(tmp_path / "x.parquet", tmp_path / "labels", identity=IDENTITY, sequence_length=LENGTH)
    labels = LabelStore.open(tmp_path / "labels").lookup(torch.tensor(table["input_ids"]))
    first = labels.weights[0, 0].sort(descending=True).values[:2]
    wanted = [0.5, 0.5] if kind == "half" else np.exp([-0.2, -2.5])
    assert np.allclose(first, wanted, atol=0.02)


def test_the_last_position_may_lack_labels_and_others_may_hold_hardly_any_mass(tmp_path):
    table = good()
    for name in ("token_ids", "logprobs"):
        table[name] = [row[:5] for row in table[name]]
    changed("logprobs", 0, 0, [-60.0, -70.0])(table)
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "x.parquet")
    manifest = import_parquet(tmp_path / "x.parquet", tmp_path / "labels", identity=IDENTITY, sequence_length=LENGTH)
    assert np.isfinite(float(manifest.fidelity["mean_kl_nats"])) and float(manifest.fidelity["mean_kl_nats"]) < 0.01
    labels = LabelStore.open(tmp_path / "labels").lookup(torch.tensor(table["input_ids"]))
    assert float(labels.weights[0, 0].sum()) < 1e-3 and bool(labels.weights.isfinite().all())


@pytest.mark.parametrize("content", [b"", b"PAR1", b"<html>please log in</html>", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.parquet: cannot be read as Parquet"):
        import_parquet(tmp_path / "x.parquet", tmp_path / "labels", identity=IDENTITY, sequence_length=LENGTH)


def attempt(path: Path, folder: Path) -> None:
    """Imports a file; either there is a store every byte of which holds, or a sentence and no store."""
    try:
        import_parquet(path, folder, identity=IDENTITY, sequence_length=LENGTH)
    except UserError as error:
        assert str(error).endswith(".") and not folder.exists()
    else:
        store = LabelStore.open(folder)
        assert sum(1 for _ in store.verify()) == 1
        _, labels = store.read(range(len(store)))
        assert bool(labels.weights.isfinite().all()) and float(labels.weights.min()) >= 0
        assert labels.tail is not None
        assert np.allclose(labels.weights.sum(-1) + labels.tail, 1.0, atol=1e-4)


numbers = st.one_of(st.floats(width=32), st.floats(-5, 0.5, width=32), st.none())
ids = st.one_of(st.integers(-(2**62), 2**62), st.integers(0, VOCAB), st.none())
EASY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@EASY
@given(data=st.data())
def test_whatever_one_cell_holds_there_is_a_whole_store_or_a_sentence(tmp_path_factory, data):
    table = good()
    column = data.draw(st.sampled_from(sorted(table)))
    row, position = data.draw(st.integers(0, 2)), data.draw(st.integers(0, LENGTH - 1))
    value = {
        "input_ids": ids,
        "token_ids": st.lists(ids, max_size=4),
        "logprobs": st.lists(numbers, max_size=4),
    }[column]
    changed(column, row, position, data.draw(st.one_of(st.none(), value) if column != "input_ids" else value))(table)
    folder = tmp_path_factory.mktemp("cell")
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "x.parquet")
    attempt(folder / "x.parquet", folder / "labels")


@EASY
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), cut=st.booleans())
def test_whatever_byte_is_damaged_there_is_a_whole_store_or_a_sentence(tmp_path_factory, place, byte, cut):
    folder = tmp_path_factory.mktemp("byte")
    pyarrow.parquet.write_table(pyarrow.table(good()), folder / "x.parquet", write_page_checksum=True)
    data = bytearray((folder / "x.parquet").read_bytes())
    where = int(place * len(data))
    if cut:
        del data[where:]
    else:
        data[where] ^= byte
    (folder / "x.parquet").write_bytes(data)
    attempt(folder / "x.parquet", folder / "labels")


def sidecar(folder: Path, change: Callable[[bytearray], None] = lambda data: None) -> tuple[Path, np.ndarray]:
    """A .kd sidecar of 12 tokens with two ids each, and its tokens."""
    count, width = 12, 2
    header = bytearray(1024)
    header[:8] = b"KD.LOGP\n"
    header[8:32] = np.array([1, width, count, VOCAB, 0, 0], "<i4").tobytes()
    body = np.tile(np.array([3, 4], "<u4"), count).tobytes() + np.tile(np.array([-0.2, -2.5], "<f2"), count).tobytes()
    data = bytearray(bytes(header) + body)
    change(data)
    (folder / "x.kd").write_bytes(data)
    return folder / "x.kd", np.arange(count)


def overwritten(start: int, new: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[start : start + len(new)] = new

    return change


VALUES = 1024 + 12 * 2 * 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            overwritten(VALUES + 4, np.float16(NAN).tobytes()),
            r"sequence 0, column log-probabilities, position 1: found n",
        ),
        (overwritten(VALUES + 32, np.float16(0.5).tobytes()), r"sequence 1, column log-prob.*, position 2: found 0\.5"),
        (overwritten(1024, np.uint32(300).tobytes()), r"sequence 0, column ids, position 0: found 300"),
        (overwritten(1024, np.uint32(2**32 - 1).tobytes()), r"column ids, position 0: found 4294967295"),
        (overwritten(1024, np.uint32(4).tobytes()), r"column ids, position 0: found 4, expected every id once"),
        (overwritten(12, np.int32(-2).tobytes()), r"holds 12 rows of -2 ids"),
        (overwritten(12, np.int32(0).tobytes()), r"holds 12 rows of 0 ids"),
        (overwritten(8, np.int32(7).tobytes()), r"version 7"),
        (lambda data: data.__delitem__(slice(-5, None)), r"in 1163 bytes"),
        (lambda data: data.clear(), r"does not begin like a \.kd"),
    ],
)
def test_a_damaged_sidecar_is_named(tmp_path, change, sentence):
    path, tokens = sidecar(tmp_path, change)
    with pytest.raises(UserError, match=sentence):
        import_kd(path, tokens, tmp_path / "labels", identity=IDENTITY, sequence_length=LENGTH)
    assert not (tmp_path / "labels").exists()


def test_tokens_of_another_tokenizer_beside_a_sidecar_are_named(tmp_path):
    path, tokens = sidecar(tmp_path)
    import_kd(path, tokens, tmp_path / "good", identity=IDENTITY, sequence_length=LENGTH)
    for token in (-1, VOCAB, 2**32 + 1):
        with pytest.raises(UserError, match=rf"sequence 1, column tokens, position 1: found {token}"):
            wrong = np.where(np.arange(12) == 7, token, tokens)
            import_kd(path, wrong, tmp_path / "labels", identity=IDENTITY, sequence_length=LENGTH)


SETTINGS = {
    "d": VOCAB, "k": 3, "exact_k": 1, "exact_dtype": "float32", "polynomial_terms": [0], "term_dtype": "float32",
    "residual_bins": [], "delta_encoding": False, "normalize_t": False,
}  # fmt: skip


def distilled(folder: Path, settings_: Any, value_bytes: bytes, id_bytes: bytes) -> None:
    rows = {
        "input_ids": [[1, 2, 3, 4, 5, 6]],
        "compressed_logprobs": [[list(value_bytes)] * LENGTH],
        "bytepacked_indices": [[list(id_bytes)] * LENGTH],
    }
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "x.parquet")
    (folder / "compression_config.yaml").write_text(yaml.safe_dump(settings_))


def values(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


def packed(*numbers: int) -> bytes:
    text = "".join(format(number, "09b") for number in numbers)
    return int(text.ljust(32, "0"), 2).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("change", "value_bytes", "id_bytes", "sentence"),
    [
        ({}, values(NAN, -3), packed(1, 2, 3), r"row 0, column compressed_logprobs, position 0: found nan"),
        ({}, values(2.0, -3), packed(1, 2, 3), r"column compressed_logprobs, position 0: found 2"),
        ({}, values(0.1, 0.1), packed(1, 2, 3), r"column compressed_logprobs, position 0: found 3\.3"),
        ({}, values(-1, -3), packed(1, 400, 3), r"column bytepacked_indices, position 0: found 400"),
        ({}, values(-1, -3), packed(1, 1, 3), r"column bytepacked_indices, position 0: found 1.*once"),
        ({}, values(-1), packed(1, 2, 3), r"column compressed_logprobs: holds \[4\] bytes to a position, expected 8"),
        ({}, values(-1, -3), b"abc", r"column bytepacked_indices: holds \[3\] bytes to a position, expected 4"),
        ({"k": 0}, b"", b"", r"compression_config.yaml: cannot be used \(k"),
        ({"k": 4000}, b"", b"", r"cannot be used .*k places"),
        ({"d": "many"}, b"", b"", r"cannot be used \(d"),
        ({"exact_k": 9}, b"", b"", r"cannot be used .*exact_k"),
        ({"exact_dtype": "int4"}, b"", b"", r"cannot be used \(exact_dtype"),
        ({"polynomial_terms": ["sin"]}, b"", b"", r"cannot be used \(polynomial_terms"),
        ({"residual_bins": [{"num_elements": 2}]}, b"", b"", r"cannot be used \(residual_bins"),
        (["a list"], b"", b"", r"cannot be used \(it: "),
    ],
)
def test_damaged_rows_and_settings_of_distillkit_are_named(tmp_path, change, value_bytes, id_bytes, sentence):
    distilled(tmp_path, SETTINGS | change if isinstance(change, dict) else change, value_bytes, id_bytes)
    with pytest.raises(UserError, match=sentence):
        import_distillkit(tmp_path, tmp_path / "labels", identity=IDENTITY, sequence_length=LENGTH)
    assert not (tmp_path / "labels").exists()


def test_settings_that_are_no_yaml_are_named(tmp_path):
    distilled(tmp_path, SETTINGS, values(-1, -3), packed(1, 2, 3))
    import_distillkit(tmp_path, tmp_path / "good", identity=IDENTITY, sequence_length=LENGTH)
    for content in (b"{", b"\xff\xfe", b"- " * 3000):
        (tmp_path / "compression_config.yaml").write_bytes(content)
        with pytest.raises(UserError, match=r"compression_config.yaml"):
            import_distillkit(tmp_path, tmp_path / "labels", identity=IDENTITY, sequence_length=LENGTH)
