"""Fits a codec to a sample of labels, and writes the fit as the store's codebook.

Imports no torch but through ``rows``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import zstandard

from stillroom.config import LabelsConfig
from stillroom.teachers import side
from stillroom.teachers.codec import Codec, gold_counts, places
from stillroom.teachers.idsets import SetCoder, ranked
from stillroom.teachers.largest import LargestEntries
from stillroom.teachers.layout import Damaged
from stillroom.teachers.rows import NO_GOLD, Rows, join
from stillroom.teachers.sampled import SampledEntries
from stillroom.teachers.streams import PairCoder, SymbolCoder

_PART = struct.Struct("<BI")
Sample = Sequence[tuple[np.ndarray, Rows]]
"""Token ids (T,) and labels of some sequences."""


def fit(config: LabelsConfig, vocab_size: int, sample: Sample) -> Codec:
    """The codec of a store, fitted to the labels of its first sequences."""
    rows = join([piece for _, piece in sample])
    if config.codec == "sampled":
        entries = SampledEntries.train(rows, vocab_size, config.num_samples)
    else:
        entries = LargestEntries.train(rows, vocab_size)
    ordered = [entries.encode(piece)[0] for _, piece in sample]
    place_N = np.concatenate([places(tokens_T, piece) for (tokens_T, _), piece in zip(sample, ordered, strict=True)])
    has_gold_N = rows.gold_rank_N != NO_GOLD
    count_N = gold_counts(entries, place_N, join(ordered))
    tokens = np.concatenate([tokens_T for tokens_T, _ in sample])
    codec = Codec(
        length=len(sample[0][0]),
        entries=entries,
        entropy_guess=side.typical(np.minimum(rows.num_N, 255), side.level(rows.entropy_N) >> 1),
        gold_guess=side.typical(count_N[has_gold_N], side.level(-rows.gold_logprob_N[has_gold_N]) >> 1),
        ranks=PairCoder.train(side.rank_class(rows.gold_rank_N)[0], place_N),
        missed=SetCoder.train(ranked(rows.ids_E, vocab_size), tokens, np.ones(len(tokens), np.int64), (256,)),
        coders={},
    )
    columns = [codec.columns(tokens_T, piece).symbols for tokens_T, piece in sample]
    return replace(codec, coders={name: SymbolCoder.train([one[name] for one in columns]) for name in columns[0]})


def to_bytes(codec: Codec) -> bytes:
    """The codebook: named parts, each as length of name, length of content, name, content; all under zstd."""
    parts = {"length": struct.pack("<I", codec.length), "entropy_guess": codec.entropy_guess.tobytes()}
    parts["gold_guess"] = codec.gold_guess.tobytes()
    parts["pairs.ranks"] = codec.ranks.to_bytes()
    parts |= _groups("missed", codec.missed)
    parts["vocabulary"] = _vocabulary(codec.missed.ids_by_rank)
    entries = codec.entries
    if isinstance(entries, SampledEntries):
        parts["samples"] = struct.pack("<I", entries.num_samples)
        parts["more_guess"] = entries.more_guess.tobytes()
        for name, coder in (("top", entries.top), ("others", entries.others), ("singles", entries.singles)):
            parts |= _groups(name, coder)
    else:
        parts |= _groups("ids", entries.ids)
    parts |= {f"dictionary.{name}": coder.dictionary for name, coder in codec.coders.items()}
    body = b"".join(_PART.pack(len(name), len(part)) + name.encode() + part for name, part in parts.items())
    return zstandard.compress(body, 19)


def from_bytes(data: bytes) -> Codec:
    """The codec of a codebook."""
    parts = _parts(zstandard.decompress(data))
    ids_by_rank = _ids_by_rank(parts["vocabulary"])

    def sets(name: str) -> SetCoder:
        classes = [part for part in parts if part.rpartition(".")[0] == f"groups.{name}"]
        return SetCoder(ids_by_rank, tuple(np.frombuffer(parts[part], np.uint8) for part in classes))

    if "samples" in parts:
        (num_samples,) = struct.unpack("<I", parts["samples"])
        more_guess = np.frombuffer(parts["more_guess"], np.uint8)
        entries = SampledEntries(num_samples, more_guess, sets("top"), sets("others"), sets("singles"))
    else:
        entries = LargestEntries(sets("ids"))
    return Codec(
        length=struct.unpack("<I", parts["length"])[0],
        entries=entries,
        entropy_guess=np.frombuffer(parts["entropy_guess"], np.uint8),
        gold_guess=np.frombuffer(parts["gold_guess"], np.uint8),
        ranks=PairCoder.from_bytes(parts["pairs.ranks"]),
        missed=sets("missed"),
        coders=_coders(parts),
    )


def _groups(name: str, coder: SetCoder) -> dict[str, bytes]:
    return {f"groups.{name}.{number}": bits.tobytes() for number, bits in enumerate(coder.bits)}


def _coders(parts: Mapping[str, bytes]) -> dict[str, SymbolCoder]:
    prefix = "dictionary."
    return {name[len(prefix) :]: SymbolCoder(part) for name, part in parts.items() if name.startswith(prefix)}


def _parts(body: bytes) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    start = 0
    while start < len(body):
        name_size, size = _PART.unpack_from(body, start)
        name_end = start + _PART.size + name_size
        parts[body[start + _PART.size : name_end].decode()] = body[name_end : name_end + size]
        start = name_end + size
    return parts


def _vocabulary(ids_by_rank: np.ndarray) -> bytes:
    """Size of the vocabulary (u32), then the ids (u32) up to where the rest follow in ascending order."""
    falls = np.flatnonzero(np.diff(ids_by_rank) < 0)
    kept = int(falls[-1]) + 1 if len(falls) else 0
    return struct.pack("<I", len(ids_by_rank)) + ids_by_rank[:kept].astype("<u4").tobytes()


def _ids_by_rank(part: bytes) -> np.ndarray:
    (size,) = struct.unpack_from("<I", part)
    head = np.frombuffer(part, "<u4", offset=4).astype(np.int32)
    is_rest = np.ones(size, bool)
    is_rest[head] = False
    ids = np.concatenate((head, np.flatnonzero(is_rest).astype(np.int32)))
    if len(ids) != size:
        raise Damaged("the codebook ranks a token twice; label into a new folder.")
    return ids
