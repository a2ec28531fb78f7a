"""What a store holds, as plain data.

Letters: R records, T positions, K places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stillroom.labels.format.record import PackedRecords
from stillroom.labels.ragged import NO_GOLD
from stillroom.labels.store import LabelStore
from stillroom.types import SoftLabels

Decode = Callable[[list[int]], str]
"""Token ids to text."""


@dataclass(frozen=True)
class Alternative:
    """One id that the teacher named at a position."""

    token: int
    text: str
    weight: float


@dataclass(frozen=True)
class ShownPosition:
    """A decoded position: the text before it, the true next token and the teacher's alternatives, heaviest first."""

    before: str
    gold: str
    entropy_nats: float
    gold_logprob_nats: float
    gold_rank: int
    alternatives: list[Alternative]


@dataclass(frozen=True)
class Inspection:
    """Everything that ``stillroom inspect`` says of a store."""

    manifest: dict[str, Any]
    bytes_per_token: float
    bytes_by_column: dict[str, float]  # per token, on the sample
    entropy_edges_nats: list[float]
    entropy_counts: list[int]
    listed_mass: float  # mean weight of the kept ids
    tail_mass: float  # mean mass outside them
    head_mass: float  # mean weight of the heaviest id
    entries_per_token: float
    sample_tokens: int
    shown: list[ShownPosition]

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)


def inspect_store(
    store: LabelStore, *, decode: Decode | None = None, sample_records: int = 64, positions: int = 5
) -> Inspection:
    """What a store holds, summed up from its manifest and its first ``sample_records`` records.

    These lie in the order of their keys, hence at random. ``decode`` turns token ids into text (a tokenizer's
    ``decode``); without it ids are shown.
    """
    rows = list(range(min(sample_records, len(store))))
    tokens_RT, labels = store.read(rows)
    used = labels.gold_rank != NO_GOLD
    edges = np.linspace(0.0, max(1.0, math.ceil(float(labels.entropy.max()))), 21)
    counts, _ = np.histogram(labels.entropy[used].numpy(), edges)
    tail = 0.0 if labels.tail is None else float(labels.tail.mean())
    return Inspection(
        manifest=asdict(store.manifest),
        bytes_per_token=store.manifest.bytes_per_token,
        bytes_by_column=bytes_by_column(store, rows),
        entropy_edges_nats=edges.tolist(),
        entropy_counts=counts.tolist(),
        listed_mass=float(labels.weights.sum(-1).mean()),
        tail_mass=tail,
        head_mass=float(labels.weights.amax(-1).mean()),
        entries_per_token=float((labels.weights > 0).sum(-1).double().mean()),
        sample_tokens=tokens_RT.numel(),
        shown=_shown(tokens_RT.numpy(), labels, decode or _as_ids, positions),
    )


def bytes_by_column(store: LabelStore, rows: list[int]) -> dict[str, float]:
    """Bytes per token of every column of some records, and of what surrounds them."""
    payloads = store.payloads(rows)
    codec = store.codec
    record = PackedRecords(payloads, codec.coders, codec.names, codec.length)
    tokens = len(rows) * codec.length
    columns = {name: sum(map(len, record.plain(name))) / tokens for name in codec.names}
    within = sum(columns.values())
    record_bytes = sum(map(len, payloads)) / tokens
    return {**columns, "sizes of columns": record_bytes - within, "keys, checksums, index, codebook": max(
        0.0, store.manifest.bytes_per_token - record_bytes
    )}  # fmt: skip


def _as_ids(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


def _shown(tokens_RT: np.ndarray, labels: SoftLabels, decode: Decode, positions: int) -> list[ShownPosition]:
    """Positions spread over the sample, with a target each."""
    places = np.argwhere(labels.gold_rank[:, :-1].numpy() != NO_GOLD)  # what follows the last token is not stored
    chosen = places[np.linspace(0, len(places) - 1, min(positions, len(places))).astype(int)] if len(places) else []
    shown = []
    for record, position in np.asarray(chosen).tolist():
        weights = labels.weights[record, position].numpy()
        order = np.argsort(-weights, kind="stable")[: min(8, int((weights > 0).sum()))]
        ids = labels.ids[record, position].numpy()[order]
        shown.append(
            ShownPosition(
                before=decode(tokens_RT[record, max(0, position - 15) : position + 1].tolist()),
                gold=decode([int(tokens_RT[record, position + 1])]),
                entropy_nats=float(labels.entropy[record, position]),
                gold_logprob_nats=float(labels.gold_logprob[record, position]),
                gold_rank=int(labels.gold_rank[record, position]),
                alternatives=[
                    Alternative(int(token), decode([int(token)]), float(weight))
                    for token, weight in zip(ids, weights[order], strict=True)
                ],
            )
        )
    return shown
