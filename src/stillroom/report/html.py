"""From a template to a self-contained page: the one place that knows how templates are read."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import jinja2

from stillroom.report.formats import kept_together
from stillroom.types import printable_lines


def _shown(value: Any) -> Any:
    """Values as a page shows them: signs that turn lines around, or that no file holds, are written out."""
    return printable_lines(value) if type(value) is str else value


def fill(template: str, **values: Any) -> str:
    """A page of ``templates/`` with the common style and script inside it; the script's hash lets it alone run."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stillroom.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    environment.filters["kept"] = kept_together
    script = environment.get_template("script.js.j2").render()
    return environment.get_template(template).render(
        **values,
        style=environment.get_template("style.css.j2").render(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
