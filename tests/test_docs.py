"""Pages that are made from data say what the data say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_architectures_is_that_of_the_sweep():
    spec = importlib.util.spec_from_file_location("architectures", DOCS / "architectures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python docs/architectures.py"


def test_every_test_file_that_a_page_names_is_there():
    tests = Path(__file__).parent
    files = [str(file.relative_to(tests)) for file in tests.rglob("*.py")]
    for page in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"):
        for name in re.findall(r"(?:\w+/)*test_\w+\.py", page.read_text()):
            place = name.removeprefix("tests/")
            found = [file for file in files if file == place or ("/" not in name and file.endswith(f"/{name}"))]
            assert found, f"{page.name} names {name}"
