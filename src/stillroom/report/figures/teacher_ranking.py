"""Figures of a ranking of teachers: differences with intervals, reliability, entropy, and what is leaked where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table
from stillroom.report.charts.keys import line_key
from stillroom.report.charts.scales import Scale, linear
from stillroom.report.charts.svg import (
    WIDE,
    Frame,
    drawing,
    marker,
    path,
    segment,
    shortened,
    tag,
    text,
    ticks,
    whisker,
)
from stillroom.report.formats import MISSING, fixed, with_interval
from stillroom.report.view import Style, styles
from stillroom.results.ranking_file import BestHead, LossOrder, NoPositions, Ranking, TeacherRecord
from stillroom.types import Estimate

Measured = Estimate | NoPositions | None
ROW = 34.0
_HEIGHT = 320.0


@dataclass(frozen=True)
class RankedTeacher(Style):
    """A candidate as figures show it."""

    record: TeacherRecord

    @property
    def key(self) -> Markup:
        """Its line and sign for a legend."""
        return line_key(f"curve {self.colour}", self.marker, self.colour)


def ranked_candidates(ranking: Ranking) -> tuple[RankedTeacher, ...]:
    """The candidates from the first of the order to the last."""
    by_name = {teacher.name: teacher for teacher in ranking.teachers}
    order = (ranking.proxies or ranking.teacher_loss).order
    return tuple(RankedTeacher(**vars(style), record=by_name[style.name]) for style in styles(order))


def order_figure(ranking: Ranking, entries: tuple[RankedTeacher, ...]) -> Figure:
    """Paired differences from the first candidate, of the teachers' own loss and of their proxy students'."""
    parts = [("Teachers’ own held-out loss", ranking.teacher_loss)]
    if ranking.proxies is not None:
        parts.append(("Held-out loss of proxy students", ranking.proxies))
    title = "Who is first, and who is tied"
    if len(entries) < 2:
        return Figure("fig-order", title)
    by_name = {entry.name: entry for entry in entries}
    panels = tuple(Panel(f"{words}, above {part.against}", _forest(part, by_name)) for words, part in parts)
    rows = tuple(
        (found.name, words, with_interval(found.nats, 4), "tie" if found.tie else "worse")
        for words, part in parts
        for found in part.differences
    )
    level = f"{100 * (1 - (1 - parts[0][1].level) * max(1, len(entries) - 1)):.0f} %"
    return Figure(
        "fig-order",
        title,
        "Differences in nats per token from the candidate with the lowest loss, paired over the same documents; lower "
        f"is better. Lines are intervals over documents that hold together with {level}; one that reaches zero is a "
        "tie.",
        panels,
        table=Table(("teacher", "compared", "nats per token", "verdict"), rows),
    )


def _forest(part: LossOrder, by_name: dict[str, RankedTeacher]) -> Markup:
    found = part.differences
    scale = linear([end for row in found for end in (row.nats.low, row.nats.high)], include=0.0)
    height = 10 + ROW * len(found) + 46
    frame = Frame(WIDE, height, scale, Scale(0, 1), left=16, right=18, top=10)
    parts = [segment(frame.px(value), 6, frame.px(value), frame.floor, "grid") for value, _ in ticks(scale)]
    parts += [text(frame.px(value), frame.floor + 19, words, "middle", "tick") for value, words in ticks(scale)]
    parts.append(segment(frame.px(0), 6, frame.px(0), frame.floor, "guide strong"))
    parts.append(text(WIDE - 18, height - 5, "nats per token", "end", "name"))
    for place, row in enumerate(found):
        entry, middle = by_name[row.name], 32 + ROW * place
        nats = row.nats
        hint = f"{entry.name}: {with_interval(nats, 4)}"
        parts.append(whisker(frame.px(nats.low), middle, frame.px(nats.high), middle, f"error {entry.colour}"))
        parts.append(marker(entry.marker, frame.px(nats.value), middle, f"mark {entry.colour}", hint))
        verdict = " (tie)" if row.tie else ""
        parts.append(text(20, middle - 11, shortened(entry.name, WIDE - 90, WIDE) + verdict, class_="halo"))
    words = "; ".join(f"{row.name} {fixed(row.nats.value, 4)}" for row in found)
    return drawing(WIDE, height, "Differences in held-out loss", f"Differences in nats per token: {words}.", *parts)


def reliability_figure(entries: tuple[RankedTeacher, ...]) -> Figure:
    """Accuracy against confidence: on the diagonal a model means what it says."""
    frame = Frame(WIDE, _HEIGHT, Scale(0, 1), Scale(0, 1))
    parts = [frame.axes("confidence of the first choice", "share that is right", ticks(frame.x))]
    parts.append(segment(frame.px(0), frame.py(0), frame.px(1), frame.py(1), "guide strong"))
    for entry in entries:
        bins = entry.record.calibration.bins
        points = frame.points([one.confidence for one in bins], [one.accuracy for one in bins])
        parts.append(path(points, f"curve thin {entry.colour}"))
        for (x, y), one in zip(points, bins, strict=True):
            hint = f"{entry.name}: {one.accuracy:.2f} right at {one.confidence:.2f} ({one.num} positions)"
            parts.append(marker(entry.marker, x, y, f"mark {entry.colour}", hint, size=2.8))
    rows = tuple((entry.name, with_interval(entry.record.calibration.ece, 4)) for entry in entries)
    picture = drawing(WIDE, _HEIGHT, "Reliability", "Share of right first choices against confidence.", *parts)
    return Figure(
        "fig-reliability",
        "Calibration",
        "Share of right first choices against their confidence, in 15 bins of equal width; the dashed line is a model "
        "that means what it says, below it one is overconfident. Expected calibration error in the table, with its "
        "interval over documents. Bins with few positions scatter.",
        (Panel("", picture),),
        tuple((entry.name, entry.key) for entry in entries),
        Table(("teacher", "expected calibration error"), rows),
    )


def entropy_figure(entries: tuple[RankedTeacher, ...]) -> Figure:
    """How sure the candidates are: shares of positions by entropy."""
    shares = {}
    for entry in entries:
        part = entry.record.entropy
        total = max(1, sum(part.counts))
        middles = [(low + high) / 2 for low, high in pairwise(part.edges_nats)]
        shares[entry.name] = (middles, [100 * count / total for count in part.counts])
    highest = entries[0].record.entropy.edges_nats[-1]
    frame = Frame(
        WIDE, _HEIGHT, Scale(0, highest), linear([v for _, ys in shares.values() for v in ys], include=0.0)
    )  # fmt: skip
    parts = [frame.axes("entropy (nats)", "positions (%)", ticks(frame.x))]
    for entry in entries:
        xs, ys = shares[entry.name]
        points = frame.points(xs, ys)
        parts.append(frame.curve(xs, ys, f"curve thin {entry.colour}", entry.name))
        mean = entry.record.entropy.mean.value
        near = min(range(len(xs)), key=lambda place, xs=xs, mean=mean: abs(xs[place] - mean))
        parts.append(marker(entry.marker, *points[near], f"mark {entry.colour}", f"{entry.name}: mean {mean:.2f} nats"))
    rows = tuple(
        (
            entry.name,
            with_interval(entry.record.entropy.mean, 3),
            *(fixed(value, 2) for value in entry.record.entropy.quantiles.values()),
            with_interval(entry.record.overconfidence_nats, 3),
        )
        for entry in entries
    )
    levels = (f"{level:.0%}" for level in entries[0].record.entropy.quantiles)
    return Figure(
        "fig-entropy",
        "Entropy",
        "Share of held-out positions by the entropy of the candidate’s distribution; the mark is at the mean. Held-out "
        "loss less entropy (last column of the table) is 0 for a model that means what it says.",
        (Panel("", drawing(WIDE, _HEIGHT, "Entropy", "Share of positions by entropy in nats.", *parts)),),
        tuple((entry.name, entry.key) for entry in entries),
        Table(("teacher", "mean (nats)", *levels, "loss less entropy (nats)"), rows),
    )


def certain_figure(entries: tuple[RankedTeacher, ...], share: float) -> Figure:
    """Where the next token is nearly certain: gold probability where it can be copied, mass leaked, copying itself."""
    measures: tuple[tuple[str, Callable[[TeacherRecord], Measured]], ...] = (
        ("Gold probability, copyable", lambda record: record.copyable.gold_probability),
        ("Mass leaked, low entropy", lambda record: record.leak.shared),
        ("Copies repeated tokens", lambda record: record.looking_back.copying.accuracy_repeat),
    )
    panels = tuple(
        Panel(title, _dots(title, [(entry, read(entry.record)) for entry in entries])) for title, read in measures
    )
    rows = tuple(
        (
            entry.name,
            *(with_interval(read(entry.record), 3) for _, read in measures),
            with_interval(entry.record.leak.own, 3),
            entry.record.looking_back.induction,
            _head(entry.record.looking_back.best_head),
        )
        for entry in entries
    )
    return Figure(
        "fig-certain",
        "Where the next token is nearly certain",
        "Left: mean probability of the gold token at positions where it followed the last earlier occurrence of the "
        f"current token. Middle: mean mass on other tokens at the {share:.0%} of each sequence’s positions whose "
        "entropy, averaged over all candidates, is lowest. Right: share of repeated random tokens that are the first "
        "choice; induction counts as finished where the whole interval is at 0.9 or above. Intervals over documents "
        "(right: sequences). In the table also the leak at the candidate’s own surest positions.",
        panels,
        table=Table(("teacher", *(title for title, _ in measures), "leak, own", "induction", "best head"), rows),
    )


def _head(head: BestHead) -> str:
    copying = MISSING if head.copying is None else fixed(head.copying, 2)
    return f"L{head.layer} H{head.head}: {fixed(head.prefix_matching, 2)} · {copying}"


def _dots(title: str, rows: list[tuple[RankedTeacher, Measured]]) -> Markup:
    """A value between 0 and 1 for each candidate, with its interval."""
    width, height = 340.0, 10 + ROW * len(rows) + 30
    frame = Frame(width, height, Scale(0, 1), Scale(0, 1), left=16, right=18, top=10, bottom=30)
    parts = [segment(frame.px(value), 6, frame.px(value), frame.floor, "grid") for value, _ in ticks(frame.x)]
    parts += [text(frame.px(value), frame.floor + 19, words, "middle", "tick") for value, words in ticks(frame.x)]
    for place, (entry, found) in enumerate(rows):
        middle = 32 + ROW * place
        parts.append(text(20, middle - 11, shortened(entry.name, width - 24, width), class_="halo"))
        if isinstance(found, Estimate):
            ends = (frame.px(found.low), middle, frame.px(found.high), middle)
            parts.append(whisker(*ends, f"error {entry.colour}"))
            hint = f"{entry.name}: {with_interval(found, 3)}"
            parts.append(marker(entry.marker, frame.px(found.value), middle, f"mark {entry.colour}", hint))
    return drawing(width, height, title, f"{title} of each candidate, from 0 to 1.", *parts)


def agreement_figure(ranking: Ranking) -> Figure:
    """How alike the candidates' distributions are, pair by pair."""
    part, title = ranking.agreement, "Agreement between candidates"
    names = part.names
    if len(names) < 2:
        return Figure("fig-agreement", title)
    pictures = (
        Panel("Same first choice", _matrix(names, part.same_first_choice, 1.0, 2)),
        Panel("Jensen–Shannon divergence (nats)", _matrix(names, part.jensen_shannon_nats, 0.693147, 3)),
    )
    rows = tuple(
        (f"{first} and {second}", fixed(part.same_first_choice[row][column], 3),
         fixed(part.jensen_shannon_nats[row][column], 4))
        for row, first in enumerate(names)
        for column, second in enumerate(names)
        if row < column
    )  # fmt: skip
    return Figure(
        "fig-agreement",
        title,
        f"Share of {part.num_positions:,} held-out positions with the same first choice, and mean divergence of "
        f"whole distributions at {part.num_distributions:,} of them, evenly spaced (0 = alike, ln 2 = nothing in "
        "common). "
        "Candidates that agree on nearly all have little to add to one another in a mixture.",
        pictures,
        table=Table(("pair", "same first choice", "divergence (nats)"), rows),
    )


