"""Every number that the documentation quotes from an experiment is a frozen one, quoted by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from named_numbers import UnknownName, frozen, how_shown, names_in, replaced

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/**/*.md")])
WITHOUT_A_BUILD = ("README.md", "CHANGELOG.md", "experiments/README.md")
LINK = re.compile(r"\[[^\]]*\]\([^)\s]+\.json#[^)\s]+\)")
GAIN = "030.gain_half.text.nats"


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_name_on_a_page_is_that_of_a_frozen_number(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    replaced(text, lambda number, how: number.plain(how))
    assert not names_in(text) or ids(page) not in WITHOUT_A_BUILD


@pytest.mark.parametrize("page", [page for page in PAGES if ids(page) != "CHANGELOG.md"], ids=ids)
def test_no_page_copies_a_number_by_hand(page: Path) -> None:
    assert LINK.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("", "−0.097"),
        ("2", "−0.10"),
        ("abs", "0.097"),
        ("ci", "−0.097 (−0.110 to −0.085)"),
        ("abs ci", "0.097 (0.085 to 0.110)"),
        ("1 %", "−9.7 %"),
    ],
)
def test_a_number_is_written_as_asked(how: str, text: str) -> None:
    assert frozen(GAIN).plain(how_shown(how.split())) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("030.worth.pass@16.arms.dpt90_eighth.data ci", "1.70 (1.26 to 2.25)"),
        ("030.worth.pass@16.arms.dpt90_half.data ci", "1.76 (1.43 to over 2.00)"),
        ("030.worth.needle.arms.dpt90_half.data", "over 2.00"),
        ("030.worth.needle.arms.dpt90_half.data ci", "over 2.00 (1.69 to over 2.00)"),
        ("030.worth.follows_context.arms.dpt90_eighth.data ci", "under 1.00 (under 1.00 to 2.15)"),
    ],
)
def test_a_worth_outside_its_ladder_says_so(name: str, text: str) -> None:
    asked, *how = name.split()
    assert frozen(asked).plain(how_shown(how)) == text


@pytest.mark.parametrize(
    "name",
    [
        "030",
        "030.gain_half",
        "030.gain_half.text",
        "030.gain_halve.text.nats",
        "030.gain_half.text.nats.lows",
        "030.worth.python.bits.spt_half_twice.least",
        "999.gain_half.text.nats",
        "gain_half.text.nats",
        "benchmarks.store",
        "benchmarks.store.bytes.sampled",
        "030.contrasts.gain_half.arms",
    ],
)
def test_a_name_that_is_not_frozen_is_refused(name: str) -> None:
    with pytest.raises(UnknownName, match=re.escape(name)):
        replaced(f"a text with {{{{{name}}}}} in it", lambda number, how: number.plain(how))


def test_other_words_behind_a_name_are_refused() -> None:
    with pytest.raises(UnknownName, match="digits"):
        replaced(f"{{{{{GAIN} digits}}}}", lambda number, how: number.plain(how))


@pytest.mark.parametrize(
    ("name", "same"),
    [
        (GAIN, "030.contrasts.gain_half.lm:nats_per_token"),
        ("030.gain_half.pass@16", "030.gain_half.tts:1:pass_at:16"),
        ("030.gain_half.pass@16.at_0.6", "030.gain_half.tts:0.6:pass_at:16"),
        ("020.dpt90@leak-0.1.over_spt.copy_accuracy", "020.contrasts.dpt90@leak-0.1.over_spt.copy_accuracy"),
    ],
)
def test_short_names_and_whole_places_are_one_number(name: str, same: str) -> None:
    assert frozen(name).place == frozen(same).place


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("({{030.gain_all.text.nats}})", "(−0.000, −0.195 to +0.195)"),
        ("({{030.gain_all.text.nats}} in nats)", "(−0.000 in nats)"),
        ("({{030.gain_half.text.nats}})", "(−0.097)"),
        ("({{030.gain_half.text.nats ci}})", "(−0.097, −0.110 to −0.085)"),
    ],
)
def test_in_parentheses_there_are_no_others_and_what_is_unclear_has_its_interval(text: str, shown: str) -> None:
    assert replaced(text, lambda number, how: number.plain(how)) == shown


def test_an_interval_that_is_a_point_is_not_written() -> None:
    number = frozen("021.10000.leak.tv_low")
    assert number.plain(how_shown(["ci"])) == "+0.089"


def test_code_keeps_its_braces() -> None:
    text = f"`{{{{{GAIN}}}}}`\n```\n{{{{ x }}}}\n```\n"
    assert replaced(text, lambda number, how: "") == text and names_in(text) == []
