"""Fits a codec to a sample of labels, and writes the fit as the store's codebook.

Imports no torch but through ``ragged``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import zstandard

from stillroom.labels.codecs import gold as side
from stillroom.labels.codecs.codec import Codec, EntryCoder
from stillroom.labels.codecs.id_sets import SetCoder
from stillroom.labels.codecs.position_kinds import Rankings
from stillroom.labels.codecs.record_codec import SIDE_SYMBOLS, RecordCodec, places
from stillroom.labels.codecs.symbols import PairCoder, SymbolCoder
from stillroom.labels.format.layout import Damaged
from stillroom.labels.ragged import NO_GOLD, RaggedLabels, join_labels

MAX_BYTES = 1 << 27
"""Most bytes of a codebook that is read, before compression."""
MAX_LENGTH = 1 << 24
"""Longest sequence of a codebook that is read."""
_PART = struct.Struct("<BI")
Sample = Sequence[tuple[np.ndarray, RaggedLabels]]
"""Token ids (T,) and labels of some sequences."""


def fit(kind: Codec, vocab_size: int, sample: Sample) -> RecordCodec:
    """The codec of a store, fitted to the labels of its first sequences."""
    rows = join_labels([piece for _, piece in sample])
    entries = kind.fit(rows, vocab_size)
    encoded = [entries.encode(piece) for _, piece in sample]
    place = [places(tokens_T, ordered) for (tokens_T, _), (ordered, _, _) in zip(sample, encoded, strict=True)]
    contexts = [context for _, _, context in encoded]
    has_gold_N = rows.gold_rank_N != NO_GOLD
    gold_N = np.concatenate([one.gold_context(where) for one, where in zip(contexts, place, strict=True)])
    stored_N = np.concatenate([one.stored_place(where) for one, where in zip(contexts, place, strict=True)])
    entropy_N = np.concatenate([one.entropy_context_N for one in contexts])
    tokens = np.concatenate([tokens_T for tokens_T, _ in sample])
    ones = np.ones(len(tokens), np.int64)
    codec = RecordCodec(
        length=len(sample[0][0]),
        entries=entries,
        entropy_guess=side.typical(entropy_N, side.level(rows.entropy_N) >> 1),
        gold_guess=side.typical(gold_N[has_gold_N], side.level(-rows.gold_logprob_N[has_gold_N]) >> 1),
        ranks=PairCoder.train(side.rank_class(rows.gold_rank_N)[0], stored_N),
        missed=SetCoder.train(entries.rankings.shared(), tokens, ones, 0 * ones, (128,)),
        coders={},
    )
    columns = [codec.columns(tokens_T, piece).symbols for tokens_T, piece in sample]
    return replace(codec, coders={name: SymbolCoder.train([one[name] for one in columns]) for name in columns[0]})


def to_bytes(codec: RecordCodec) -> bytes:
    """The codebook: named parts, each as length of name, length of content, name, content; all under zstd."""
    parts = {"length": struct.pack("<I", codec.length), "entropy_guess": codec.entropy_guess.tobytes()}
    parts["gold_guess"] = codec.gold_guess.tobytes()
    parts["pairs.ranks"] = codec.ranks.to_bytes()
    parts |= codec.missed.to_parts("missed")
    parts["rankings"] = codec.entries.rankings.to_bytes()
    parts |= codec.entries.to_parts()
    parts |= {f"dictionary.{name}": bytes([coder.usual]) + coder.dictionary for name, coder in codec.coders.items()}
    body = b"".join(_PART.pack(len(name), len(part)) + name.encode() + part for name, part in parts.items())
    return zstandard.compress(body, 19)


def from_bytes(data: bytes, coder: type[EntryCoder]) -> RecordCodec:
    """The codec of a codebook; raises ``Damaged`` for bytes that are none of this kind, whoever wrote them."""
    try:
        if not 0 <= zstandard.frame_content_size(data) <= MAX_BYTES:
            raise Damaged(f"the codebook is said to hold more than {MAX_BYTES} bytes; label into a new folder.")
        codec = _codec(_parts(zstandard.decompress(data)), coder)
    except (LookupError, ValueError, OverflowError, struct.error, zstandard.ZstdError) as error:
        raise Damaged(f"the codebook cannot be read ({error!r}); label into a new folder.") from error
    if not _is_sound(codec):
        raise Damaged("the codebook holds tables that no labels are written with; label into a new folder.")
    return codec


def _codec(parts: Mapping[str, bytes], coder: type[EntryCoder]) -> RecordCodec:
    rankings = Rankings.from_bytes(parts["rankings"])
    return RecordCodec(
        length=struct.unpack("<I", parts["length"])[0],
        entries=coder.from_parts(parts, rankings),
        entropy_guess=np.frombuffer(parts["entropy_guess"], np.uint8),
        gold_guess=np.frombuffer(parts["gold_guess"], np.uint8),
        ranks=PairCoder.from_bytes(parts["pairs.ranks"]),
        missed=SetCoder.from_parts(parts, "missed", rankings.shared()),
        coders=_coders(parts),
    )


def _is_sound(codec: RecordCodec) -> bool:
    """Whether every table has the size that a reader counts on, so that none is looked up beyond its end."""
    return (
        0 < codec.length <= MAX_LENGTH
        and all(len(guess) == side.GUESS_LEVELS for guess in (codec.entropy_guess, codec.gold_guess))
        and set(codec.coders) == {*codec.entries.SYMBOLS, *SIDE_SYMBOLS}
        and codec.missed.is_sound()
        and codec.entries.is_sound()
    )


def _coders(parts: Mapping[str, bytes]) -> dict[str, SymbolCoder]:
    prefix = "dictionary."
    return {
        name[len(prefix) :]: SymbolCoder(part[0], part[1:]) for name, part in parts.items() if name.startswith(prefix)
    }


def _parts(body: bytes) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    start = 0
    while start < len(body):
        name_size, size = _PART.unpack_from(body, start)
        name_end = start + _PART.size + name_size
        parts[body[start + _PART.size : name_end].decode()] = body[name_end : name_end + size]
        start = name_end + size
    return parts
