"""A store into Parquet, and labels in Parquet into a store.

Letters: R sequences, T positions, N = R·T, K kept ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.arrow_tables import arrow, parquet_batches, parquet_file
from stillroom.files import file_aside
from stillroom.labels.exchange.importing import Bounds, ForeignRow, Names, gather, write_foreign
from stillroom.labels.format.manifest import Identity, Manifest
from stillroom.labels.store import LabelStore
from stillroom.types import OnProgress, SoftLabels, UserError

WHOLE, REAL = "whole numbers", "numbers"
DISTILLKIT = Names("input_ids", "bytepacked_indices", "compressed_logprobs")
LLAMAKD = Names("inputs", "targets", "targets")
LOSSY_NATS, LOSSY_MASS = 0.5, 2.0
"""How far above 0 nats, and above 1 together, labels may come out that were compressed with loss."""
_ROWS = 16  # of a file, in memory
EXPORT_RECORDS = 64
"""Records that are decoded at one time for an export."""


def import_parquet(
    path: Path, folder: Path, *, identity: Identity, sequence_length: int, progress: OnProgress | None = None
) -> Manifest:
    """A store from plain top-k Parquet, or from that of the dataset LlamaKD.

    Columns: ``input_ids``, ``token_ids`` (ids per position) and ``logprobs`` or ``top_values`` (nats per position): row
    t of a sequence predicts its token t + 1. This is what ``export_parquet`` writes. Or ``inputs`` and ``targets``, a
    pair to a position: log-probabilities, then as many ids. Raises ``UserError`` where pyarrow is not installed, or the
    files are not such Parquet.
    """
    bounds = Bounds(int(identity["vocab_size"]))

    def rows() -> Iterator[ForeignRow]:
        for batch in _batches(path):
            if LLAMAKD.ids in batch:
                yield from _pairs(batch)
                continue
            names = Names(logprobs=next((name for name in ("logprobs", "top_values") if name in batch), "logprobs"))
            tokens = batch.lists(names.tokens, WHOLE)
            ids, logprobs = batch.tables(names.ids, WHOLE, 0), batch.tables(names.logprobs, REAL, -np.inf)
            for number, (tokens_T, ids_NK, logprobs_NK) in enumerate(zip(tokens, ids, logprobs, strict=True)):
                where = f"{batch.file}: row {batch.first + number}"
                if not np.array_equal(ids_NK.sizes, logprobs_NK.sizes):
                    raise UserError(
                        f"{where}: {names.ids} and {names.logprobs} name {len(ids_NK.sizes)} and "
                        f"{len(logprobs_NK.sizes)} positions, or other numbers of ids at one; expected as many of both."
                    )
                yield ForeignRow(where, tokens_T, ids_NK.table, logprobs_NK.table, names)

    foreign = gather(rows(), sequence_length, bounds)
    return write_foreign(foreign, folder, identity=identity, origin=path.name, progress=progress)


def import_distillkit(
    path: Path, folder: Path, *, identity: Identity, sequence_length: int, progress: OnProgress | None = None
) -> Manifest:
    """A store from DistillKit's compressed Parquet; its ``compression_config.yaml`` lies beside the files.

    What it gives back is not exact, so that probabilities may come out above 1; they are scaled. Raises ``UserError``
    where pyarrow is not installed, or the files are not such Parquet.
    """
    from stillroom.labels.exchange import distillkit  # its settings are YAML, which nothing else here reads

    config = distillkit.read_compression(path)
    bounds = Bounds(int(identity["vocab_size"]), above=LOSSY_NATS, mass=LOSSY_MASS)

    def rows() -> Iterator[ForeignRow]:
        for batch in _batches(path):
            tokens = batch.lists(DISTILLKIT.tokens, WHOLE)
            ids, values = (batch.tables(name, WHOLE, 0) for name in (DISTILLKIT.ids, DISTILLKIT.logprobs))
            for number, (tokens_T, ids_NP, values_NP) in enumerate(zip(tokens, ids, values, strict=True)):
                where = f"{batch.file}: row {batch.first + number}"
                for name, packed, size in (
                    (DISTILLKIT.ids, ids_NP, config.id_bytes), (DISTILLKIT.logprobs, values_NP, config.value_bytes),
                ):  # fmt: skip
                    distillkit.check_packed(f"{where}, column {name}", packed.table, packed.sizes, size)
                if len(ids_NP.sizes) != len(values_NP.sizes):
                    raise UserError(
                        f"{where}: {DISTILLKIT.ids} and {DISTILLKIT.logprobs} name {len(ids_NP.sizes)} and "
                        f"{len(values_NP.sizes)} positions; expected as many of both."
                    )
                ids_NK = distillkit.ids(ids_NP.table.astype(np.uint8), config)
                logprobs_NK = distillkit.logprobs(values_NP.table.astype(np.uint8), config)
                yield ForeignRow(where, tokens_T, ids_NK, logprobs_NK, DISTILLKIT)

    foreign = gather(rows(), sequence_length, bounds)
    return write_foreign(foreign, folder, identity=identity, origin=path.name, progress=progress)


def _pairs(batch: _Rows) -> Iterator[ForeignRow]:
    """The rows of LlamaKD's form: ``targets`` holds the log-probabilities of a position, then their ids."""
    for number, (tokens_T, pairs_N) in enumerate(
        zip(batch.lists(LLAMAKD.tokens, WHOLE), batch.pairs(LLAMAKD.ids), strict=True)
    ):
        where = f"{batch.file}: row {batch.first + number}"
        ids_NK = pairs_N[:, 1]
        if not ((ids_NK == np.floor(ids_NK)) & (np.abs(ids_NK) < 1 << 24)).all():
            raise UserError(
                f"{where}, column {LLAMAKD.ids}: holds ids that are no whole numbers; write the file again."
            )
        yield ForeignRow(where, tokens_T, ids_NK.astype(np.int64), pairs_N[:, 0], LLAMAKD)


