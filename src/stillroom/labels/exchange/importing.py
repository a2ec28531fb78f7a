"""Labels that others wrote, into a store.

Others keep the largest probabilities of each position and neither entropy nor what lies outside: entropy is then that
of the kept ids with the rest as one event (a lower bound), and a gold token that was not kept gets an equal share of
the rest and the first rank that is not kept. The manifest says so under fidelity.
Letters: R sequences, T positions, N = R·T, K kept ids, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stillroom.files import reading
from stillroom.labels.codecs.largest import TopK
from stillroom.labels.format.layout import SCHEMA
from stillroom.labels.format.manifest import Identity, Manifest, Plan, ordered_identity
from stillroom.labels.ragged import NO_GOLD, RaggedLabels
from stillroom.labels.settings import LabelSettings
from stillroom.labels.write import FORWARD_TOKENS, write_store
from stillroom.types import OnProgress, SoftLabels, UserError


class Names(NamedTuple):
    """What the columns of a file are called."""

    tokens: str = "input_ids"
    ids: str = "token_ids"
    logprobs: str = "logprobs"


NAMES = Names()
KD_MAGIC = b"KD.LOGP\n"
KD_HEADER_BYTES = 1024


@dataclass(frozen=True)
class Foreign:
    """Labels as others keep them: the K largest log-probabilities of every position, -inf where fewer are kept."""

    tokens_RT: np.ndarray  # int32
    ids_RTK: np.ndarray  # int32
    logprobs_RTK: np.ndarray  # float32, nats
    skipped: int = 0  # sequences left out because they are too short


@dataclass(frozen=True)
class Bounds:
    """What foreign labels may be: ids below V, log-probabilities of at most ``above`` nats, ``mass`` together."""

    vocab_size: int
    above: float = 1e-3
    """Rounding of half precision; probabilities given for their logarithms, and bare scores, are far above."""
    mass: float = 1.05


def check_foreign(
    where: str, tokens_T: np.ndarray, ids_NK: np.ndarray, logprobs_NK: np.ndarray, bounds: Bounds, names: Names = NAMES
) -> None:
    """Refuses labels of one sequence that no teacher of this vocabulary gives; the sentence names column and position.

    Places that are not used hold -inf. Every position but the last, which predicts nothing here, needs an id.
    """
    used_NK = logprobs_NK != -np.inf
    chance_NK = np.exp(np.where(used_NK, np.minimum(logprobs_NK.astype(np.float64), bounds.above), -np.inf))
    ordered_NK = np.sort(np.where(used_NK, ids_NK, -1 - np.arange(ids_NK.shape[1])), 1)
    size, last = bounds.vocab_size, len(tokens_T) - 1
    for column, values, is_bad, wanted in (
        (names.tokens, tokens_T, (tokens_T < 0) | (tokens_T >= size), f"ids of the tokenizer's {size} tokens"),
        (names.ids, ids_NK, used_NK & ((ids_NK < 0) | (ids_NK >= size)), f"ids of the tokenizer's {size} tokens"),
        (names.logprobs, logprobs_NK, np.isnan(logprobs_NK), "natural logarithms of probabilities"),
        (names.logprobs, logprobs_NK, logprobs_NK > bounds.above, "natural logarithms of probabilities, none above 0"),
        (names.logprobs, chance_NK.sum(1), chance_NK.sum(1) > bounds.mass, "probabilities of at most 1 together"),
        (names.ids, ordered_NK[:, 1:], ordered_NK[:, 1:] == ordered_NK[:, :-1], "every id once"),
        (names.logprobs, used_NK.sum(1), ~used_NK.any(1) & (np.arange(len(used_NK)) < last), "an id to each position"),
    ):
        if is_bad.any():
            place = tuple(np.argwhere(is_bad)[0].tolist())
            raise UserError(
                f"{where}, column {column}, position {place[0]}: found {values[place]}, expected {wanted}; mend the "
                "file, or give the corpus whose tokenizer and teacher it is of."
            )


@dataclass(frozen=True)
class ForeignRow:
    """One sequence of a file, and how it is named to a person."""

    where: str
    tokens_T: np.ndarray
    ids_NK: np.ndarray
    logprobs_NK: np.ndarray
    names: Names


def gather(rows: Iterable[ForeignRow], length: int, bounds: Bounds) -> Foreign:
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


@dataclass(frozen=True)
class ForeignSource:
    """Foreign labels as a source for a store."""

    foreign: Foreign
    vocab_size: int
    origin: str

    def rows(self, numbers: range) -> tuple[np.ndarray, RaggedLabels]:
        """Tokens and labels of some sequences; see ``write.StoreSource``."""
        here = slice(numbers.start, numbers.stop)
        tokens_RT = self.foreign.tokens_RT[here]
        gold_RT = np.full(tokens_RT.shape, -1, np.int64)
        gold_RT[:, :-1] = tokens_RT[:, 1:]
        width = self.foreign.ids_RTK.shape[2]
        ids_NK = self.foreign.ids_RTK[here].reshape(-1, width)
        logprobs_NK = self.foreign.logprobs_RTK[here].reshape(-1, width)
        return tokens_RT, rows_of_largest(ids_NK, logprobs_NK, gold_RT.reshape(-1), self.vocab_size)

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        """KL(given‖stored) over the given ids, renormalised, and where the labels came from."""
        here = slice(numbers.start, numbers.stop)
        given_RTK = np.exp(self.foreign.logprobs_RTK[here].astype(np.float64))
        stored_RTK = _weights_of(labels, self.foreign.ids_RTK[here]) * (given_RTK > 0)
        some_RT = (given_RTK.sum(-1) > 0) & (stored_RTK.sum(-1) > 0)  # elsewhere all mass lies outside the given ids
        given_nK, stored_nK = given_RTK[some_RT], stored_RTK[some_RT]
        given_nK /= given_nK.sum(-1, keepdims=True)
        stored_nK /= stored_nK.sum(-1, keepdims=True)
        safe_nK = np.where(given_nK > 0, given_nK, 1.0)
        kl_n = (given_nK * np.log(safe_nK / np.maximum(stored_nK, 1e-30))).sum(-1)
        return {
            "positions": len(kl_n),
            "kl": "given to stored, on the given ids",
            "mean_kl_nats": float(kl_n.sum() / max(1, len(kl_n))),
            "imported_from": self.origin,
            "side_columns": "entropy is a lower bound; gold tokens outside the kept ids share the tail",
            "skipped_sequences": self.foreign.skipped,
        }


def rows_of_largest(ids_NK: np.ndarray, logprobs_NK: np.ndarray, gold_N: np.ndarray, vocab_size: int) -> RaggedLabels:
    """Labels of N positions from their largest log-probabilities; ``gold_N`` is -1 where there is no next token."""
    kept_NK = np.isfinite(logprobs_NK) & (ids_NK < vocab_size)
    kept_NK[:, 0] |= ~kept_NK.any(1)  # a position without any keeps its first id, with hardly any weight
    probability_NK = np.where(kept_NK, np.exp(np.minimum(logprobs_NK.astype(np.float64), 0.0)), 0.0)
    probability_NK = np.where(kept_NK, np.maximum(probability_NK, 1e-12), 0.0)
    total_N = probability_NK.sum(1)
    probability_NK /= np.maximum(total_N, 1.0)[:, None]  # some codecs give back more than 1
    tail_N = np.maximum(0.0, 1.0 - probability_NK.sum(1))
    num_N = kept_NK.sum(1)
    outside_N = np.maximum(vocab_size - num_N, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy_N = -np.where(kept_NK, probability_NK * np.log(probability_NK), 0.0).sum(1)
        entropy_N -= np.where(tail_N > 0, tail_N * np.log(tail_N), 0.0)
    is_gold_NK = (ids_NK == gold_N[:, None]) & kept_NK
    gold_probability_N = np.where(is_gold_NK.any(1), (probability_NK * is_gold_NK).sum(1), tail_N / outside_N)
    rank_N = np.where(is_gold_NK.any(1), (probability_NK > gold_probability_N[:, None]).sum(1), num_N)
    has_gold_N = gold_N >= 0
    return RaggedLabels(
        num_N=num_N.astype(np.uint16),
        ids_E=ids_NK[kept_NK].astype(np.int32),
        values_E=probability_NK[kept_NK].astype(np.float32),
        entropy_N=np.maximum(entropy_N, 0.0).astype(np.float32),
        gold_logprob_N=np.where(has_gold_N, np.log(np.maximum(gold_probability_N, 1e-19)), 0.0).astype(np.float32),
        gold_rank_N=np.where(has_gold_N, rank_N, NO_GOLD).astype(np.int32),
        tail_N=tail_N.astype(np.float32),
    )


def _weights_of(labels: SoftLabels, ids_RTK: np.ndarray) -> np.ndarray:
    """Stored weight of each of some ids, 0 where it is not listed."""
    same = labels.ids.numpy()[:, :, None, :] == ids_RTK[:, :, :, None]
    return (same * labels.weights.numpy()[:, :, None, :]).sum(-1).astype(np.float64)


def write_foreign(
    foreign: Foreign, folder: Path, *, identity: Identity, origin: str, progress: OnProgress | None = None
) -> Manifest:
    """A store of foreign labels (top-k codec)."""
    if not len(foreign.tokens_RT):
        raise UserError(f"{origin}: holds no sequence of the wanted length; give a shorter sequence length.")
    length, width = foreign.tokens_RT.shape[1], foreign.ids_RTK.shape[2]
    plan = Plan(
        schema=SCHEMA,
        identity=ordered_identity(identity),
        labels=LabelSettings(TopK(width)).canonical(),
        num_sequences=len(foreign.tokens_RT),
        sequence_length=length,
        isolate_documents=False,
        precision="imported",
        forward_sequences=max(1, FORWARD_TOKENS // length),
    )
    source = ForeignSource(foreign, plan.vocab_size, origin)
    manifest = write_store(source, plan, folder, progress=progress)
    assert manifest is not None, "one process writes every shard"
    return manifest


def import_kd(
    path: Path,
    tokens: np.ndarray,
    folder: Path,
    *,
    identity: Identity,
    sequence_length: int,
    progress: OnProgress | None = None,
) -> Manifest:
    """A store from a surogate ``.kd`` sidecar and the N token ids, (N,), of the shard that it belongs to.

    The sidecar was captured in windows of ``sequence_length`` tokens; rows past the last whole window are left out.
    Raises ``UserError`` where the file is no such sidecar, or belongs to another shard.
    """
    with reading(path, "a .kd sidecar"):
        data = np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)
    if len(data) < KD_HEADER_BYTES or data[:8].tobytes() != KD_MAGIC:
        raise UserError(f"{path}: does not begin like a .kd sidecar; check the path.")
    version, width, count, _, kind = (int(number) for number in data[8:28].view("<i4"))
    if (version, kind) != (1, 0):
        raise UserError(
            f"{path}: is a .kd sidecar of version {version}, kind {kind}; only version 1 with fp16 is read."
        )
    if width < 1 or count < 1 or count != len(tokens) or len(data) != KD_HEADER_BYTES + 6 * width * count:
        raise UserError(
            f"{path}: holds {count} rows of {width} ids in {len(data)} bytes but {len(tokens)} tokens were given; give "
            "the shard it belongs to."
        )
    middle = KD_HEADER_BYTES + 4 * width * count
    whole = count // sequence_length * sequence_length
    ids_NK = data[KD_HEADER_BYTES:middle].view("<u4").reshape(count, width)[:whole].astype(np.int64)
    logprobs_NK = data[middle:].view("<f2").reshape(count, width)[:whole].astype(np.float32)
    foreign = Foreign(
        tokens_RT=np.asarray(tokens[:whole]).reshape(-1, sequence_length),
        ids_RTK=ids_NK.reshape(-1, sequence_length, width),
        logprobs_RTK=logprobs_NK.reshape(-1, sequence_length, width),
    )
    bounds, rows = Bounds(int(identity["vocab_size"])), (foreign.tokens_RT, foreign.ids_RTK, foreign.logprobs_RTK)
    for number, (tokens_T, ids_TK, logprobs_TK) in enumerate(zip(*rows, strict=True)):
        names = Names("tokens", "ids", "log-probabilities")
        check_foreign(f"{path}: sequence {number}", tokens_T, ids_TK, logprobs_TK, bounds, names)
    foreign = replace(foreign, tokens_RT=foreign.tokens_RT.astype(np.int32), ids_RTK=foreign.ids_RTK.astype(np.int32))
    return write_foreign(foreign, folder, identity=identity, origin=path.name, progress=progress)
