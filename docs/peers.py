"""Writes ``peers.md``: which properties were found to hold in which library, and where they do not.

    python docs/peers.py

Reads the newest ``benchmarks/results/conformance-*.json``, which ``python benchmarks/conformance.py`` writes.
"""

from __future__ import annotations

import argparse
import html
import json
from pathlib import Path
from typing import Any

from stillroom.conformance import PROPERTIES
from stillroom.conformance.properties import why

ROOT = Path(__file__).parents[1]
FROZEN = max((ROOT / "benchmarks" / "results").glob("conformance-*.json"))
REPRODUCTIONS = ROOT / "benchmarks" / "reproductions"
PAGE = Path(__file__).with_name("peers.md")
HEAD = """# Peers: who distils rightly

What [the conformance suite](conformance.md) found of other libraries, on {date}, on a processor, with torch {torch}.
Each was asked for what its documents say that it can do; what stands in neither column was not declared. The adapters
are in `examples/conformance/`. None of this is a judgement of a library as a whole: it is one function of one
version, called as shown. DistillKit is not on PyPI, and this function of Megatron-LM is no part of megatron-core
there: both were run from a checkout, and `make test-real` leaves them out.

`python benchmarks/conformance.py` makes the verdicts anew, `python docs/peers.py` this page.

"""


def reproduction(place: str, name: str) -> Path:
    """The few lines that show one failure without this package."""
    module, _, adapter = place.partition(":")
    library = module.removesuffix("_adapters").removesuffix("_adapter")
    return REPRODUCTIONS / f"{library}_{adapter}_{name}.py".replace("-", "_")


def page() -> str:
    """The whole page."""
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    return HEAD.format(**frozen) + _table(frozen) + _failures(frozen) + _properties()


def _table(frozen: dict[str, Any]) -> str:
    lines = ["| code | version | holds | does not hold |", "|" + " --- |" * 4]
    for one in frozen["results"].values():
        cells = [
            " ".join(f"`{name}`" for name, (outcome, _) in one["verdicts"].items() if outcome == kind) or "–"
            for kind in ("holds", "broken")
        ]
        lines.append(f"| {one['name']} | {frozen['versions'][one['library']]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n"


def _failures(frozen: dict[str, Any]) -> str:
    parts = ["## What does not hold\n"]
    for place, one in frozen["results"].items():
        for name, (outcome, sentence) in one["verdicts"].items():
            if outcome == "broken":
                file = reproduction(place, name).relative_to(ROOT)
                shown = html.escape(sentence.partition("; to see it again")[0], quote=False)
                parts.append(f"- {shown}. A [minimal reproduction](../{file}).")
    return "\n".join(parts) + "\n\n"


def _properties() -> str:
    lines = ["## The properties\n", "| property | why it must hold |", "| --- | --- |"]
    return "\n".join(lines + [f"| `{name}` | {why(name)} |" for name in PROPERTIES]) + "\n"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGE.write_text(page(), encoding="utf-8")
