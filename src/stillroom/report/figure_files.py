"""The figures of a page as files for papers: SVG, PDF and the same numbers as CSV.

Files carry no style sheet variables and no dark theme, so that every program that reads SVG shows them alike.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup, escape

from stillroom.files import check_new_folder, folder_aside, write_bytes, write_text
from stillroom.report.charts.figure import Figure, Table
from stillroom.report.charts.svg import number
from stillroom.report.html import style_sheet
from stillroom.report.kinds import figures_of
from stillroom.types import UserError

Format = Literal["svg", "pdf", "csv"]
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_VARIABLE = re.compile(r"var\((--[\w-]+)\)")
_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_KEY = re.compile(r' width="([\d.]+)"')
_OF_A_PAGE = re.compile(r"(?<![-\w])(?:display|width|height|overflow):[^;]*;\s*")
"""What a drawing does in the column of a page."""
_MARGIN, _LINE, _LETTER = 12.0, 22.0, 6.6  # user units: around a drawing, of a line of words, of a letter at most
Legend = Sequence[tuple[str, Markup]]
_COLOURS = tuple(f"{kind}{place}" for kind, count in (("t", 3), ("s", 7)) for place in range(count))


@dataclass(frozen=True)
class Paper:
    """How figures are written: kinds of file, width of a drawing in millimetres, and the family of its letters."""

    formats: tuple[Format, ...] = ("svg", "csv")
    width: float = 120.0
    font: str = "Helvetica, Arial, sans-serif"


class Picture(str):
    """A drawing as the text of an SVG file, which a notebook shows."""

    def _repr_svg_(self) -> str:
        return str(self)


def pictures(runs: Sequence[str | Path], paper: Paper = Paper()) -> dict[str, Picture]:
    """Every drawing of the page of these runs by the name that its file would have, such as ``worth``.

    Raises:
        UserError: a file of a run is missing or damaged.
    """
    shown = figures_of([Path(run) for run in runs])
    return {name: drawn for figure in shown for name, drawn in _drawings(figure, paper)}


def write_figures(figures: Sequence[Figure], folder: Path, paper: Paper = Paper()) -> list[Path]:
    """Writes every panel of every figure into a new or empty folder, and its numbers; returns the files.

    A figure of one panel is called after it, ``worth.svg``; panels of several are numbered, ``learning-2.svg``.

    Raises:
        UserError: the folder holds something, nothing is shown, or PDF is asked for and its package is not there.
    """
    if not figures:
        raise UserError("report: these runs have no figure to write; give runs that measured models.")
    check_new_folder(folder)
    with folder_aside(folder) as scratch:
        names = [_write(figure, scratch, paper) for figure in figures]
    return [folder / name for found in names for name in found]


def _write(figure: Figure, folder: Path, paper: Paper) -> list[str]:
    names = []
    for name, drawn in _drawings(figure, paper):
        if "svg" in paper.formats:
            names.append(f"{name}.svg")
            write_text(folder / names[-1], drawn)
        if "pdf" in paper.formats:
            names.append(f"{name}.pdf")
            write_bytes(folder / names[-1], _pdf(drawn))
    if "csv" in paper.formats and figure.table is not None:
        names.append(f"{_stem(figure)}.csv")
        write_text(folder / names[-1], _csv(figure.table))
    return names


def _drawings(figure: Figure, paper: Paper) -> Iterator[tuple[str, Picture]]:
    for place, panel in enumerate(figure.panels, 1):
        name = _stem(figure) if len(figure.panels) == 1 else f"{_stem(figure)}-{place}"
        yield name, Picture(paper_picture(panel.picture, panel.title, figure.legend, paper))


def _stem(figure: Figure) -> str:
    return figure.id.removeprefix("fig-")


def paper_picture(picture: Markup, title: str, legend: Legend, paper: Paper) -> str:
    """A drawing as an SVG file of the paper's width, its panel's title above it and the legend below it.

    Raises ``UserError`` where it is no drawing of ``stillroom.report.charts``.
    """
    box = _BOX.search(picture)
    if box is None:
        raise UserError(f"figure {title!r}: its picture has no viewBox from 0 0; draw it with stillroom.report.charts.")
    inner, height = float(box[1]), float(box[2])
    keys, below = _legend(legend, inner, height)
    above, width = (_LINE if title else 0.0), inner + 2 * _MARGIN
    whole = above + height + below + _MARGIN
    view = f"{number(-_MARGIN)} {number(-above)} {number(width)} {number(whole)}"
    size = f'width="{number(paper.width)}mm" height="{number(paper.width * whole / width)}mm"'
    plain = "".join(picture.split("<svg", 1)[1:])  # a str: a Markup would escape what is put into it
    heading = f'<text x="0" y="-8" class="heading">{escape(title)}</text>' if title else ""
    plain = plain.replace(box[0], f'viewBox="{view}"', 1)
    plain = plain.replace("<title>", f"<style>{plain_style(paper.font)}</style>{heading}<title>", 1)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}{plain.removesuffix("</svg>")}{keys}</svg>\n'


def _legend(legend: Legend, width: float, top: float) -> tuple[str, float]:
    """Signs and names in rows under a drawing, and the height that they take."""
    parts, x, y = [], 0.0, top
    for name, sign in legend:
        key = float(_KEY.search(sign)[1])  # type: ignore[index]  # keys have a width
        wide = key + 8 + _LETTER * len(name)
        if x and x + wide > width:
            x, y = 0.0, y + _LINE
        placed = "".join(sign.split("<svg", 1)[1:])
        parts.append(f'<svg x="{number(x)}" y="{number(y + 6)}"{placed}')
        parts.append(f'<text x="{number(x + key + 6)}" y="{number(y + 16)}">{escape(name)}</text>')
        x += wide + 14
    return "".join(parts), y + _LINE - top if legend else 0.0


@functools.cache
def plain_style(font: str) -> str:
    """The drawings' style in the light theme, every variable by its value; a rule of a model's colour once for each."""
    palette = _palette() | {"--sans": font}
    rules = [
        f"{selector} {{{body}}}"
        for wanted, declared in _rules(style_sheet("charts"))
        for selector, body in _spelt_out(wanted, _OF_A_PAGE.sub("", declared), palette)
    ]
    rules.append(f".heading {{font-family: {font}; font-size: 13px; font-weight: bold;}}")
    return "\n".join(rules).replace("currentColor", palette["--ink"])


def _palette() -> dict[str, str]:
    """Variables of the light theme."""
    light = next(body for selector, body in _rules(style_sheet("colours")) if selector == ":root")
    pairs = (declared.split(":", 1) for declared in light.split(";") if ":" in declared)
    return {name.strip(): value.strip() for name, value in pairs}


def _rules(css: str) -> Iterator[tuple[str, str]]:
    """Selector and declarations of every rule outside of a condition."""
    plain = re.sub(r"@\w+[^{]*\{(?:[^{}]*\{[^{}]*\}\s*)*\}", "", css)
    for selector, body in _RULE.findall(plain):
        yield selector.strip(), body.strip()


def _spelt_out(selector: str, declared: str, palette: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if selector.lstrip(".") in _COLOURS or selector == ".plot .halo":  # --c alone; a halo hides words in some programs
        return
    for colour in _COLOURS if "var(--c)" in declared else ("",):
        values = {**palette, "--c": palette[f"--{colour}"]} if colour else palette
        body = _VARIABLE.sub(lambda found, values=values: values[found[1]], declared)
        yield selector + (f".{colour}" if colour else ""), body


def _csv(table: Table) -> str:
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([table.head, *table.rows])
    return lines.getvalue()


def _pdf(drawn: str) -> bytes:
    try:
        import cairosvg  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:  # OSError: the package is there, the cairo library is not
        raise UserError(
            f"report: PDF needs the package cairosvg and the cairo library ({error}); pip install "
            "'stillroom[figures]', or ask for --format svg."
        ) from error
    made = cairosvg.svg2pdf(bytestring=drawn.encode())
    assert isinstance(made, bytes)
    return made
