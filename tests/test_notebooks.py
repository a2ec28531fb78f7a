"""Every notebook runs from top to bottom, and its outputs are those that are committed with it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import notebooks
import pytest

NOTEBOOKS = notebooks.notebooks()


def test_there_are_notebooks_and_the_index_names_each() -> None:
    index = (notebooks.HOME / "index.md").read_text(encoding="utf-8")
    assert NOTEBOOKS and all(f"]({file.name})" in index for file in NOTEBOOKS)


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="needs pandas: pip install -r requirements.lock")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_has_the_outputs_that_its_cells_have_now(file: Path) -> None:
    assert notebooks.text_of(notebooks.executed(file)) == file.read_text(encoding="utf-8"), (
        "run python docs/site/notebooks.py"
    )


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_a_page_with_every_output(file: Path) -> None:
    page, pictures = notebooks.page_of(file)
    cells = [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    shown = [output for cell in cells for output in cell["outputs"]]
    assert page.count("```python") == len(cells) and len(shown) > 1
    assert page.count("<table") + page.count("```text") + page.count("![") == len(shown)
    assert all(picture.startswith("<svg") and f"]({name})" in page for name, picture in pictures.items())
    assert "<style" not in page