def export_parquet(store: LabelStore, path: Path) -> int:
    """Writes every record of a store as a row of one Parquet file, which appears whole; returns the number of rows.

    Raises ``UserError`` where pyarrow is not installed or the file cannot be written.

    Columns: ``input_ids``, ``token_ids`` and ``logprobs`` (natural logarithm of the weight) per position, ``entropy``,
    ``gold_logprob``, ``gold_rank``, and ``tail`` where the codec keeps one.
    """
    pyarrow = arrow("Parquet")
    write_table(path, (pyarrow.table(_columns(*one, pyarrow)) for one in decoded(store)))
    return len(store)


def decoded(store: LabelStore) -> Iterator[tuple[np.ndarray, SoftLabels]]:
    """Tokens (R, T) and labels of all records of a store, a few at a time."""
    for start in range(0, len(store), EXPORT_RECORDS):
        tokens_RT, labels = store.read(range(start, min(start + EXPORT_RECORDS, len(store))))
        yield tokens_RT.numpy(), labels


def write_table(path: Path, tables: Iterator[Any]) -> None:
    """Writes tables of the same columns as one Parquet file, which appears whole."""
    first = next(tables)  # a store holds at least one sequence
    with file_aside(path) as scratch, _written(arrow("Parquet").parquet, scratch, first.schema) as writer:
        for table in itertools.chain((first,), tables):
            writer.write_table(table)


def _written(parquet: Any, path: Path, schema: Any) -> Any:
    return parquet.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)


def _columns(tokens_RT: np.ndarray, labels: SoftLabels, pyarrow: Any) -> dict[str, Any]:
    records, length = tokens_RT.shape
    used = (labels.weights > 0).numpy()
    per_position = np.concatenate(([0], np.cumsum(used.sum(-1).reshape(-1)))).astype(np.int32)
    per_record = (np.arange(records + 1) * length).astype(np.int32)

    def flat(values: np.ndarray) -> Any:
        return pyarrow.ListArray.from_arrays(per_record, pyarrow.array(values.reshape(-1)))

    def nested(values: np.ndarray) -> Any:
        return pyarrow.ListArray.from_arrays(
            per_record, pyarrow.ListArray.from_arrays(per_position, pyarrow.array(values[used]))
        )

    columns = {
        "input_ids": flat(tokens_RT.astype(np.int32)),
        "token_ids": nested(labels.ids.numpy().astype(np.int32)),
        "logprobs": nested(np.log(np.where(used, labels.weights.numpy(), np.float32(1.0)))),
        "entropy": flat(labels.entropy.numpy()),
        "gold_logprob": flat(labels.gold_logprob.numpy()),
        "gold_rank": flat(labels.gold_rank.numpy()),
    }
    return columns if labels.tail is None else columns | {"tail": flat(labels.tail.numpy())}


