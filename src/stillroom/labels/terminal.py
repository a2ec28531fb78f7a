"""What a store holds, as tables for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stillroom.labels.inspection import Inspection
from stillroom.labels.settings import LabelSettings
from stillroom.types import printable


def inspection_tables(inspection: Inspection) -> RenderableType:
    """The inspection for a terminal."""
    return Group(_facts(inspection), _histogram(inspection), _columns(inspection), *_positions(inspection))


def _facts(inspection: Inspection) -> Table:
    table = Table(title="label store", show_header=False)
    manifest = inspection.manifest
    labels, identity, fidelity = LabelSettings.of(manifest["labels"]), manifest["identity"], manifest["fidelity"]
    mass = (inspection.head_mass, inspection.listed_mass, inspection.tail_mass)
    facts = {
        "codec": f"{labels.codec.name}, {labels.codec.summary}, temperature {labels.temperature}",
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
