"""The figures of a recall study: learning against theory, heads over training, and what attention looks at.

Letters: L layers, H heads, T places of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table
from stillroom.report.charts.heat import attention_square
from stillroom.report.charts.keys import ATTENTION, box_key, line_key
from stillroom.report.charts.scales import Scale, tight
from stillroom.report.charts.svg import (
    SMALL,
    WIDE,
    Frame,
    Point,
    band,
    drawing,
    joined,
    marker,
    segment,
    squares,
    tag,
    text,
)
from stillroom.report.formats import fixed, si, with_interval
from stillroom.report.view import Style
from stillroom.results.intervals import held_within
from stillroom.results.recall_file import (
    AttentionPicture,
    OverSeeds,
    RecallArmResult,
    RecallSeed,
    RecallWorldFacts,
    ends_of,
)

HEIGHT = 300.0


@dataclass(frozen=True)
class RecallArm(Style):
    """An arm as the figures show it."""

    record: RecallArmResult

    @property
    def seeds(self) -> tuple[RecallSeed, ...]:
        """Every seed's cell."""
        return self.record.seeds

    def final(self, measure: str) -> OverSeeds | None:
        """A measure at the end of training, its interval held to what it can be."""
        found = self.record.final[measure]
        return found and held_within(found, *ends_of(measure))

    def tokens(self) -> list[float]:
        """Tokens at the probes, the same for every seed."""
        return [float(probe.tokens) for probe in self.seeds[0].probes]

    def spread(self, measure: str) -> tuple[list[float], list[float], list[float]]:
        """Mean, lowest and highest over seeds at every probe; NaN where nothing was measured."""
        seeds = ([_number(getattr(probe, measure)) for probe in seed.probes] for seed in self.seeds)
        rows = [(math.fsum(found) / len(found), min(found), max(found)) for found in zip(*seeds, strict=True)]
        means, lows, highs = zip(*rows, strict=True)
        return list(means), list(lows), list(highs)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def learning(arms: Sequence[RecallArm], world: RecallWorldFacts, floors: Sequence[tuple[RecallArm, float]]) -> Figure:
    """Copy accuracy, copy loss and the excess over the optimal loss, against tokens."""
    marks = [(arm, found) for arm in arms if (found := arm.record.half["copy_accuracy"])]
    lines = [(value, f"floor of {arm.name}") for arm, value in floors]
    panels = (
        Panel("Copy accuracy", _curves(arms, "copy_accuracy", "share of later answers", (0.0, 1.0), marks=marks)),
        Panel("Copy loss", _curves(arms, "copy_loss", "nats per later answer", None, lines=lines)),
        Panel("Distance to the truth", _curves(arms, "kl", "KL from the true row (nats per token)", None)),
    )
    rows = tuple((arm.name, *(_cell(arm.record.half[name]) for name in DYNAMICS)) for arm in arms)
    caption = (
        "Held-out sequences; later answers are those to the second or a later occurrence of a trigger, where the "
        "truth has no uncertainty left. Lines are means over seeds, bands reach from the lowest to the highest seed; "
        "training tokens are on a logarithmic axis. Vertical marks are where accuracy crosses one half. Dashed lines "
        "in the second panel are the theory of the loss that a leaking teacher leaves however long one trains: "
        "−log(1 − α·η·(1 − r)), with r the mean leak onto the answer."
    )
    table = Table(("tokens until one half (95 % interval over seeds)", *DYNAMICS.values()), rows)
    return Figure("fig-learning", "Learning to copy", caption, panels, recall_legend(arms), table)


DYNAMICS = {
    "copy_accuracy": "copy accuracy",
    "copy_accuracy_80": "copy accuracy, 80 %",
    "previous_token": "best previous-token head",
    "prefix_matching": "best induction head",
}


