"""Writes ``architectures.md``: which architectures were found equal to their own numbers.

    python docs/architectures.py

Reads ``architectures.json`` beside it, which ``python tests/models/sweep.py`` writes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

TABLE = Path(__file__).with_name("architectures.json")
PAGE = Path(__file__).with_name("architectures.md")
HEAD = """# Architectures

Every causal architecture that transformers 5.23 registers, as a tiny model with random weights that are scaled up so
that differences show, in fp32 on a processor. "Yes": equal to the model's own numbers, for documents packed and alone,
longer than its window. "No": refused in one sentence before anything is computed; the sentence stands below. An empty
cell was not reached.

`python tests/models/sweep.py` makes the table anew, `python docs/architectures.py` this page.

"""


def render(table: dict[str, dict[str, str]]) -> str:
    """A table of architectures and facets, and under it the sentence behind every refusal."""
    facets = list(max(table.values(), key=len))
    lines = ["| architecture | " + " | ".join(facets) + " |", "|" + " --- |" * (len(facets) + 1)]
    notes: dict[str, int] = {}
    for name, verdicts in table.items():
        cells = []
        for facet in facets:
            verdict = verdicts.get(facet)
            if verdict is None or verdict == "equal":
                cells.append("" if verdict is None else "yes")
                continue
            cells.append(f"no [{notes.setdefault(verdict, len(notes) + 1)}]")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{number}. {_escaped(verdict)}" for verdict, number in notes.items())]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    return HEAD + render(json.loads(TABLE.read_text()))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGE.write_text(page())
