"""The blocks of the page on adding a part, and its files as modules."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

BLOCKS = re.findall(
    r"^```(python|toml)\n(.*?)^```$", (Path(__file__).parents[1] / "docs" / "extending.md").read_text(), re.M | re.S
)
FILES = {place[1]: code for _, code in BLOCKS if (place := re.match(r"# extras/(\w+)\.py\n", code))}
"""Name of a module of the page's package → its source."""


def load_part(name: str) -> ModuleType:
    """A file of the page as a module of this process, where no package is installed."""
    module = ModuleType(f"extras_{name}")
    sys.modules[module.__name__] = module  # where a dataclass looks its types up
    exec(compile(FILES[name], f"docs/extending.md: {name}", "exec"), vars(module))
    return module