def _cell(found: OverSeeds | None) -> str:
    if found is None:
        return "not reached"
    ends = f" ({si(found.low)} to {si(found.high)})" if math.isfinite(found.low) else ""
    share = "" if found.num == found.of else f", {found.num} of {found.of} seeds"
    return f"{si(found.value)}{ends}{share}"


def rows_by_entropy(arms: Sequence[RecallArm], world: RecallWorldFacts) -> Figure:
    """KL from the true row on ordinary positions of high and of low entropy."""
    high, low = f"above {world.high_nats:g} nats", f"below {world.low_nats:g} nats"
    kinds = (("kl_high", f"High-entropy rows ({high})"), ("kl_low", f"Low-entropy rows ({low})"))
    kinds = (*kinds, ("kl_first", "First answers (nothing to copy yet)"))
    shown = [(name, title) for name, title in kinds if _measured(arms, name)]
    panels = tuple(Panel(title, _curves(arms, name, "KL (nats per token)", None)) for name, title in shown)
    caption = (
        "Forward KL from the true next-token distribution to the model’s, computed from the whole row and not from "
        "sampled tokens. Ordinary positions are those whose token is no trigger, classed by the entropy of their row."
    )
    table = Table(
        ("at the end (nats)", *(title for _, title in shown)),
        tuple((arm.name, *(_final(arm, name, 4) for name, _ in shown)) for arm in arms),
    )
    return Figure("fig-rows", "Rows by entropy", caption, panels, recall_legend(arms), table)


def cost_of_copying(arms: Sequence[RecallArm]) -> Figure:
    """Over-copying and calibration on ordinary positions."""
    panels = (
        Panel("Over-copying", _curves(arms, "over_copying", "probability beyond the true one", None)),
        Panel("Calibration error", _curves(arms, "calibration_error", "expected calibration error", None)),
    )
    caption = (
        "Ordinary positions only. Over-copying is the probability, beyond the true one, that the model gives to what "
        "followed the same token last time: above 0 it copies where nothing does. Calibration error compares the "
        "confidence of the model’s choice with the true probability of that choice (15 bins)."
    )
    table = Table(
        ("at the end", "over-copying", "calibration error"),
        tuple((arm.name, _final(arm, "over_copying", 4), _final(arm, "calibration_error", 4)) for arm in arms),
    )
    return Figure("fig-cost", "What copying costs elsewhere", caption, panels, recall_legend(arms), table)


def head_curves(arms: Sequence[RecallArm]) -> Figure:
    """Every head's previous-token and prefix-matching score over training, first seed."""
    kinds = (("previous_token", "previous token"), ("prefix_matching", "prefix matching"))
    panels = tuple(Panel(f"{arm.name}: {words}", _heads(arm, kind, words)) for kind, words in kinds for arm in arms)
    rows = tuple(
        (arm.name, *(_best(arm, kind) for kind, _ in kinds), *(_cell(arm.record.half[kind]) for kind, _ in kinds))
        for arm in arms
    )
    head = ("arm", "previous token: best head", "prefix matching: best head", "previous token: half", "prefix: half")
    caption = (
        "One line per head, solid for the first layer, dashed for the second, dotted beyond; first seed. Previous "
        "token: mean attention to the token before. Prefix matching: attention from a trigger’s later occurrences to "
        "what followed its earlier ones. A copying circuit is a head of the first kind below one of the second; the "
        "dashed horizontal line is one half."
    )
    key = ((" layer 0", _stroke("")), (" layer 1", _stroke("dashed")), (" layer 2 and up", _stroke("guide")))
    return Figure("fig-heads", "Heads over training", caption, panels, key, Table(head, rows))


def _best(arm: RecallArm, kind: str) -> str:
    crossings = arm.seeds[0].crossings
    found = crossings.best_previous_token if kind == "previous_token" else crossings.best_prefix_matching
    return f"layer {found.layer}, head {found.head}: {fixed(found.score, 2)}"


