"""The page on adding a part is right: its files, installed as a package beside this one, do what it says they do."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(python|toml)\n(.*?)^```$", PAGE, re.M | re.S)
CHECKS = [code for kind, code in BLOCKS if kind == "python" and code.startswith("# check")]
HEADINGS = re.findall(r"^## (?:An? )?(.*)$", PAGE, re.M)[: len(CHECKS)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the page's package and what installing it would leave."""
    root = tmp_path_factory.mktemp("site")
    metadata = root / "extras-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: extras\nVersion: 1.0\n")
    named = ""
    for kind, code in BLOCKS:
        if kind == "toml":
            groups = tomllib.loads(code)["project"]["entry-points"]
            for group, entries in groups.items():
                named += f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        elif place := re.match(r"# (extras/\w+\.py)\n", code):
            file = root / place[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)
    (metadata / "entry_points.txt").write_text(named)
    return root


@pytest.mark.parametrize("code", CHECKS, ids=HEADINGS)
def test_the_part_works_from_another_package(code: str, installed: Path) -> None:
    prelude = f"import sys; sys.path.insert(0, {str(installed)!r})\n"
    found = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_every_file_of_the_page_is_named_by_an_entry_point() -> None:
    files = {place[1] for _, code in BLOCKS if (place := re.match(r"# extras/(\w+)\.py", code))}
    named = {name for kind, code in BLOCKS if kind == "toml" for name in re.findall(r"extras\.(\w+):", code)}
    assert files == named and len(CHECKS) == len(files)