def _matrix(names: Sequence[str], values: Sequence[Sequence[float]], top: float, decimals: int) -> Markup:
    """A square of shaded cells with the number in each; rows and columns are numbered, names stand beside the rows."""
    left, size = 150.0, min(64.0, (WIDE - 160.0) / len(names))
    height = 26 + size * len(names) + 6
    parts = []
    for row, name in enumerate(names):
        y = 26 + size * row
        parts.append(text(left - 8, y + size / 2 + 4, f"{shortened(name, left - 40, WIDE)}  {row + 1}", "end", "name"))
        parts.append(text(left + size * (row + 0.5), 18, str(row + 1), "middle", "tick"))
        for column in range(len(names)):
            x, value = left + size * column, values[row][column]
            box = {"x": x + 1, "y": y + 1, "width": size - 2, "height": size - 2}
            parts.append(tag("rect", class_="cell", **box))
            opacity = f"{0.55 * min(1.0, max(0.0, value / top)):.2f}"
            parts.append(tag("rect", class_="warm", fill_opacity=opacity, **box))
            parts.append(text(x + size / 2, y + size / 2 + 4, fixed(value, decimals), "middle"))
    words = f"Pairs of {', '.join(names)}."
    return drawing(WIDE, height, "Agreement", words, *parts)
