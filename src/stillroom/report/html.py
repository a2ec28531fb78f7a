"""From a template to a self-contained page: the one place that knows how templates are read."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from stillroom.report.charts.figure import Figure
from stillroom.report.charts.svg import number
from stillroom.report.formats import duration, kept_together
from stillroom.results.schema import StageRecord
from stillroom.types import printable_lines


def _shown(value: Any) -> Any:
    """Values as a page shows them: signs that turn lines around, or that no file holds, are written out."""
    return printable_lines(value) if type(value) is str else value


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stillroom.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    environment.filters["kept"] = kept_together
    return environment


def style_sheet(name: str) -> str:
    """One of the style sheets of ``templates/``."""
    return _templates().get_template(f"{name}.css.j2").render()


def picture_file(picture: Markup, width: float, height: float) -> str:
    """A drawing of ``charts`` as a file of its own, with the style that it has on a page and the page's ground."""
    css = style_sheet("colours") + style_sheet("charts")
    style = Markup(f"<style>{css}svg {{ background: var(--paper); color: var(--ink); }}</style>")
    size = f'width="{number(width)}" height="{number(height)}"'
    opening = Markup(f'<svg xmlns="http://www.w3.org/2000/svg" {size}')
    found = picture.replace(Markup("<svg"), opening, 1).replace(Markup("<title>"), style + Markup("<title>"), 1)
    return f"{found}\n"


def stage_rows(stages: Sequence[StageRecord]) -> list[tuple[str, str, bool, float]]:
    """Name, time, whether it was reused, and percent of the longest time of every stage."""
    longest = max((stage.seconds for stage in stages), default=0.0) or 1.0
    return [
        (stage.name, duration(stage.seconds), stage.reused, round(100 * stage.seconds / longest, 1)) for stage in stages
    ]


@dataclass(frozen=True)
class Lead:
    """What a page opens with: the sentences of each paragraph, of which the first is the answer.

    ``details`` are paragraphs that stand below the key figure.
    """

    paragraphs: tuple[tuple[str, ...], ...]
    details: tuple[str, ...] = ()


_TITLES = ("table_title", "samples_title", "run_title")


def fill(template: str, *, lead: Lead, figures: Sequence[Figure] = (), **values: Any) -> str:
    """A page of ``templates/`` with the common style and script inside it; the script's hash lets it alone run.

    The first figure that is drawn is the key figure, above all tables. Figures that have nothing to show are left out,
    so that numbers run without gaps, and so are the sections whose title (``table_title``, ``samples_title``,
    ``run_title``) is not given.
    """
    environment = _templates()
    script = environment.get_template("script.js.j2").render()
    shown = [figure for figure in figures if figure.is_shown]
    key = shown.pop(0) if shown and shown[0].panels else None
    table, samples, run = (values.setdefault(name, "") for name in _TITLES)
    sections = [("words", "In words" if lead.details else ""), ("table", table)]
    sections += [(figure.id, figure.title) for figure in shown] + [("samples", samples), ("run", run)]
    return environment.get_template(template).render(
        **values,
        lead=lead,
        key=key,
        figures=shown,
        contents=[*([(key.id, key.title)] if key else []), *(one for one in sections if one[1])],
        style=environment.get_template("style.css.j2").render(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