def _heads(arm: RecallArm, kind: str, words: str) -> Markup:
    probes, tokens = arm.seeds[0].probes, arm.tokens()
    frame = Frame(SMALL, 210.0, _token_scale(tokens), Scale(0.0, 1.0))
    parts = [frame.axes("training tokens", words, _powers(frame.x)), _level(frame, 0.5)]
    for layer, heads in enumerate(probes[0].heads(kind)):
        dash = ("", "dashed", "guide")[min(layer, 2)]
        for head in range(len(heads)):
            values = [probe.heads(kind)[layer][head] for probe in probes]
            classes = f"curve thin {dash} {arm.colour}"
            parts.append(frame.curve(tokens, values, classes, f"layer {layer}, head {head}"))
    return drawing(SMALL, 210.0, f"{words} of {arm.name}", f"{words} of every head against tokens.", *parts)


def attention_maps(arms: Sequence[RecallArm], symbols: Sequence[str], triggers: Sequence[str] | None) -> Figure:
    """What every head looks at on one held-out sequence: the first arm over training, all arms at the end."""
    title = "What attention looks at"
    pictured = [arm for arm in arms if arm.seeds[0].attention]
    if not pictured:
        return Figure("fig-attention", title)
    first, panels = pictured[0], []
    asked = None if triggers is None else {place for place, symbol in enumerate(symbols) if symbol in triggers}
    for picture in first.seeds[0].attention[:-1]:
        panels.append(Panel(f"{first.name} after {si(picture.tokens_seen)} tokens", _maps(picture, asked)))
    for arm in pictured:
        picture = arm.seeds[0].attention[-1]
        panels.append(Panel(f"{arm.name} at the end, {si(picture.tokens_seen)} tokens", _maps(picture, asked)))
    said = "".join(_visible(symbols[int(token)]) for token in first.seeds[0].attention[0].tokens)
    named = f" Triggers: {' '.join(_visible(symbol) for symbol in triggers)}." if triggers else ""
    caption = (
        f"The first {len(said)} tokens of one held-out sequence, “{said}”.{named} Every square is a head, layers from "
        "top to bottom, heads from left to right; in it rows are the tokens that look and columns those looked at. "
        "Outlined are the places that an induction head looks at from a later trigger: what followed it before. A "
        "previous-token head is a line just below the diagonal."
    )
    legend = (*ATTENTION, ("where an induction head looks", box_key("wanted")))
    return Figure("fig-attention", title, caption, tuple(panels), legend, most_columns=2)


def _maps(picture: AttentionPicture, asked: set[int] | None) -> Markup:
    patterns, tokens = picture.patterns, picture.tokens
    num_layers, num_heads = len(patterns), len(patterns[0])
    gap, left = 8.0, 20.0
    side = (WIDE - left - gap * num_heads) / num_heads
    step, parts = side / len(tokens), []
    for layer in range(num_layers):
        y = 18.0 + layer * (side + gap)
        parts.append(text(left - 6, y + side / 2 + 4, str(layer), "end", "tick"))
        for head in range(num_heads):
            x = left + head * (side + gap)
            if layer == 0:
                parts.append(text(x + side / 2, 12, str(head), "middle", "tick"))
            parts.append(_map(patterns[layer][head], tokens, asked, (x, y), step))
    height = 18.0 + num_layers * (side + gap)
    words = f"{num_layers} layers of {num_heads} heads over {len(tokens)} tokens."
    return drawing(WIDE, height, "Attention patterns", words, *parts)


def _map(
    pattern: Sequence[Sequence[float]], tokens: Sequence[int], asked: set[int] | None, corner: Point, step: float
) -> Markup:
    """One head's attention; outlined where it should look after a token of ``asked`` (None = any) that came before."""
    (left, top), size = corner, len(tokens)
    parts = attention_square(pattern, corner, step)
    wanted = [
        (left + (key + 1) * step, top + query * step)
        for query in range(size)
        for key in range(query)
        if tokens[key] == tokens[query] and (asked is None or tokens[query] in asked)
    ]
    parts.append(squares(wanted, step, "wanted"))
    return joined(parts)


