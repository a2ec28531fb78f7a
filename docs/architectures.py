"""Prints, as Markdown, which architectures were found equal to their own numbers: ``python docs/architectures.py``.

Reads ``architectures.json`` beside it, which ``python tests/models/sweep.py`` writes.
"""

from __future__ import annotations

import json
from pathlib import Path

TABLE = Path(__file__).with_name("architectures.json")


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


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(render(json.loads(TABLE.read_text())), end="")
