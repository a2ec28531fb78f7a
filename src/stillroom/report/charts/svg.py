"""SVG by hand: elements, a frame with axes, and the marks that the figures share.

Colours come from CSS classes, so one drawing serves light and dark. Lengths are user units of the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from stillroom.report.charts.scales import Scale, tick_text
from stillroom.types import printable_lines

WIDE = 500.0
"""Width of a drawing that stands alone or in a pair; CSS enlarges its text on narrow screens."""
SMALL = 340.0
"""Width of a small multiple."""
Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def number(value: float) -> str:
    """At most two decimals, no trailing zeros: the same text on every machine."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def tag(name: str, *children: Markup | str, **attributes: str | float | None) -> Markup:
    """An element; ``class_`` becomes ``class``, ``_`` becomes ``-``, None is left out, text is escaped."""
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            shown = number(value) if isinstance(value, int | float) else _shown(value)
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    body = "".join(str(escape(_shown(child))) for child in children)
    return Markup(f"<{' '.join(parts)}>{body}</{name}>" if body else f"<{' '.join(parts)}/>")


def _shown(text: Markup | str) -> Markup | str:
    return text if isinstance(text, Markup) else printable_lines(text)


def joined(parts: Iterable[Markup]) -> Markup:
    """Elements one after another."""
    return Markup("").join(parts)


def text(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """Text with its baseline at ``y``."""
    return tag("text", words, x=x, y=y, text_anchor=anchor if anchor != "start" else None, class_=class_)


def segment(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def drawing(width: float, height: float, label: str, description: str, *parts: Markup) -> Markup:
    """A whole picture for screen readers and eyes; it scales to the width of its box."""
    size = "wide" if width >= WIDE else "small"
    return tag(
        "svg",
        tag("title", label),
        tag("desc", description),
        *parts,
        viewBox=f"0 0 {number(width)} {number(height)}",
        class_=f"plot {size}",
        role="img",
        aria_label=label,
    )


@dataclass(frozen=True)
class Frame:
    """A plotting area inside a drawing, with a scale for each direction."""

    width: float
    height: float
    x: Scale
    y: Scale
    left: float = 0.0
    """0 stands for the room that the numbers of a linear vertical axis need."""
    right: float = 14.0
    top: float = 30.0
    bottom: float = 50.0

    def __post_init__(self) -> None:
        if not self.left:
            words = [] if self.y.log else [words for _, words in ticks(self.y)]
            widest = max(map(len, words), default=0) * letter(self.width)
            object.__setattr__(self, "left", max(52.0, widest + 9))

    def px(self, value: float) -> float:
        """Horizontal place of a value, held inside the frame."""
        return self.left + self.x.clipped(value) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Vertical place of a value, held inside the frame."""
        return self.height - self.bottom - self.y.clipped(value) * (self.height - self.top - self.bottom)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> list[Point]:
        """Places of pairs of values; pairs that are not finite are left out."""
        pairs = zip(xs, ys, strict=True)
        return [(self.px(x), self.py(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]

    def curve(self, xs: Sequence[float], ys: Sequence[float], class_: str, name: str) -> Markup:
        """A line through pairs of values; the page's script reads its name and values where a pointer or key rests."""
        points = self.points(xs, ys)
        if not points:
            return Markup("")
        kept = (y for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y))
        values = " ".join(f"{y:.4g}" for y in kept)
        return tag("path", d=_steps(points), class_=class_, data_name=name, data_y=values)

    @property
    def floor(self) -> float:
        """Vertical place of the horizontal axis."""
        return self.height - self.bottom

    def axes(
        self,
        x_title: str,
        y_title: str,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]] | None = None,
    ) -> Markup:
        """Faint horizontal lines, ticks with their labels, and a title with its unit for each axis."""
        chosen = ticks(self.y) if y_ticks is None else y_ticks
        end, x_ticks = self.width - self.right, self._with_room(x_ticks)
        parts = [segment(self.left, self.py(value), end, self.py(value), "grid") for value, _ in chosen]
        parts += [text(self.left - 7, self.py(value) + 4, words, "end", "tick") for value, words in chosen]
        parts.append(segment(self.left, self.floor, end, self.floor, "axis"))
        parts += [segment(self.px(value), self.floor, self.px(value), self.floor + 4, "axis") for value, _ in x_ticks]
        parts += [text(self.px(value), self.floor + 20, words, "middle", "tick") for value, words in x_ticks]
        parts.append(text(end, self.height - 5, x_title, "end", "name"))
        parts.append(text(4, 14, y_title, class_="name"))
        ends = f"{number(self.left)} {number(end)} {self.x.low:.6g} {self.x.high:.6g} {int(self.x.log)}"
        parts.append(tag("g", class_="frame", data_x=ends))  # from which the script reads where a curve's points lie
        return joined(parts)

    def _with_room(self, x_ticks: Sequence[tuple[float, str]]) -> Sequence[tuple[float, str]]:
        """Every tick, or every second, third ..., so that no label touches the next."""
        wide = letter(self.width)

        def touch(first: tuple[float, str], second: tuple[float, str]) -> bool:
            return self.px(second[0]) - self.px(first[0]) < (len(first[1]) + len(second[1])) / 2 * wide + 4

        kept, every = x_ticks, 1
        while len(kept) > 1 and any(touch(*pair) for pair in pairwise(kept)):
            every += 1
            kept = x_ticks[::every]
        return kept


