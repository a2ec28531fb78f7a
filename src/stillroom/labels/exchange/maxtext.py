"""MaxText's ArrayRecord of top-k logits, in and out: a safetensors record to a batch.

A record has ``tokens`` (B, T), ``top_k_logits`` and ``top_k_indices`` (B, T, K), as MaxText's own
``verify_saved_logits.py`` reads them. Logits lack their sum, so that what lies outside of the K ids is lost: they are
read as if nothing did.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.arrow_tables import whole_table
from stillroom.files import file_aside
from stillroom.labels.exchange.importing import Bounds, ForeignRow, Names, gather, write_foreign
from stillroom.labels.exchange.topk_writers import largest_of
from stillroom.labels.format.manifest import Identity, Manifest
from stillroom.labels.store import LabelStore
from stillroom.types import OnProgress, Unreadable, UserError

MAXTEXT = Names("tokens", "top_k_indices", "top_k_logits")
_KIND = ("ArrayRecord", "array_record")


def import_maxtext(
    path: Path, folder: Path, *, identity: Identity, sequence_length: int, progress: OnProgress | None = None
) -> Manifest:
    """A store from an ``.array_record`` of MaxText's, or from all in a folder.

    Raises ``UserError`` where array-record is not installed, or the records are not such safetensors: earlier versions
    of MaxText wrote pickles, which are not read.
    """
    foreign = gather(_rows(path), sequence_length, Bounds(int(identity["vocab_size"])))
    origin = f"{path.name} (logits, renormalised over the kept ids)"
    return write_foreign(foreign, folder, identity=identity, origin=origin, progress=progress)


def export_maxtext(store: LabelStore, path: Path) -> int:
    """Writes a store as one ArrayRecord that MaxText trains from; returns the number of sequences.

    Log-probabilities stand in the place of logits. Raises ``UserError`` where array-record is not installed or the file
    cannot be written.
    """
    from safetensors.numpy import save

    with file_aside(path) as scratch:
        writer = _array_record().ArrayRecordWriter(str(scratch), "group_size:1000")
        for one in largest_of(store):
            values = (one.tokens_RT.astype(np.int32), one.ids_RTK.astype(np.int32), one.logprobs_RTK)
            writer.write(save({name: np.ascontiguousarray(v) for name, v in zip(MAXTEXT, values, strict=True)}))
        writer.close()
    return len(store)


def _array_record() -> Any:
    try:
        from array_record.python import array_record_module  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError("ArrayRecord: needs one more package; pip install 'stillroom[maxtext]'.") from error
    return array_record_module


def _rows(path: Path) -> Iterator[ForeignRow]:
    files = sorted(path.glob("*.array_record")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f"{path}: no ArrayRecord is there; give a file or a folder of *.array_record.")
    for file in files:
        with whole_table(str(file), *_KIND):
            reader = _array_record().ArrayRecordReader(str(file))
            count = reader.num_records() if reader.ok() else 0
        if not count:
            raise Unreadable(f"{file}: holds no records that ArrayRecord can read; fetch or write it again.")
        for number in range(count):
            with whole_table(f"{file}: record {number}", *_KIND):
                record = reader.read()
            yield from _of_record(record, f"{file}: record {number}")


def _of_record(record: bytes, where: str) -> Iterator[ForeignRow]:
    """The sequences of a record."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        fields = load(record)
    except SafetensorError:
        is_pickle = record[:1] == b"\x80"
        found = "a pickle, as MaxText wrote before it kept safetensors" if is_pickle else "no safetensors"
        raise Unreadable(f"{where}: is {found}, expected safetensors; let a newer MaxText write it again.") from None
    missing = [name for name in MAXTEXT if name not in fields]
    if missing:
        raise UserError(f"{where}: has no {', '.join(missing)}; expected {', '.join(MAXTEXT)}: check the file.")
    tokens_BT, ids, logits = (fields[name] for name in MAXTEXT)
    if tokens_BT.ndim != 2 or ids.shape != logits.shape or ids.shape[:-1] != tokens_BT.shape:
        raise UserError(
            f"{where}: holds {MAXTEXT.tokens} {tokens_BT.shape}, {MAXTEXT.ids} {ids.shape} and {MAXTEXT.logprobs} "
            f"{logits.shape}, expected (B, T) and twice (B, T, K); check the file."
        )
    logits = logits.astype(np.float32)
    highest = logits.max(-1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused by name later
        logprobs = logits - highest - np.log(np.exp(logits - highest).sum(-1, keepdims=True))
    for number, (tokens_T, ids_TK, logprobs_TK) in enumerate(zip(tokens_BT, ids, logprobs, strict=True)):
        names = (tokens_T.astype(np.int64), ids_TK.astype(np.int64), logprobs_TK)
        yield ForeignRow(f"{where}, sequence {number}", *names, MAXTEXT)