@dataclass(frozen=True)
class _Ragged:
    """Lists of differing lengths as one array (N, widest), and how long each is (N,)."""

    table: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class _Rows:
    """Some rows of a Parquet file; ``first`` is the number of the first."""

    file: Path
    first: int
    batch: Any

    def __contains__(self, name: str) -> bool:
        return name in self.batch.schema.names

    def lists(self, name: str, wanted: str) -> list[np.ndarray]:
        """A column of lists of numbers, a row at a time."""
        (sizes_R,), flat = self._flat(name, 1, wanted)
        return np.split(flat, np.cumsum(sizes_R)[:-1]) if len(sizes_R) else []

    def tables(self, name: str, wanted: str, fill: float) -> list[_Ragged]:
        """A column of lists of lists of numbers, a row at a time; places that are not used hold ``fill``."""
        (sizes_R, sizes_N), flat = self._flat(name, 2, wanted)
        used_NK = np.arange(max(1, int(sizes_N.max(initial=0)))) < sizes_N[:, None]
        table_NK = np.full(used_NK.shape, fill, flat.dtype if flat.size else np.float32 if fill else np.int64)
        table_NK[used_NK] = flat
        ends = np.cumsum(sizes_R)[:-1]
        parts = zip(np.split(table_NK, ends), np.split(sizes_N, ends), strict=True)
        rows = [_Ragged(table[:, : max(1, int(sizes.max(initial=0)))], sizes) for table, sizes in parts]
        return rows if len(sizes_R) else []

    def pairs(self, name: str) -> list[np.ndarray]:
        """A column of two lists of equally many numbers to every position (N, 2, K), a row at a time."""
        (sizes_R, sizes_N, sizes_P), flat = self._flat(name, 3, REAL)
        width = int(sizes_P.max(initial=1))
        if (sizes_N != 2).any() or (sizes_P != width).any():
            raise UserError(
                f"{self.file}: column {name} holds other than two lists of {width} numbers to a position among rows "
                f"{self.first} to {self.last}; expected log-probabilities and as many ids."
            )
        return np.split(flat.reshape(-1, 2, width), np.cumsum(sizes_R)[:-1]) if len(sizes_R) else []

    def _flat(self, name: str, depth: int, wanted: str) -> tuple[list[np.ndarray], np.ndarray]:
        """Lengths of the lists of every level, and the numbers inside; refuses another type and nulls."""
        pyarrow = arrow("Parquet")
        where = f"{self.file}: column {name}"
        if name not in self:
            raise UserError(
                f"{where} is missing, found {', '.join(self.batch.schema.names)}; expected input_ids, token_ids and "
                "logprobs or top_values, or DistillKit's with its compression_config.yaml."
            )
        if self.batch.schema.names.count(name) > 1:
            raise UserError(f"{where} is there more than once; expected it once: write the file with one of them.")
        values, sizes = self.batch.column(name), []
        form = f"{'list of ' * depth}{wanted}"
        for level in range(depth + 1):
            if values.null_count:
                raise UserError(f"{where} holds a null among rows {self.first} to {self.last}; expected {form}.")
            if level < depth and not len(values):  # an empty list has no type of its own
                sizes.append(np.zeros(0, np.int64))
            elif level < depth:
                if not hasattr(values.type, "value_type") or pyarrow.types.is_dictionary(values.type):
                    raise UserError(f"{where} is of type {self.batch.column(name).type}; expected {form}.")
                sizes.append(pyarrow.compute.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64))
                values = pyarrow.compute.list_flatten(values)
        is_fit = pyarrow.types.is_integer(values.type) or (wanted == REAL and pyarrow.types.is_floating(values.type))
        if len(values) and not is_fit:
            raise UserError(f"{where} is of type {self.batch.column(name).type}; expected {form}.")
        flat = values.to_numpy(zero_copy_only=False) if len(values) else np.zeros(0)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is looked for later
            return sizes, flat.astype(np.float32 if wanted == REAL else np.int64)

    @property
    def last(self) -> int:
        return self.first + self.batch.num_rows - 1


def _batches(path: Path) -> Iterator[_Rows]:
    """The rows of a Parquet file, or of all in a folder, a few at a time; a ``UserError`` where a file is damaged."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f"{path}: no Parquet file is there; give a file or a folder of *.parquet.")
    for file in files:
        first = 0
        with parquet_file(file, str(file)) as table:
            for batch in parquet_batches(table, str(file), most=_ROWS):
                yield _Rows(file, first, batch)
                first += batch.num_rows
