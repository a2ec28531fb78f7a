"""A square of attention: rows are the tokens that look, columns those looked at, the stronger the colour, the more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from stillroom.report.charts.svg import Point, squares, tag

SHADES = 5
"""Steps of strength: few, so that a picture is a handful of elements."""
FAINTEST = 0.04
"""Attention below this is left blank."""


def attention_square(pattern: Sequence[Sequence[float]], corner: Point, step: float) -> list[Markup]:
    """The ground and the shades of a causal pattern (T, T) of shares, each token ``step`` wide."""
    (left, top), size = corner, len(pattern)
    parts = [squares([(left, top)], size * step, "cell")]
    for shade in range(1, SHADES + 1):
        places = [
            (left + key * step, top + query * step)
            for query in range(size)
            for key in range(query + 1)
            if pattern[query][key] >= FAINTEST and math.ceil(min(1.0, pattern[query][key]) * SHADES) == shade
        ]
        if places:
            parts.append(tag("g", squares(places, step, "warm"), fill_opacity=f"{shade / SHADES:.2f}"))
    return parts
