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
from stillroom.labels.exchange.importing import Bounds, Foreign, Names, check_foreign, write_foreign
from stillroom.labels.format.manifest import Identity, Manifest
from stillroom.labels.store import LabelStore
from stillroom.types import OnProgress, SoftLabels, UserError

WHOLE, REAL = "whole numbers", "numbers"
DISTILLKIT = Names("input_ids", "bytepacked_indices", "compressed_logprobs")
LOSSY_NATS, LOSSY_MASS = 0.5, 2.0
"""How far above 0 nats, and above 1 together, labels may come out that were compressed with loss."""
_ROWS = 16  # of a file, in memory
EXPORT_RECORDS = 64
"""Records that are decoded at one time for an export."""


def import_parquet(
    path: Path, folder: Path, *, identity: Identity, sequence_length: int, progress: OnProgress | None = None
) -> Manifest:
    """A store from plain top-k Parquet.

    Columns: ``input_ids``, ``token_ids`` (ids per position) and ``logprobs`` or ``top_values`` (nats per position): row
    t of a sequence predicts its token t + 1. This is what ``export_parquet`` writes. Raises ``UserError`` where pyarrow
    is not installed, or the files are not such Parquet.
    """
    bounds = Bounds(int(identity["vocab_size"]))

    def rows() -> Iterator[_Row]:
        for batch in _batches(path):
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
                yield _Row(where, tokens_T, ids_NK.table, logprobs_NK.table, names)

    foreign = _gather(rows(), sequence_length, bounds)
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

    def rows() -> Iterator[_Row]:
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
                yield _Row(where, tokens_T, ids_NK, logprobs_NK, DISTILLKIT)

    foreign = _gather(rows(), sequence_length, bounds)
    return write_foreign(foreign, folder, identity=identity, origin=path.name, progress=progress)


def export_parquet(store: LabelStore, path: Path) -> int:
    """Writes every record of a store as a row of one Parquet file, which appears whole; returns the number of rows.

    Raises ``UserError`` where pyarrow is not installed or the file cannot be written.

    Columns: ``input_ids``, ``token_ids`` and ``logprobs`` (natural logarithm of the weight) per position, ``entropy``,
    ``gold_logprob``, ``gold_rank``, and ``tail`` where the codec keeps one.
    """
    pyarrow = arrow("Parquet")

    def tables() -> Iterator[Any]:
        for start in range(0, len(store), EXPORT_RECORDS):
            tokens_RT, labels = store.read(range(start, min(start + EXPORT_RECORDS, len(store))))
            yield pyarrow.table(_columns(tokens_RT.numpy(), labels, pyarrow))

    some = tables()
    first = next(some)  # a store holds at least one sequence
    with file_aside(path) as scratch, _written(pyarrow.parquet, scratch, first.schema) as writer:
        for table in itertools.chain((first,), some):
            writer.write_table(table)
    return len(store)


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
class _Row:
    """One sequence of a file, and how it is named to a person."""

    where: str
    tokens_T: np.ndarray
    ids_NK: np.ndarray
    logprobs_NK: np.ndarray
    names: Names


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


def _gather(rows: Iterator[_Row], length: int, bounds: Bounds) -> Foreign:
    """The first ``length`` positions of every sequence that has them; the last may lack labels."""
    tokens, ids, logprobs, skipped = [], [], [], 0
    for row in rows:
        count = len(row.tokens_T)
        if not count - 1 <= len(row.ids_NK) <= count:
            raise UserError(
                f"{row.where}: {row.names.tokens} has {count} tokens but {row.names.ids} {len(row.ids_NK)} positions; "
                "expected one position to each token, or to each but the last."
            )
        if count < length:
            skipped += 1
            continue
        tokens_T, ids_NK, logprobs_NK = row.tokens_T[:length], row.ids_NK[:length], row.logprobs_NK[:length]
        check_foreign(row.where, tokens_T, ids_NK, logprobs_NK, bounds, row.names)
        missing = length - len(ids_NK)  # the last token predicts nothing inside the sequence
        tokens.append(tokens_T.astype(np.int32))
        ids.append(np.pad(ids_NK.astype(np.int32), ((0, missing), (0, 0))))
        logprobs.append(np.pad(logprobs_NK, ((0, missing), (0, 0)), constant_values=-np.inf))
    if not tokens:
        return Foreign(np.zeros((0, length), np.int32), np.zeros((0, length, 1), np.int32), np.zeros((0, length, 1)))
    width = max(one.shape[1] for one in ids)
    return Foreign(
        tokens_RT=np.stack(tokens),
        ids_RTK=np.stack([_widened(one, width, 0) for one in ids]),
        logprobs_RTK=np.stack([_widened(one, width, -np.inf) for one in logprobs]),
        skipped=skipped,
    )


def _widened(one_NK: np.ndarray, width: int, fill: float) -> np.ndarray:
    return np.pad(one_NK, ((0, 0), (0, width - one_NK.shape[1])), constant_values=fill)
