"""Pictures of what is inside a model, as SVG and HTML text that stands alone: attention, scores, coloured tokens.

Letters: T positions, L layers, H heads. Imports no plotting library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from torch import Tensor

from stillroom.analysis.loss_comparison import Passage
from stillroom.types import printable

_CELL = 9
_MARGIN = 84
_BLUE, _RED = (31, 97, 173), (186, 50, 40)
_STRONGEST_NATS = 3.0
"""Difference at which a token has its full colour."""

_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
)
"""Nothing is fetched and no script runs, whatever a name or a text holds."""

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
table{border-collapse:collapse}td,th{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd}
.tokens{font:14px/1.9 ui-monospace,monospace;white-space:pre-wrap;border:1px solid #ddd;padding:.5rem .8rem}
.tokens span{border-radius:2px}figure{display:inline-block;margin:.5rem 1rem .5rem 0}figcaption{font-size:.85rem}
"""


def attention_svg(pattern_TT: Tensor, tokens: Sequence[str] = (), *, title: str = "") -> str:
    """A head's attention as a picture: a row for each token that looks, a column for each that is looked at.

    Darker is more, white is 0 and full blue is 1. The tokens are written beside the rows where they are given.
    """
    length = pattern_TT.shape[0]
    left = _MARGIN if tokens else 2
    side = length * _CELL
    parts = [f'<rect x="{left}" y="0" width="{side}" height="{side}" fill="#ffffff" stroke="#dddddd"/>']
    for row, weights in enumerate(pattern_TT.tolist()):
        for column, weight in enumerate(weights[: row + 1]):
            if weight >= 0.01:
                place = f'x="{left + column * _CELL}" y="{row * _CELL}" width="{_CELL}" height="{_CELL}"'
                parts.append(f'<rect {place} fill="{_shade(weight, _BLUE)}"/>')
    for row, token in enumerate(tokens[:length]):
        place = f'x="{left - 4}" y="{row * _CELL + _CELL - 1}" text-anchor="end"'
        parts.append(f'<text {place} font-size="8" font-family="monospace">{_text(visible(token))}</text>')
    return _svg(left + length * _CELL + 2, length * _CELL + 2, parts, title)


def scores_svg(scores_LH: Tensor, *, title: str, low: float = 0.0, high: float = 1.0) -> str:
    """A score of every head: a row for each layer, a column for each head; blue above 0, red below, white at 0."""
    cell = 26
    parts = []
    for layer, row in enumerate(scores_LH.tolist()):
        for head, score in enumerate(row):
            strength = min(1.0, abs(score) / (high if score >= 0 else abs(low) or high))
            place = f'x="{cell * (head + 1)}" y="{cell * layer}" width="{cell - 1}" height="{cell - 1}"'
            colour = _shade(strength, _BLUE if score >= 0 else _RED)
            parts.append(f'<rect {place} fill="{colour}"><title>layer {layer} head {head}: {score:.3f}</title></rect>')
        parts.append(f'<text x="2" y="{cell * layer + 17}" font-size="11">{layer}</text>')
    for head in range(scores_LH.shape[1]):
        middle = cell * (head + 1) + cell // 2
        parts.append(
            f'<text x="{middle}" y="{cell * scores_LH.shape[0] + 13}" font-size="11" text-anchor="middle">{head}</text>'
        )
    return _svg(cell * (scores_LH.shape[1] + 1), cell * scores_LH.shape[0] + 18, parts, title)


def series_svg(steps: Sequence[int], lines: Mapping[str, Sequence[float]], *, title: str, unit: str) -> str:
    """Numbers over training steps, a line each, with the last value written at its end."""
    width, height, left, top = 560, 220, 46, 10
    values = [value for line in lines.values() for value in line]
    low, high = min([0.0, *values]), max([*values, 1e-9])
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def place(step: int, value: float) -> str:
        x = left + (width - left - 150) * (step - first) / (last - first)
        return f"{x:.1f},{top + (height - 2 * top - 20) * (1 - (value - low) / (high - low)):.1f}"

    parts = []
    for number, (name, line) in enumerate(lines.items()):
        colour = ("#1f61ad", "#ba3228", "#2b8a4b", "#8a5a00", "#6a3d9a", "#444444")[number % 6]
        points = " ".join(place(step, value) for step, value in zip(steps, line, strict=True))
        end = place(steps[-1], line[-1]).split(",")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(
            f'<text x="{float(end[0]) + 5:.1f}" y="{float(end[1]) + 4:.1f}" font-size="11" fill="{colour}">'
            f"{_text(name)} {line[-1]:.2f}</text>"
        )
    for value in (low, high):
        y = place(first, value).split(",")[1]
        parts.append(f'<text x="{left - 5}" y="{float(y) + 4:.1f}" font-size="11" text-anchor="end">{value:.2g}</text>')
    axis = f"step {first} to {steps[-1]}, {unit}"
    parts.append(f'<text x="{left}" y="{height - 4}" font-size="11">{_text(axis)}</text>')
    return _svg(width, height, parts, title)


def tokens_html(passage: Passage) -> str:
    """A passage with every token coloured: blue where the second model's loss is lower, red where it is higher."""
    spans = []
    for token, gain in zip(passage.tokens, passage.gains, strict=True):
        colour = _shade(min(1.0, abs(gain) / _STRONGEST_NATS) * 0.75, _BLUE if gain >= 0 else _RED)
        spans.append(f'<span style="background:{colour}" title="{gain:+.2f} nats">{_text(visible(token))}</span>')
    return f'<p>{passage.total:+.1f} nats</p><div class="tokens">{"".join(spans)}</div>'


def page_html(title: str, parts: Sequence[str]) -> str:
    """One page that needs nothing else."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{_POLICY}<title>{_text(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{_text(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def heading_html(text: str) -> str:
    """A heading of a page's part."""
    return f"<h2>{_text(text)}</h2>"


def figure_html(svg: str, caption: str) -> str:
    """A picture with a line of text below."""
    return f"<figure>{svg}<figcaption>{_text(caption)}</figcaption></figure>"


def visible(token: str) -> str:
    """A token's text with line ends and tabs shown by signs."""
    return token.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")


def _text(text: str) -> str:
    """A text from outside for HTML and SVG: no markup, and nothing that XML cannot hold or that turns lines around."""
    return escape(printable(text))


def _shade(strength: float, colour: tuple[int, int, int]) -> str:
    """The colour mixed with white: white at 0, the colour itself at 1."""
    mixed = (round(255 + (part - 255) * strength) for part in colour)
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    name = f"<title>{_text(title)}</title>" if title else ""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'{head} role="img" font-family="system-ui,sans-serif">{name}{"".join(parts)}</svg>'
