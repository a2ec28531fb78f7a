"""Signs of a legend: a line with its mark, and a strip of shades."""

from __future__ import annotations

from markupsafe import Markup

from stillroom.report.charts.svg import marker, segment, tag


def line_key(stroke: str, shape: str = "", colour: str = "", box: str = "key") -> Markup:
    """A line of these classes, with a mark of a colour on it where ``shape`` names one."""
    parts = [segment(0, 6, 24, 6, stroke)]
    if shape:
        parts.append(marker(shape, 12, 6, f"mark {colour}"))
    return tag("svg", *parts, viewBox="0 0 24 12", width=24, height=12, class_=box, aria_hidden="true")


def shades_key(colour: str) -> Markup:
    """Five squares of rising strength."""
    squares = []
    for place in range(5):
        box = {"x": 12.0 * place, "y": 0.0, "width": 11.0, "height": 12.0}
        squares += [tag("rect", class_="cell", **box), tag("rect", class_=colour, fill_opacity=place / 4, **box)]
    return tag("svg", *squares, viewBox="0 0 60 12", width=60, height=12, class_="key", aria_hidden="true")


def box_key(style: str) -> Markup:
    """An outlined place of these classes."""
    box = tag("rect", x=7, y=1, width=10, height=10, class_=style)
    return tag("svg", box, viewBox="0 0 24 12", width=24, height=12, class_="key", aria_hidden="true")


ATTENTION = (("share of attention, 0 to 1", shades_key("warm")),)
"""The legend of attention maps."""
