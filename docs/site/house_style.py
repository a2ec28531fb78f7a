"""The house rules of prose, checked: python docs/site/house_style.py.

No parentheses in parentheses, one number by name in a sentence, no signed number that is called better or worse, and no
word that ``house_rules.yaml`` lists. Code, tables' numbers and records of runs are left alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from findings import claims
from named_numbers import ROOT

RULES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "house_rules.yaml").read_text(encoding="utf-8"))
CODE = re.compile(r"^(```+|~~~+).*?^\1|^    .*?$|`[^`\n]+`|<!--.*?-->", re.M | re.S)
NUMBER = re.compile(r"\{\{[^{}]+\}\}")
SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n\s*\n|\n(?=\s*[-*|#>] ?)")
SIGNED = re.compile(r"(?:[+−][\d.]+|\{\{(?![^{}]* abs)[^{}]+\}\}) (?:\w+ ){0,3}(?:better|worse)\b")
NESTED = re.compile(r"\([^()]*[a-z]{3,} \([^()]*\)")  # of words: formulas nest


def pages() -> list[Path]:
    """Every page that is prose of today."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if not str(page.relative_to(ROOT)).startswith(tuple(RULES["records"]))]


def faults(text: str, words: bool = True) -> Iterator[str]:
    """What a text says against the rules, in a sentence each; its ``words`` are left alone where it is a record."""
    plain = re.sub(r"\]\([^)\s]*\)", "]", CODE.sub("`code`", text))
    for word, advice in RULES["words"].items() if words else ():
        if found := re.search(rf"\b{re.escape(word)}\b", plain, re.IGNORECASE):
            yield f"{found[0]!r}: {advice}"
    for sentence in SENTENCE.split(re.sub(r"^\s*\|.*$", "", plain, flags=re.M)):
        said = " ".join(sentence.split())
        if len(NUMBER.findall(said)) > RULES["numbers_in_a_sentence"]:
            yield f"two numbers in a sentence: {said[:100]}"
        if SIGNED.search(said):
            yield f"a signed number that is better or worse: {said[:100]}"
        if NESTED.search(said):
            yield f"parentheses in parentheses: {said[:100]}"


def complaints() -> list[str]:
    """Of every page, and of the claims that pages are made of."""
    found = [
        f"{page.relative_to(ROOT)}: {what}" for page in pages() for what in faults(page.read_text(encoding="utf-8"))
    ]
    said = {claim.id: [claim.paper, claim.where, claim.short, *claim.answer] for claim in claims()}
    return found + [f"claims.yaml, {id}: {what}" for id, texts in said.items() for one in texts for what in faults(one)]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = complaints()
    print("\n".join(found) or f"{len(pages())} pages: nothing against the house rules")
    sys.exit(bool(found))
