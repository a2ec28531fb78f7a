"""What is printed: texts as they are, never markup; what a terminal would obey instead of show is written out.

Every console of the package is a ``Terminal``: paths, names, texts of corpora and manifests may hold brackets, escape
codes, line breaks and bytes that are no text, and all of them come out as what they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from stillroom.types import printable, printable_lines


class Terminal(Console):
    """A console that takes no text for markup and lets no control character through."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text as it is, whatever it holds; only line breaks and tabs act."""
        options |= {"markup": False, "emoji": False}
        return super().render_str(printable_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything, tables and bars too, with what cannot be seen written out."""
        for segment in super().render(renderable, options):
            is_plain = segment.control or segment.text.isprintable()
            yield segment if is_plain else Segment(printable_lines(segment.text), segment.style)


def line(*parts: object) -> Text:
    """One line of text: each part as it is; a pair is a value and its style."""
    text = Text()
    for part in parts:
        value, style = part if isinstance(part, tuple) else (part, "")
        text.append(printable(value), style=style)
    return text
