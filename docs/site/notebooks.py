"""The notebooks of ``docs/notebooks``: run from top to bottom with their outputs written into them, and as pages.

    python docs/site/notebooks.py

The cells of a notebook run in this process, in the folder of the notebook. The last expression of a cell is its output:
as text and, where it has them, as HTML or as an SVG picture. Files are in the form that Jupyter reads and writes.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1] / "notebooks"
Cell = dict[str, Any]
Notebook = dict[str, Any]
_SHOWN = {"text/html": "_repr_html_", "image/svg+xml": "_repr_svg_"}


def notebooks() -> list[Path]:
    """Every notebook."""
    return sorted(HOME.glob("*.ipynb"))


def executed(file: Path) -> Notebook:
    """The notebook with the outputs that its cells have now."""
    notebook: Notebook = json.loads(file.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    before = list(sys.path)
    try:
        with contextlib.chdir(file.parent):
            cells = [_run(cell, names, place) for place, cell in enumerate(notebook["cells"], 1)]
    finally:
        sys.path[:] = before
    return notebook | {"cells": cells}


def _run(cell: Cell, names: dict[str, Any], place: int) -> Cell:
    if cell["cell_type"] != "code":
        return cell
    tree = ast.parse("".join(cell["source"]))
    *_, end = tree.body
    last = end.value if isinstance(end, ast.Expr) else None
    if last is not None:
        tree.body.pop()
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {place}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last), f"cell {place}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if words := printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": words.splitlines(keepends=True)})
    if value is not None:
        result = {"data": _data(value), "execution_count": place, "metadata": {}, "output_type": "execute_result"}
        outputs.append(result)
    return cell | {"execution_count": place, "outputs": outputs}


def _data(value: object) -> Mapping[str, list[str]]:
    """The kinds of output that a value has, by their media type."""
    made = {kind: getattr(value, name)() for kind, name in _SHOWN.items() if hasattr(value, name)}
    plain = "<picture>" if "image/svg+xml" in made else repr(value)
    return {kind: words.splitlines(keepends=True) for kind, words in (made | {"text/plain": plain}).items()}


def text_of(notebook: Notebook) -> str:
    """The file of a notebook."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def page_of(file: Path) -> tuple[str, dict[str, str]]:
    """A notebook as Markdown with its outputs, and the pictures that stand beside it, by their names."""
    pictures: dict[str, str] = {}
    parts: list[str] = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            parts += _shown(output, f"{file.stem}-{len(pictures) + 1}.svg", pictures)
    return "\n\n".join(parts) + "\n", pictures


def _shown(output: Mapping[str, Any], name: str, pictures: dict[str, str]) -> Iterator[str]:
    data = output.get("data", {})
    if "image/svg+xml" in data:
        pictures[name] = "".join(data["image/svg+xml"])
        yield f"![output of the cell above]({name})"
    elif "text/html" in data:
        table = re.sub(r"<style.*?</style>\s*", "", "".join(data["text/html"]), flags=re.DOTALL)
        yield re.sub(r"\s*\n\s*", "\n", table).replace(' border="1"', "")
    else:
        yield f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for one in notebooks():
        one.write_text(text_of(executed(one)), encoding="utf-8")
        print(one)