def _visible(symbol: str) -> str:
    return {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}.get(symbol, symbol)


def _curves(
    arms: Sequence[RecallArm],
    measure: str,
    y_title: str,
    ends: tuple[float, float] | None,
    *,
    marks: Sequence[tuple[RecallArm, OverSeeds]] = (),
    lines: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Means over seeds with the range of seeds, on a logarithmic axis of tokens."""
    spreads = [(arm, arm.tokens(), *arm.spread(measure)) for arm in arms]
    y = Scale(*ends) if ends else _late(spreads, [value for value, _ in lines])
    frame = Frame(WIDE, HEIGHT, _token_scale(spreads[0][1]), y)
    parts = [frame.axes("training tokens", y_title, _powers(frame.x))]
    parts += [_level(frame, value) for value, _ in lines if y.low <= value <= y.high]
    if ends == (0.0, 1.0):
        parts.append(_level(frame, 0.5))
    for arm, found in marks:
        x = frame.px(found.value)
        parts.append(tag("g", segment(x, frame.py(0.5) - 9, x, frame.py(0.5) + 9, "curve"), class_=arm.colour))
    for arm, tokens, means, lows, highs in spreads:
        if len(arm.seeds) > 1:
            parts.append(band(frame.points(tokens, highs), frame.points(tokens, lows), f"band {arm.colour}"))
        points = frame.points(tokens, means)
        parts.append(frame.curve(tokens, means, f"curve {arm.colour}", arm.name))
        hint = f"{arm.name}: {fixed(means[-1], 3)} after {si(tokens[-1])} tokens"
        parts += [marker(arm.marker, x, y_place, f"mark {arm.colour}", hint) for x, y_place in points[-1:]]
    described = f"{y_title} against training tokens for {', '.join(arm.name for arm in arms)}."
    return drawing(WIDE, HEIGHT, y_title, described, *parts)


def _late(spreads: Sequence[tuple[Any, ...]], further: Sequence[float]) -> Scale:
    """A scale for the last two thirds of the probes: before, every curve falls from chance alike."""
    values = [value for _, tokens, _, lows, highs in spreads for value in (*lows[len(tokens) // 3 :], *highs[-1:])]
    values += [value for _, tokens, means, _, _ in spreads for value in means[len(tokens) // 3 :]]
    return tight([*values, *further], zero=min([0.0, *(v for v in values if math.isfinite(v))]) >= 0)


def _level(frame: Frame, value: float) -> Markup:
    return segment(frame.left, frame.py(value), frame.width - frame.right, frame.py(value), "guide strong")


def _token_scale(tokens: Sequence[float]) -> Scale:
    return Scale(max(1.0, tokens[0]), max(tokens[-1], tokens[0] + 1.0), log=True)


def _powers(scale: Scale) -> list[tuple[float, str]]:
    """Round token counts of a logarithmic axis: powers of ten, and halves of them where there are few."""
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 3)]
    return [(value, si(value)) for value in values if scale.low <= value <= scale.high * 1.001]


def _measured(arms: Sequence[RecallArm], measure: str) -> bool:
    return any(getattr(probe, measure) is not None for arm in arms for seed in arm.seeds for probe in seed.probes)


def _final(arm: RecallArm, measure: str, decimals: int) -> str:
    return with_interval(arm.final(measure), decimals)


def recall_legend(arms: Sequence[RecallArm]) -> tuple[tuple[str, Markup], ...]:
    """Name and sign of each arm."""
    return tuple((arm.name, _stroke(arm.colour, arm.marker)) for arm in arms)


def _stroke(more: str, sign: str = "") -> Markup:
    return line_key(f"curve {more}", sign, more, box="key t0")
