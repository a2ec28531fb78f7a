"""Every number that the documentation quotes from an experiment stands in a frozen result, to the digits it quotes.

A quoted number is a link with the place in the JSON for its fragment: ``[0.24](000_quickstart/results.json#a/b/0)``.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
QUOTED = re.compile(r"\[([+−-]?[0-9][0-9.,]*)( ?%)?\]\(([^)#\s]+\.json)#([^)\s]+)\)")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/**/*.md")])


def quotes(text: str) -> list[tuple[str, bool, str, str]]:
    """(number as written, whether in per cent, file, place in it)."""
    return [(m[1], bool(m[2]), m[3], m[4]) for m in QUOTED.finditer(text)]


def found_at(values: Any, place: str) -> float:
    """The number at a place such as ``evaluations/spt/lm/bits_per_byte/value``."""
    for name in place.split("/"):
        values = values[int(name)] if isinstance(values, list) else values[name]
    return float(values)


def agrees(written: str, per_cent: bool, value: float) -> bool:
    """Whether ``written`` is ``value`` rounded to as many decimals, half either way."""
    number = Decimal(written.replace("−", "-").replace(",", ""))
    unit = Decimal(1).scaleb(int(number.as_tuple().exponent))
    return abs(number - Decimal(value * (100 if per_cent else 1))) <= unit / 2 + Decimal("1e-12")


def wrong(page: Path, text: str) -> list[str]:
    made = []
    for written, per_cent, file, place in quotes(text):
        value = found_at(json.loads((page.parent / file).read_text()), place)
        if not agrees(written, per_cent, value):
            made.append(f"{page.relative_to(ROOT)}: quotes {written} from {file}#{place}, where {value} stands")
    return made


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_quoted_numbers_stand_in_frozen_results(page: Path) -> None:
    assert wrong(page, page.read_text(encoding="utf-8")) == []


def test_claims_quote_every_number_they_give() -> None:
    """In the table of claims, the cell of what was found holds no number that is not such a link."""
    rows = [line for line in (ROOT / "experiments/README.md").read_text().splitlines() if line.startswith("| C")]
    assert rows
    for row in rows:
        found = row.split(" | ")[2]
        assert quotes(found), row
        assert not re.search(r"\d+\.\d+", QUOTED.sub("", found)), row


def test_the_check_sees_a_wrong_digit_a_missing_place_and_a_sign() -> None:
    page = ROOT / "experiments" / "README.md"
    values = json.loads((ROOT / "experiments/000_quickstart/results.json").read_text())
    bits = values["evaluations"]["spt"]["lm"]["bits_per_byte"]["value"]
    link = "000_quickstart/results.json#evaluations/spt/lm/bits_per_byte/value"
    assert wrong(page, f"[{bits:.2f}]({link})") == []
    assert len(wrong(page, f"[{bits + 0.01:.2f}]({link}) and [−{bits:.2f}]({link})")) == 2
    with pytest.raises(KeyError):
        wrong(page, f"[1.0]({link}s)")
    assert agrees("12.3", True, 0.1234) and not agrees("12.3", False, 0.1234)
