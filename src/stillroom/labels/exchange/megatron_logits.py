"""Megatron-LM's tar of top-k log-probabilities, without the pickle inside it.

A member ``ITERATION.pt.zst`` is a file of ``torch.save``: a zip archive whose ``data/0``, ``data/1``, ... are the bare
numbers of tensors, and whose ``data.pkl``, which says what they are, is a program that this package does not run. The
layout is known without it: M micro-batches' values, then the lower 16 bits of their ids, then the 17th bits, (T, B, K)
each. ``_meta.json`` tells T and the values' type. A tar holds no token ids; they are given beside it.
As in Megatron-LM, ``megatron/training/distillation``, August 2026.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard

from stillroom.files import reading
from stillroom.labels.exchange.importing import Bounds, ForeignRow, Names, gather, write_foreign
from stillroom.labels.format.manifest import Identity, Manifest
from stillroom.types import OnProgress, Unreadable, UserError

MEGATRON = Names("tokens", "indices", "values")
SENTINEL = -900.0
"""Nats below which a place is one that top-p left out."""
_NAME = re.compile(r"(cp\d+_dp\d+)__(\d+)\.tar")
_KINDS = {"fp16": "<f2", "bf16": "<u2", "fp32": "<f4"}
_MOST_BYTES = 1 << 32


class _Step(NamedTuple):
    """One iteration: the bare numbers of its 3·M tensors."""

    where: str
    length: int
    kind: str
    tensors: Sequence[bytes]

    @property
    def num_batches(self) -> int:
        """M."""
        return len(self.tensors) // 3


def import_megatron(
    path: Path,
    tokens: np.ndarray,
    folder: Path,
    *,
    identity: Identity,
    sequence_length: int,
    progress: OnProgress | None = None,
) -> Manifest:
    """A store from a tar, or all tars in a folder, of one rank, and the ids that the rank read.

    ``tokens``, (R, T) or flat, are T ids for each of R samples, in the order of iterations, of micro-batches, and of
    samples in these. Raises ``UserError`` where a file is no such tar, where tars are of several ranks, or the ids are
    of another number.
    """
    tars = _tars(path)
    foreign = gather(_rows(tars, np.asarray(tokens).reshape(-1)), sequence_length, Bounds(int(identity["vocab_size"])))
    return write_foreign(foreign, folder, identity=identity, origin=path.name, progress=progress)


def _tars(path: Path) -> list[Path]:
    """The tars in the order of their iterations."""
    files = list(path.glob("*.tar")) if path.is_dir() else [path]
    names = {file: _NAME.fullmatch(file.name) for file in files}
    ranks = {match[1] for match in names.values() if match}
    if not files or None in names.values() or len(ranks) != 1 or not next(iter(ranks)).startswith("cp0_"):
        found = ", ".join(sorted(ranks)) or "none named so"
        raise UserError(
            f"{path}: expected tars cp0_dpRANK__ITERATION.tar of one rank without context parallelism, found {found}; "
            "import each rank into a store of its own."
        )
    return sorted(files, key=lambda file: int((_NAME.fullmatch(file.name) or "00")[2]))


def _rows(tars: list[Path], tokens: np.ndarray) -> Iterator[ForeignRow]:
    """Every sample; how many are in a micro-batch follows from the number of ids."""
    length, batches = 0, 0
    for step in _steps(tars):
        length, batches = step.length, batches + step.num_batches
    if not batches or len(tokens) % (length * batches):
        raise UserError(
            f"{tars[0].parent}: its {batches} micro-batches of sequences of {length} tokens do not fit {len(tokens)} "
            "token ids; give the ids of exactly the samples that this rank read."
        )
    size, samples = len(tokens) // (length * batches), iter(tokens.reshape(-1, max(1, length)))
    for step in _steps(tars):
        for number in range(step.num_batches):
            ids_BTK, logprobs_BTK = _micro_batch(step, number, size)
            for place, (ids_TK, logprobs_TK) in enumerate(zip(ids_BTK, logprobs_BTK, strict=True)):
                where = f"{step.where}, micro-batch {number}, sample {place}"
                yield ForeignRow(where, next(samples), ids_TK, logprobs_TK, MEGATRON)


def _micro_batch(step: _Step, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and log-probabilities (B, T, K), -inf in places that top-p left out."""
    raw, low, high = step.tensors[number :: step.num_batches]
    values = np.frombuffer(raw, _KINDS[step.kind])
    width = len(values) // (step.length * size)
    if not width or {len(values), len(low) // 2, len(high)} != {step.length * size * width}:
        raise Unreadable(
            f"{step.where}: micro-batch {number} holds {len(values)} values, {len(low) // 2} and {len(high)} parts of "
            f"ids for {size} sequences of {step.length} tokens; expected as many of each: write it again."
        )
    if step.kind == "bf16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    shape = (step.length, size, width)
    ids = np.frombuffer(low, "<u2").astype(np.int64) | np.frombuffer(high, np.uint8).astype(np.int64) << 16
    logprobs = np.where(values < SENTINEL, -np.inf, values.astype(np.float32))
    return ids.reshape(shape).swapaxes(0, 1), logprobs.reshape(shape).swapaxes(0, 1)


def _steps(tars: list[Path]) -> Iterator[_Step]:
    for file in tars:
        with reading(file, "a tar of Megatron-LM's"), tarfile.open(file) as tar:
            yield from _members(tar, file)


def _members(tar: tarfile.TarFile, file: Path) -> Iterator[_Step]:
    length, kind = 0, ""
    try:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is None:
                continue
            if member.name == "_meta.json":
                meta = json.load(stream)
                length, kind = int(meta["identifiers"]["sequence_length"]), str(meta["saver"]["save_dtype"])
            elif member.name.endswith(".pt.zst"):
                yield _Step(f"{file}, {member.name}", length, kind, _tensors(stream.read()))
    except (tarfile.TarError, zipfile.BadZipFile, zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise Unreadable(f"{file}: cannot be read as Megatron-LM's tar ({why}); fetch or write it again.") from error


def _tensors(data: bytes) -> list[bytes]:
    """The bare numbers of a file of ``torch.save``, in the order in which its tensors were first met."""
    if zstandard.frame_content_size(data) > _MOST_BYTES:
        raise ValueError("a member is said to hold more than is read at one time")
    with zipfile.ZipFile(io.BytesIO(zstandard.decompress(data))) as archive:
        names = {name.rpartition("/data/")[2]: name for name in archive.namelist() if "/data/" in name}
        return [archive.read(names[str(number)]) for number in range(len(names))]
