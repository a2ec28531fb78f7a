"""The entropy profile of the teacher's labels: how sure the teacher was, and where."""

from __future__ import annotations

import math
from itertools import pairwise

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table, panel_width
from stillroom.report.charts.scales import Scale, linear
from stillroom.report.charts.svg import Frame, drawing, marker, segment, tag, ticks
from stillroom.report.figures import captions
from stillroom.report.formats import MISSING, fixed, listing, percent
from stillroom.report.view import View, run_names
from stillroom.results.schema import EntropyProfile

Part = tuple[str, EntropyProfile, tuple[int, ...], float | None]
"""Title, profile, counts by bin, mean in nats."""


def profile_figure(view: View) -> Figure:
    """Positions by teacher entropy, in all and by source, for every run with labels."""
    named = zip(run_names(view.runs), view.runs, strict=True)
    profiles = [(f"{name}: " if len(view.runs) > 1 else "", run.profile) for name, run in named if run.profile]
    title = "Entropy of the teacher’s labels"
    if not profiles:
        return Figure("fig-entropy", title)
    parts = [part for prefix, profile in profiles for part in _parts(prefix, profile)]
    thresholds = [fixed(value, 2) for _, profile in profiles if (value := profile.routing_threshold_nats) is not None]
    total = sum(sum(profile.entropy_histogram.counts) for _, profile in profiles)
    rows = tuple(
        (name, f"{sum(counts):,}", MISSING if mean is None else fixed(mean, 2), _below(profile, counts))
        for name, profile, counts, mean in parts
    )
    return Figure(
        "fig-entropy",
        title,
        captions.ENTROPY.format(
            threshold=captions.THRESHOLD.format(nats=listing(thresholds)) if thresholds else "", count=f"{total:,}"
        ),
        tuple(Panel(part[0], _histogram(part, panel_width(len(parts)))) for part in parts),
        table=Table(("source", "positions", "mean (nats)", "below the threshold"), rows),
    )


def _parts(prefix: str, profile: EntropyProfile) -> list[Part]:
    whole: Part = (f"{prefix}all sources", profile, profile.entropy_histogram.counts, profile.mean_entropy_nats)
    return [
        whole,
        *((prefix + source, profile, part.counts, part.mean_nats) for source, part in profile.by_source.items()),
    ]


def _below(profile: EntropyProfile, counts: tuple[int, ...]) -> str:
    """Share of positions below the threshold, the bin that holds it taken in proportion."""
    threshold = profile.routing_threshold_nats
    if threshold is None or not sum(counts):
        return MISSING
    inside = sum(
        count * min(1.0, max(0.0, (threshold - low) / (high - low)))
        for count, (low, high) in zip(counts, pairwise(profile.entropy_histogram.edges_nats), strict=True)
    )
    return percent(inside / sum(counts))


def _histogram(part: Part, width: float) -> Markup:
    title, profile, counts, mean = part
    edges = profile.entropy_histogram.edges_nats
    total = sum(counts)
    shares = [100 * count / max(1, total) for count in counts]
    frame = Frame(width, 230, Scale(edges[0], edges[-1]), linear(shares, include=0.0), left=44)
    pieces = [frame.axes("entropy (nats)", "positions (%)", ticks(frame.x))]
    for share, (low, high) in zip(shares, pairwise(edges), strict=True):
        x, y = frame.px(low), frame.py(share)
        hint = tag("title", f"{fixed(low, 2)} to {fixed(high, 2)} nats: {share:.1f} %")
        box = {"x": x, "y": y, "width": max(0.5, frame.px(high) - x - 0.8), "height": max(0.0, frame.floor - y)}
        pieces.append(tag("rect", hint, class_="column", **box))
    threshold = profile.routing_threshold_nats
    if threshold is not None:
        x = frame.px(threshold)
        pieces.append(segment(x, frame.top - 6, x, frame.floor, "guide strong"))
    if mean is not None and math.isfinite(mean):
        pieces.append(marker("wedge", frame.px(mean), frame.top - 4, "pointer", f"mean {fixed(mean, 2)} nats", 5))
    words = f"Histogram of entropy in nats over {total} positions."
    return drawing(width, 230, f"Teacher entropy, {title}", words, *pieces)
