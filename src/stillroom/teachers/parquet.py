"""A store into Parquet, and labels in Parquet into a store.

Letters: R sequences, T positions, N = R·T, K kept ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.teachers import distillkit
from stillroom.teachers.foreign import Foreign, write_foreign
from stillroom.teachers.labelling import Progress
from stillroom.teachers.manifest import Manifest
from stillroom.teachers.store import LabelStore
from stillroom.types import SoftLabels, UserError

EXPORT_RECORDS = 64
"""Records that are decoded at one time for an export."""


def import_parquet(
    path: Path, folder: Path, *, identity: Mapping[str, Any], sequence_length: int, progress: Progress | None = None
) -> Manifest:
    """A store from plain top-k Parquet.

    Columns: ``input_ids``, ``token_ids`` (ids per position) and ``logprobs`` or ``top_values`` (nats per position): row
    t of a sequence predicts its token t + 1. This is what ``export_parquet`` writes.
    """
    rows = ((row["input_ids"], _table(row["token_ids"], np.int32), _values(row, path)) for row in _parquet_rows(path))
    foreign = _gather(rows, sequence_length)
    return write_foreign(foreign, folder, identity=identity, origin=path.name, progress=progress)


def import_distillkit(
    path: Path, folder: Path, *, identity: Mapping[str, Any], sequence_length: int, progress: Progress | None = None
) -> Manifest:
    """A store from DistillKit's compressed Parquet; its ``compression_config.yaml`` lies beside the files."""
    config = distillkit.read_config(path)

    def decoded() -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        for row in _parquet_rows(path):
            for name in ("compressed_logprobs", "bytepacked_indices"):
                if name not in row:
                    raise UserError(f"{path}: has no column {name}; expected DistillKit's compressed Parquet.")
            values = _table(row["compressed_logprobs"], np.uint8)
            ids = _table(row["bytepacked_indices"], np.uint8)
            yield row["input_ids"], distillkit.ids(ids, config), distillkit.logprobs(values, config)

    foreign = _gather(decoded(), sequence_length)
    return write_foreign(foreign, folder, identity=identity, origin=path.name, progress=progress)


def export_parquet(store: LabelStore, path: Path) -> int:
    """Writes every record of a store as a row of one Parquet file; returns the number of rows.

    Columns: ``input_ids``, ``token_ids`` and ``logprobs`` (natural logarithm of the weight) per position, ``entropy``,
    ``gold_logprob``, ``gold_rank``, and ``tail`` where the codec keeps one.
    """
    arrow, parquet = _arrow()
    writer = None
    for start in range(0, len(store), EXPORT_RECORDS):
        tokens_RT, labels = store.read(range(start, min(start + EXPORT_RECORDS, len(store))))
        table = arrow.table(_columns(tokens_RT.numpy(), labels, arrow))
        writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return len(store)


def _columns(tokens_RT: np.ndarray, labels: SoftLabels, arrow: Any) -> dict[str, Any]:
    records, length = tokens_RT.shape
    used = (labels.weights > 0).numpy()
    per_position = np.concatenate(([0], np.cumsum(used.sum(-1).reshape(-1)))).astype(np.int32)
    per_record = (np.arange(records + 1) * length).astype(np.int32)

    def flat(values: np.ndarray) -> Any:
        return arrow.ListArray.from_arrays(per_record, arrow.array(values.reshape(-1)))

    def nested(values: np.ndarray) -> Any:
        return arrow.ListArray.from_arrays(
            per_record, arrow.ListArray.from_arrays(per_position, arrow.array(values[used]))
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


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("Parquet: needs one more package; pip install 'stillroom[parquet]'.") from error
    return pyarrow, pyarrow.parquet


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    _, parquet = _arrow()
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f"{path}: no Parquet file is there; give a file or a folder of *.parquet.")
    for file in files:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=16):
            yield from batch.to_pylist()


def _values(row: Mapping[str, Any], path: Path) -> np.ndarray:
    for name in ("logprobs", "top_values"):
        if name in row:
            return _table(row[name], np.float32)
    raise UserError(f"{path}: has columns {', '.join(row)}; expected input_ids, token_ids and logprobs or top_values.")


def _table(lists: list[list[Any]], kind: type) -> np.ndarray:
    """Lists of differing lengths as one array; missing places are 0, or -inf among log-probabilities."""
    width = max((len(one) for one in lists), default=0)
    table = np.full((len(lists), max(1, width)), -np.inf if kind is np.float32 else 0, kind)
    for place, one in enumerate(lists):
        table[place, : len(one)] = one
    return table


def _gather(rows: Iterator[tuple[list[int], np.ndarray, np.ndarray]], length: int) -> Foreign:
    """The first ``length`` positions of every sequence that has them; the last may lack labels."""
    tokens, ids, logprobs, skipped = [], [], [], 0
    for input_ids, ids_NK, logprobs_NK in rows:
        if len(input_ids) < length or len(ids_NK) < length - 1:
            skipped += 1
            continue
        tokens.append(np.asarray(input_ids[:length], np.int32))
        missing = length - len(ids_NK[:length])  # the last token predicts nothing inside the sequence
        ids.append(np.pad(ids_NK[:length], ((0, missing), (0, 0))))
        logprobs.append(np.pad(logprobs_NK[:length], ((0, missing), (0, 0)), constant_values=-np.inf))
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
