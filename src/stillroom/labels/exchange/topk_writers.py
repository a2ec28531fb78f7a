"""A store in the forms of others that keep the largest probabilities: LlamaKD, DistillKit, surogate.

What these forms cannot hold is left out: entropy, gold log-probability and the mass outside. Sampled labels are written
as they are, with weights that sum to 1. Letters: R records, T positions, N = R·T, K places of the widest position.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stillroom.arrow_tables import arrow
from stillroom.files import file_aside, folder_aside, write_text
from stillroom.labels.exchange.importing import KD_HEADER_BYTES, KD_MAGIC
from stillroom.labels.exchange.parquet import DISTILLKIT, LLAMAKD, decoded, write_table
from stillroom.labels.store import LabelStore
from stillroom.types import SoftLabels, UserError


class Largest(NamedTuple):
    """Labels as others keep them, most likely first; places that are not used hold id 0 and -inf."""

    tokens_RT: np.ndarray  # int64
    ids_RTK: np.ndarray  # int64
    logprobs_RTK: np.ndarray  # float32, nats


def largest_of(store: LabelStore) -> Iterator[Largest]:
    """The labels of all records of a store, a few at a time and all as wide as the widest."""
    width = max(labels.ids.shape[-1] for _, labels in decoded(store))
    for tokens_RT, labels in decoded(store):
        yield Largest(tokens_RT, *sorted_by_weight(labels, width))


def sorted_by_weight(labels: SoftLabels, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and log-probabilities (..., ``width``), most likely first."""
    order = labels.weights.argsort(stable=True, dim=-1, descending=True)
    ids, logprobs = labels.ids.gather(-1, order), labels.weights.gather(-1, order).log()
    pad = (0, width - ids.shape[-1])
    return torch.nn.functional.pad(ids, pad).numpy(), torch.nn.functional.pad(logprobs, pad, value=-torch.inf).numpy()


def export_llamakd(store: LabelStore, path: Path) -> int:
    """Writes a store as one Parquet file in the form of the dataset LlamaKD; returns the number of rows.

    Columns: ``inputs``, and ``targets``: to every position its log-probabilities, then their ids. Raises ``UserError``
    where pyarrow is not installed or the file cannot be written.
    """
    pyarrow = arrow("Parquet")

    def table(one: Largest) -> Any:
        pairs = np.stack([one.logprobs_RTK, one.ids_RTK.astype(np.float32)], 2)
        columns = {LLAMAKD.tokens: one.tokens_RT.astype(np.int32), LLAMAKD.ids: pairs}
        return pyarrow.table({name: _lists(values, pyarrow) for name, values in columns.items()})

    write_table(path, map(table, largest_of(store)))
    return len(store)


def export_distillkit(store: LabelStore, folder: Path) -> int:
    """Writes a store as a folder that DistillKit reads, values exact in float32; returns the number of rows.

    Raises ``UserError`` where pyarrow is not installed or the folder cannot be written.
    """
    from stillroom.labels.exchange.distillkit import Compression  # its settings are YAML, which nothing else here needs

    pyarrow = arrow("Parquet")
    width = next(largest_of(store)).ids_RTK.shape[2]
    settings = Compression(d=store.manifest.vocab_size, k=width, exact_k=width, delta_encoding=False)

    def table(one: Largest) -> Any:
        bits = one.ids_RTK[..., None] >> np.arange(settings.id_bits - 1, -1, -1) & 1
        ids_RTP = np.packbits(bits.reshape(*one.tokens_RT.shape, -1).astype(np.uint8), axis=-1)
        values_RTP = np.ascontiguousarray(one.logprobs_RTK, "<f4").view(np.uint8)
        columns = zip(DISTILLKIT, (one.tokens_RT.astype(np.int32), ids_RTP, values_RTP), strict=True)
        return pyarrow.table({name: _lists(values, pyarrow) for name, values in columns})

    with folder_aside(folder) as scratch:
        write_table(scratch / "data_0.parquet", map(table, largest_of(store)))
        write_text(scratch / "compression_config.yaml", json.dumps(settings.model_dump(), indent=2) + "\n")
    return len(store)


def export_kd(store: LabelStore, tokens_N: np.ndarray, path: Path, tokenize_hash: str = "") -> int:
    """Writes the ``.kd`` sidecar of a surogate token shard; returns the number of its sequences.

    ``tokens_N``, (N,), are the ids of the shard's N tokens, windows of which have the store's labels; ``tokenize_hash``
    is what surogate wrote beside it (16 hexadecimal digits). Rows past the last whole window are zero, as surogate
    leaves them. Raises ``UserError`` for a window without labels.
    """
    length, count = store.manifest.sequence_length, len(tokens_N)
    whole = count // length
    if not whole:
        raise UserError(f"{path}: the shard has {count} tokens, expected a window of {length} at least; give another.")
    labels = store.lookup(torch.from_numpy(np.asarray(tokens_N[: whole * length], np.int64)).view(whole, length))
    width = labels.ids.shape[-1]
    ids, logprobs = (values.reshape(-1, width) for values in sorted_by_weight(labels, width))
    rest = ((0, count - whole * length), (0, 0))
    header = np.zeros(KD_HEADER_BYTES, np.uint8)
    header[:8] = np.frombuffer(KD_MAGIC, np.uint8)
    header[8:32] = np.array([1, width, count, store.manifest.vocab_size, 0, 0], "<i4").view(np.uint8)
    header[64:80] = np.frombuffer(tokenize_hash.encode().ljust(16, b"\0")[:16], np.uint8)
    with file_aside(path) as scratch:
        parts = (header, np.pad(ids, rest).astype("<u4"), np.pad(logprobs, rest).astype("<f2"))
        scratch.write_bytes(b"".join(part.tobytes() for part in parts))
    return whole


def _lists(values: np.ndarray, pyarrow: Any) -> Any:
    """An array of any number of dimensions as a column of lists of lists."""
    found = pyarrow.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        found = pyarrow.ListArray.from_arrays(np.arange(0, len(found) + 1, size, dtype=np.int32), found)
    return found
