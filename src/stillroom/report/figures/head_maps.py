"""The attention-head map: a square for every head of every model, one map for each score."""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table, missing_models
from stillroom.report.charts.keys import shades_key
from stillroom.report.charts.svg import WIDE, drawing, joined, squares, tag, text
from stillroom.report.figures import captions
from stillroom.report.formats import fixed
from stillroom.report.view import View
from stillroom.results.schema import HeadsResult, InductionHead, Numbers

TOP = 30.0
LARGEST = 30.0
"""Side of the largest square, in user units."""
TALLEST = 300.0
TICK = 14.0
"""Room that a head's number needs."""


def head_map(view: View) -> Figure:
    """Previous-token, prefix-matching and copying score of every head of every model."""
    shown = [(entry, heads) for entry in view.entries if (heads := entry.model.evaluation.heads)]
    title = "Attention heads"
    if not shown:
        return Figure("fig-heads", title)
    rows = [
        (entry.label, str(best.layer), str(best.head), fixed(best.prefix_matching, 2), fixed(best.copying, 2))
        for entry, heads in shown
        if (best := heads.induction_head)
    ]
    return Figure(
        "fig-heads",
        title,
        captions.HEADS + missing_models(view.entries, tuple(entry for entry, _ in shown)),
        tuple(Panel(entry.label, score_maps(entry.label, heads)) for entry, heads in shown),
        (("score 0 to 1", shades_key("warm")), ("score 0 to −1", shades_key("cold"))),
        Table(("model", "layer", "head", "prefix matching", "copying"), tuple(rows)),
        most_columns=2,
    )


def score_maps(label: str, heads: HeadsResult, shown: Mapping[str, tuple[Numbers, ...]] | None = None) -> Markup:
    """A map for each score of a model's heads, or for each of ``shown``; the induction head is outlined."""
    column = (WIDE - 8) / 3
    side = min((column - 32) / max(1, heads.num_heads), LARGEST, TALLEST / max(1, heads.num_layers))
    height = TOP + side * heads.num_layers + 24
    if shown is None:
        shown = {"previous token": heads.previous_token, "prefix matching": heads.prefix_matching}
        shown |= {} if heads.copying is None else {"copying": heads.copying}
    outlined = {"prefix matching", "copying"}
    parts = [
        _map(name, heads, scores, 22 + column * place, side, heads.induction_head if name in outlined else None)
        for place, (name, scores) in enumerate(shown.items())
    ]
    words = f"{heads.num_layers} layers of {heads.num_heads} heads, {len(shown)} scores each."
    return drawing(WIDE, height, f"Head scores of {label}", words, *parts)


def _map(
    name: str, heads: HeadsResult, scores: tuple[Numbers, ...], left: float, side: float, outlined: InductionHead | None
) -> Markup:
    layers, step = len(scores), max(1, math.ceil(TICK / side))
    places = [(left + head * side, TOP + row * side) for row in range(layers) for head in range(len(scores[row]))]
    parts = [text(left, 16, name), squares(places, side - 1, "cell")]
    for layer, row in enumerate(scores):
        y = TOP + (layers - 1 - layer) * side
        if layer % step == 0:
            parts.append(text(left - 6, y + side / 2 + 4, str(heads.layer(layer)), "end", "tick"))
        for head, score in enumerate(row):
            hint = f"{name}, layer {heads.layer(layer)}, head {head}: {fixed(score, 3)}"
            parts.append(_square(left + head * side, y, side - 1, score, hint))
    for head in range(0, len(scores[0]) if scores else 0, step):
        parts.append(text(left + (head + 0.5) * side - 0.5, TOP + layers * side + 15, str(head), "middle", "tick"))
    if outlined:
        box = {"x": left + outlined.head * side, "y": TOP + (layers - 1 - outlined.layer) * side}
        parts.append(tag("rect", width=side - 1, height=side - 1, class_="chosen", **box))
    return joined(parts)


def _square(x: float, y: float, side: float, score: float, hint: str) -> Markup:
    """A head's square: the colour is the sign of its score, the strength its size."""
    strength = min(1.0, abs(score)) if math.isfinite(score) else 0.0
    return tag(
        *("rect", tag("title", hint)),
        x=x,
        y=y,
        width=side,
        height=side,
        class_="warm" if score >= 0 else "cold",
        fill_opacity=f"{strength:.3f}",
    )
