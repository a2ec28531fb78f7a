"""What a store holds, as plain data and as text for a terminal.

Letters: R records, T positions, K places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stillroom.labels.codecs.base import Record
from stillroom.labels.ragged import NO_GOLD
from stillroom.labels.store import LabelStore
from stillroom.types import SoftLabels, printable

Decode = Callable[[list[int]], str]
"""Token ids to text."""


@dataclass(frozen=True)
class Alternative:
    """One id that the teacher named at a position."""

    token: int
    text: str
    weight: float


@dataclass(frozen=True)
class Shown:
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
    shown: list[Shown]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def inspect_store(
    store: LabelStore, *, decode: Decode | None = None, sample_records: int = 64, positions: int = 5
) -> Inspection:
    """Sums up a store from its manifest and its first ``sample_records`` records (in key order, hence at random).

    ``decode`` turns token ids into text (a tokenizer's ``decode``); without it ids are shown.
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
    record = Record(payloads, codec.coders, codec.names, codec.length)
    tokens = len(rows) * codec.length
    columns = {name: sum(map(len, record.plain(name))) / tokens for name in codec.names}
    within = sum(columns.values())
    record_bytes = sum(map(len, payloads)) / tokens
    return {**columns, "sizes of columns": record_bytes - within, "keys, checksums, index, codebook": max(
        0.0, store.manifest.bytes_per_token - record_bytes
    )}  # fmt: skip


def _as_ids(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


def _shown(tokens_RT: np.ndarray, labels: SoftLabels, decode: Decode, positions: int) -> list[Shown]:
    """Positions spread over the sample, with a target each."""
    places = np.argwhere(labels.gold_rank.numpy() != NO_GOLD)
    chosen = places[np.linspace(0, len(places) - 1, min(positions, len(places))).astype(int)] if len(places) else []
    shown = []
    for record, position in np.asarray(chosen).tolist():
        weights = labels.weights[record, position].numpy()
        order = np.argsort(-weights, kind="stable")[: min(8, int((weights > 0).sum()))]
        ids = labels.ids[record, position].numpy()[order]
        shown.append(
            Shown(
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


def render(inspection: Inspection) -> RenderableType:
    """The inspection for a terminal."""
    return Group(_facts(inspection), _histogram(inspection), _columns(inspection), *_positions(inspection))


def _facts(inspection: Inspection) -> Table:
    table = Table(title="label store", show_header=False)
    manifest = inspection.manifest
    labels, identity, fidelity = manifest["labels"], manifest["identity"], manifest["fidelity"]
    size = f"N = {labels['num_samples']}" if labels["codec"] == "sampled" else f"k = {labels['k']}"
    mass = (inspection.head_mass, inspection.listed_mass, inspection.tail_mass)
    facts = {
        "codec": f"{labels['codec']}, {size}, temperature {labels['temperature']}",
        "teacher, tokenizer, corpus": ", ".join(str(identity[name]) for name in ("teacher", "tokenizer", "corpus")),
        "vocabulary": f"{identity['vocab_size']:,} tokens",
        "sequences": f"{manifest['num_records']:,} distinct, {manifest['sequence_length']} tokens each",
        "tokens": f"{manifest['num_tokens']:,}",
        "bytes per token": f"{inspection.bytes_per_token:.2f}, everything included",
        "teacher entropy": f"{manifest['teacher_entropy_nats']:.4f} nats per token",
        "teacher cross-entropy": f"{manifest['teacher_ce_nats']:.4f} nats per token",
        "ids per token": f"{inspection.entries_per_token:.2f}",
        "mass": "heaviest id {:.4f}, listed {:.4f}, tail {:.4f}".format(*mass),
    }
    for name, value in fidelity.items():
        facts[f"fidelity: {name}"] = f"{value:.6g}" if isinstance(value, float) else str(value)
    for name, value in facts.items():  # of a manifest that anybody may have written
        table.add_row(Text(printable(name)), Text(printable(value)))
    return table


def _histogram(inspection: Inspection) -> Table:
    table = Table(title=f"teacher entropy over {inspection.sample_tokens:,} tokens", show_header=False)
    most = max([1, *inspection.entropy_counts])
    edges = inspection.entropy_edges_nats
    for low, high, count in zip(edges, edges[1:], inspection.entropy_counts, strict=False):
        table.add_row(f"{low:.2f} to {high:.2f} nats", f"{count:,}", "█" * round(40 * count / most))
    return table


def _columns(inspection: Inspection) -> Table:
    table = Table("column", "bytes per token", title="where the bytes go")
    for name, size in inspection.bytes_by_column.items():
        table.add_row(Text(printable(name)), f"{size:.3f}")
    return table


def _positions(inspection: Inspection) -> list[RenderableType]:
    rendered: list[RenderableType] = []
    for shown in inspection.shown:
        table = Table("teacher's next token", "weight", title=None)
        for one in shown.alternatives:
            table.add_row(Text(repr(one.text)), f"{one.weight:.3f}")
        rendered += [
            Text(f"… {shown.before!r} → {shown.gold!r}: gold log-probability {shown.gold_logprob_nats:.2f} nats, "
                 f"rank {shown.gold_rank}, entropy {shown.entropy_nats:.2f} nats"),
            table,
        ]  # fmt: skip
    return rendered