def letter(width: float) -> float:
    """Room that a letter of a drawing of this width takes at most: text of a wide one is larger on a narrow screen."""
    return 8.6 if width >= WIDE else 6.7


def shortened(words: str, room: float, width: float) -> str:
    """The words, or their beginning and end where they need more room in a drawing of this width."""
    most = max(5, int(room / letter(width)))
    head = (most - 1) * 2 // 3
    return (
        words if len(words) <= most else f"{words[:head].rstrip()}…{words[len(words) - (most - 1 - head) :].lstrip()}"
    )


def ticks(scale: Scale, count: int = 5) -> list[tuple[float, str]]:
    """Round values of a linear scale with their labels."""
    values = scale.ticks(count)
    step = values[1] - values[0] if len(values) > 1 else 0.0
    return [(value, tick_text(value, step)) for value in values]


def path(points: Sequence[Point], class_: str) -> Markup:
    """A line through places."""
    return tag("path", d=_steps(points), class_=class_) if points else Markup("")


def _steps(points: Sequence[Point]) -> str:
    return " ".join(f"{'L' if index else 'M'}{number(x)} {number(y)}" for index, (x, y) in enumerate(points))


def band(upper: Sequence[Point], lower: Sequence[Point], class_: str) -> Markup:
    """A filled strip between two lines."""
    if not upper:
        return Markup("")
    return tag("path", d=f"{_steps([*upper, *reversed(lower)])}Z", class_=class_)


def squares(places: Sequence[Point], side: float, class_: str) -> Markup:
    """Squares with their top left corners at these places, as one element."""
    edge = number(side)
    return tag("path", d="".join(f"M{number(x)} {number(y)}h{edge}v{edge}h-{edge}z" for x, y in places), class_=class_)


def whisker(x1: float, y1: float, x2: float, y2: float, class_: str, cap: float = 3.5) -> Markup:
    """An interval: a line with a short stroke at each end."""
    flat = abs(y1 - y2) < abs(x1 - x2)
    dx, dy = (0.0, cap) if flat else (cap, 0.0)
    steps = (
        f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}"
        f"M{number(x1 - dx)} {number(y1 - dy)}L{number(x1 + dx)} {number(y1 + dy)}"
        f"M{number(x2 - dx)} {number(y2 - dy)}L{number(x2 + dx)} {number(y2 + dy)}"
    )
    return tag("path", d=steps, class_=class_)


_SHAPES = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "triangle": ((0, -1.25), (1.2, 0.95), (-1.2, 0.95)),
    "diamond": ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    "wedge": ((0, 1.25), (1.2, -0.95), (-1.2, -0.95)),
    "bar": ((-1.4, -0.55), (1.4, -0.55), (1.4, 0.55), (-1.4, 0.55)),
    "cross": (
        *((-0.45, -1.3), (0.45, -1.3), (0.45, -0.45), (1.3, -0.45), (1.3, 0.45), (0.45, 0.45)),
        *((0.45, 1.3), (-0.45, 1.3), (-0.45, 0.45), (-1.3, 0.45), (-1.3, -0.45), (-0.45, -0.45)),
    ),
}


def marker(shape: str, x: float, y: float, class_: str, hint: str = "", size: float = 3.6) -> Markup:
    """A small sign at a place; ``hint`` shows when the pointer rests on it."""
    title = (tag("title", hint),) if hint else ()
    if shape == "circle":
        return tag("circle", *title, cx=x, cy=y, r=size * 1.08, class_=class_)
    corners = " ".join(f"{number(x + size * dx)},{number(y + size * dy)}" for dx, dy in _SHAPES[shape])
    return tag("polygon", *title, points=corners, class_=class_)


def place_label(frame: Frame, at: Point, words: str, class_: str, taken: list[Box]) -> Markup:
    """Words beside a mark, at the first of eight places inside the frame that covers none of ``taken``.

    Their place is added to ``taken``; nothing is written where all eight are taken. Sizes are those of the text on a
    narrow screen, where it is largest.
    """
    x, y = at
    wide, high, gap = 10.0 * len(words), 18.0, 6.0
    near = [(gap, -gap - high), (gap, gap), (-gap - wide, -gap - high), (-gap - wide, gap)]
    far = [(dx, dy - high if dy < 0 else dy + high) for dx, dy in near]
    boxes = [(x + dx, y + dy, x + dx + wide, y + dy + high) for dx, dy in near + far]
    inside = [box for box in boxes if box[0] >= frame.left and box[2] <= frame.width and box[3] <= frame.floor]
    box = next((box for box in inside if not any(_meet(box, other) for other in taken)), None)
    if box is None:
        return Markup("")
    taken.append(box)
    return text((box[0] + box[2]) / 2, box[3] - 4, words, "middle", class_)


def _meet(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
