"""Fits a codec to a sample of labels, and writes the fit as the store's codebook.

Imports no torch but through ``rows``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import zstandard

from stillroom.labels.codecs import gold as side
from stillroom.labels.codecs import largest, sampled
from stillroom.labels.codecs.base import SIDE_PLAIN, Codec, places
from stillroom.labels.codecs.id_sets import MAX_GROUPS, SetCoder
from stillroom.labels.codecs.largest import BANDS, LargestEntries
from stillroom.labels.codecs.position_kinds import Rankings, alone
from stillroom.labels.codecs.sampled import SampledEntries
from stillroom.labels.codecs.symbols import PairCoder, SymbolCoder
from stillroom.labels.format.layout import Damaged
from stillroom.labels.labels_config import LabelsConfig
from stillroom.labels.ragged import NO_GOLD, Rows, join

MAX_BYTES = 1 << 27
"""Most bytes of a codebook that is read, before compression."""
MAX_LENGTH = 1 << 24
"""Longest sequence of a codebook that is read."""
MAX_CLASSES = 16
PLAIN_COLUMNS = (*sampled.PLAIN, *largest.PLAIN, *SIDE_PLAIN)
_PART = struct.Struct("<BI")
Sample = Sequence[tuple[np.ndarray, Rows]]
"""Token ids (T,) and labels of some sequences."""


def fit(config: LabelsConfig, vocab_size: int, sample: Sample) -> Codec:
    """The codec of a store, fitted to the labels of its first sequences."""
    rows = join([piece for _, piece in sample])
    if config.codec == "sampled":
        entries = SampledEntries.train(rows, vocab_size, config.num_samples)
    else:
        entries = LargestEntries.train(rows, vocab_size, config.value_steps)
    encoded = [entries.encode(piece) for _, piece in sample]
    place = [places(tokens_T, ordered) for (tokens_T, _), (ordered, _, _) in zip(sample, encoded, strict=True)]
    contexts = [context for _, _, context in encoded]
    has_gold_N = rows.gold_rank_N != NO_GOLD
    gold_N = np.concatenate([one.gold_context(where) for one, where in zip(contexts, place, strict=True)])
    stored_N = np.concatenate([one.stored_place(where) for one, where in zip(contexts, place, strict=True)])
    entropy_N = np.concatenate([one.entropy_context_N for one in contexts])
    tokens = np.concatenate([tokens_T for tokens_T, _ in sample])
    ones = np.ones(len(tokens), np.int64)
    codec = Codec(
        length=len(sample[0][0]),
        entries=entries,
        entropy_guess=side.typical(entropy_N, side.level(rows.entropy_N) >> 1),
        gold_guess=side.typical(gold_N[has_gold_N], side.level(-rows.gold_logprob_N[has_gold_N]) >> 1),
        ranks=PairCoder.train(side.rank_class(rows.gold_rank_N)[0], stored_N),
        missed=SetCoder.train(alone(entries.rankings), tokens, ones, 0 * ones, (128,)),
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
    entries = codec.entries
    parts["rankings"] = entries.rankings.to_bytes()
    if isinstance(entries, SampledEntries):
        parts["samples"] = struct.pack("<I", entries.num_samples)
        parts["more_guess"] = entries.more_guess.tobytes()
        for name, coder in (("top", entries.top), ("others", entries.others), ("singles", entries.singles)):
            parts |= _groups(name, coder)
    else:
        parts["value_steps"] = struct.pack("<I", entries.steps)
        parts["values"] = entries.values.astype("<f4").tobytes()
        parts["bands"] = entries.edges.astype("<u2").tobytes()
        parts |= _groups("ids", entries.ids)
    parts |= {f"dictionary.{name}": bytes([coder.usual]) + coder.dictionary for name, coder in codec.coders.items()}
    body = b"".join(_PART.pack(len(name), len(part)) + name.encode() + part for name, part in parts.items())
    return zstandard.compress(body, 19)


def from_bytes(data: bytes) -> Codec:
    """The codec of a codebook; raises ``Damaged`` for bytes that are none, whoever wrote them."""
    try:
        if not 0 <= zstandard.frame_content_size(data) <= MAX_BYTES:
            raise Damaged(f"the codebook is said to hold more than {MAX_BYTES} bytes; label into a new folder.")
        codec = _codec(_parts(zstandard.decompress(data)))
    except (LookupError, ValueError, OverflowError, struct.error, zstandard.ZstdError) as error:
        raise Damaged(f"the codebook cannot be read ({error!r}); label into a new folder.") from error
    if not _is_sound(codec):
        raise Damaged("the codebook holds tables that no labels are written with; label into a new folder.")
    return codec


def _codec(parts: Mapping[str, bytes]) -> Codec:
    rankings = Rankings.from_bytes(parts["rankings"])

    def sets(name: str, rankings: Rankings = rankings) -> SetCoder:
        return SetCoder(rankings, _group_bits(parts, name, rankings.num_kinds))

    if "samples" in parts:
        (num_samples,) = struct.unpack("<I", parts["samples"])
        more_guess = np.frombuffer(parts["more_guess"], np.uint8)
        entries = SampledEntries(num_samples, more_guess, sets("top"), sets("others"), sets("singles"))
    else:
        (steps,) = struct.unpack("<I", parts["value_steps"])
        values, edges = np.frombuffer(parts["values"], "<f4"), np.frombuffer(parts["bands"], "<u2")
        entries = LargestEntries(sets("ids"), steps, edges.astype(np.uint16), values.astype(np.float32))
    return Codec(
        length=struct.unpack("<I", parts["length"])[0],
        entries=entries,
        entropy_guess=np.frombuffer(parts["entropy_guess"], np.uint8),
        gold_guess=np.frombuffer(parts["gold_guess"], np.uint8),
        ranks=PairCoder.from_bytes(parts["pairs.ranks"]),
        missed=sets("missed", alone(rankings)),
        coders=_coders(parts),
    )


def _is_sound(codec: Codec) -> bool:
    """Whether every table has the size that a reader counts on, so that none is looked up beyond its end."""
    entries, guesses = codec.entries, [codec.entropy_guess, codec.gold_guess]
    if isinstance(entries, SampledEntries):
        guesses.append(entries.more_guess)
        coders = (entries.top, entries.others, entries.singles)
        numbers = 0 < entries.num_samples <= 255
    else:
        coders = (entries.ids,)
        numbers = 0 < entries.steps <= 255 and len(entries.edges) == BANDS - 1 and entries.values.shape == (256,)
        numbers = numbers and bool((np.isfinite(entries.values) & (entries.values > 0)).all())
    symbols = set(codec.names) - set(PLAIN_COLUMNS)
    return (
        numbers
        and 0 < codec.length <= MAX_LENGTH
        and all(len(guess) == side.GUESS_LEVELS for guess in guesses)
        and symbols == set(codec.coders)
        and all(_covers(coder) for coder in (*coders, codec.missed))
    )


def _covers(coder: SetCoder) -> bool:
    """Whether each kind's and class's groups of ranks hold the vocabulary, and less than twice as many ranks."""
    size = len(coder.rankings.level_V)
    groups = [of for of_kind in coder.bits for of in of_kind]
    return (
        len(coder.bits) == coder.rankings.num_kinds
        and 0 < len(coder.bits[0]) <= MAX_CLASSES
        and all(len(of) <= MAX_GROUPS and int(of.max(initial=0)) < 32 for of in groups)
        and all(size <= int((1 << of.astype(np.int64)).sum()) <= 2 * size for of in groups)
    )


def _groups(name: str, coder: SetCoder) -> dict[str, bytes]:
    """By class: length of each kind's groups (u16), then bits of all of them, one kind after another."""
    return {
        f"groups.{name}.{number}": np.array([len(of[number]) for of in coder.bits], "<u2").tobytes()
        + b"".join(of[number].tobytes() for of in coder.bits)
        for number in range(len(coder.bits[0]))
    }


def _group_bits(parts: Mapping[str, bytes], name: str, num_kinds: int) -> tuple[tuple[np.ndarray, ...], ...]:
    by_class = []
    for part in parts:
        if part.rpartition(".")[0] == f"groups.{name}":
            ends = np.cumsum(np.frombuffer(parts[part], "<u2", num_kinds), dtype=np.int64)
            bits = np.frombuffer(parts[part], np.uint8, offset=2 * num_kinds)
            if ends[-1] != len(bits):
                raise ValueError(f"{part} has another length than it should")
            by_class.append(np.split(bits, ends[:-1]))
    return tuple(tuple(of_kind) for of_kind in zip(*by_class, strict=True))


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
