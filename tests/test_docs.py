"""Pages that are made from data say what the data say, and what pages name is there."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from pathlib import Path

import findings
import house_style
import make_site
import pytest
import site_checks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "experiments").rglob("*.md"))]
CODE = re.compile(r"^(```+).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


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


def test_every_source_file_that_a_page_names_is_there():
    places = [
        str(file) for part in ("src", "tests", "benchmarks", "experiments", "docs", "examples")
        for file in (ROOT / part).rglob("*.py")
    ]  # fmt: skip
    for page in (page for page in PAGES if page.name != "LOG.md"):
        for name in re.findall(r"`((?:[\w.-]+/)*[a-z_0-9]+\.py)\b", page.read_text(encoding="utf-8")):
            is_own = name.startswith("extras/") or name in ("mine.py", "taught.py")
            assert is_own or any(place.endswith(f"/{name}") for place in places), f"{ids(page)} names {name}"


def test_every_page_of_the_site_is_in_its_contents_once_and_all_names_are_filled_in(tmp_path: Path):
    stage = make_site.staged(tmp_path / "src")
    stage.write()
    listed = [
        (Path(place).parent / entry).as_posix()
        for place, text in stage.pages.items()
        for block in re.findall(r"```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)```", text, re.DOTALL)
        for entry in block.split()
    ]
    assert sorted(map(os.path.normpath, listed)) == sorted(
        place.removesuffix(".md") for place in stage.pages if place != "index.md"
    )
    for file in stage.folder.rglob("*.md"):
        assert "{{" not in CODE.sub("", file.read_text(encoding="utf-8")), file


def test_a_number_on_the_site_has_its_interval_behind_the_pointer_and_its_source_below(tmp_path: Path):
    stage = make_site.Stage(tmp_path / "src", {"a/b.md": "It falls by {{030.gain_half.text.nats abs}}.\n"})
    stage.write()
    text = (tmp_path / "src/a/b.md").read_text(encoding="utf-8")
    assert '<a class="number" href="#number-1" title="95 % interval 0.085 to 0.110">0.097</a>.' in text
    assert '<li id="number-1">0.097 (0.085 to 0.110): 030_data, gain half, held-out nats per token' in text
    assert 'href="../frozen/030_data/results.json"' in text
    assert (tmp_path / "extra/frozen/030_data/results.json").is_file()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name == "concepts" and page.stem != "index"], ids=ids
)
def test_a_concept_has_a_picture_of_frozen_data(page: Path):
    pictures = re.findall(r"^!\[.+\]\((.+\.svg)\)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert pictures and all("/experiments/" in picture for picture in pictures)


def _without_style(text: str) -> str:
    """A drawing's style is that of the pages of the day on which it was made."""
    return re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_findings_and_their_table_are_made_of_the_claims_and_the_frozen_numbers():
    made = findings.made().items()
    stale = [ids(file) for file, text in made if _without_style(file.read_text("utf-8")) != _without_style(text)]
    assert stale == [], "run python docs/site/findings.py"


@pytest.mark.parametrize("claim", findings.claims(), ids=lambda claim: claim.id)
def test_a_claim_is_answered_in_three_sentences_and_its_effect_is_among_its_numbers(claim: findings.Claim):
    assert len(claim.answer) == 3 and all(answer.endswith(".") for answer in claim.answer)
    assert claim.effect in {name.partition(" ")[0] for name, _ in claim.effects}
    assert all((ROOT / "experiments" / study / "README.md").is_file() for study in claim.studies)


def test_verdicts_are_of_four_words():
    with pytest.raises(ValueError, match="expected one of confirmed, not found"):
        dataclasses.replace(findings.claims()[0], verdict="perhaps")


def test_there_are_twenty_how_tos_each_with_a_block_to_copy():
    pages = [page for page in (DOCS / "howto").glob("*.md") if page.stem != "index"]
    assert len(pages) >= 20
    assert [page.name for page in pages if "\n```" not in page.read_text() or len(page.read_text().split()) > 250] == []


def test_readme_is_a_screen_and_a_half_with_five_rows_of_findings():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition(findings.BEGIN)[2].partition(findings.END)[0]
    assert len(table.strip().splitlines()) == 2 + 5
    assert len(text.splitlines()) <= 95 and len(text.split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_between_pages_lead_to_files(page: Path):
    links = re.findall(r"\]\(([^)\s]+)", CODE.sub("", page.read_text(encoding="utf-8")))
    files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_every_field_that_a_page_names_is_one():
    from stillroom.config import StudyConfig
    from stillroom.study.described import fields_of

    names = [name.split(".") for name in fields_of(StudyConfig)]
    known = {tuple(parts[:size]) for parts in names for size in range(1, len(parts) + 1)}
    for page in house_style.pages():
        for name in re.findall(r"`((?:[a-z]+)(?:\.[\w]+)+)(?: ?=[^`]*)?`", page.read_text(encoding="utf-8")):
            asked = tuple(name.split("."))
            if asked[:1] in known and asked[-1] not in ("py", "json", "jsonl", "yaml", "md"):
                assert any(_is_field(asked, one) for one in known), f"{ids(page)} names {name}"


def _is_field(asked: tuple[str, ...], known: tuple[str, ...]) -> bool:
    """Whether one is the other, with names of a recipe's own for ``NAME`` and any name for a word in capitals."""
    pairs = zip(asked, known, strict=False)
    return len(asked) == len(known) and all(own == "NAME" or one in (own, one.upper()) for one, own in pairs)


def test_prose_keeps_the_house_rules():
    assert house_style.complaints() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It is not told.", "no clear difference"),
        ("A loss that falls as (1/(2n)) does.", ""),
        ("A gain (of one kind (or two kinds)).", "parentheses in parentheses"),
        ("It falls by {{030.a}} and {{030.b}}.", "two numbers"),
        ("It falls by {{030.a}}. Then by {{030.b}}.", ""),
        ("It is {{030.a}} nats better.", "signed"),
        ("It is −0.1 nats better.", "signed"),
        ("It is {{030.a abs}} nats better.", ""),
        ("`not told` and\n```sh\nnot told\n```\n", ""),
        ("| {{030.a ci}} | {{030.b ci}} |", ""),
    ],
)
def test_a_breach_of_the_house_rules_is_seen(text: str, said: str):
    found = " ".join(house_style.faults(text))
    assert said in found and bool(found) == bool(said)


def test_broken_links_large_pages_and_parts_from_the_network_are_seen(tmp_path: Path):
    (tmp_path / "there.html").write_text('<h1 id="top">x</h1>')
    (tmp_path / "good.html").write_text(
        '<a href="there.html#top">x</a><a href="https://a.b/c">x</a><img src="there.html">'
    )
    assert site_checks.complaints(tmp_path) == []
    links = "".join(f'<a href="{to}">x</a>' for to in ("gone.html", "there.html#bottom", "#nowhere"))
    (tmp_path / "bad.html").write_text(
        links + '<script src="https://a.b/c.js"></script>' + " " * site_checks.MOST_BYTES
    )
    told = "\n".join(site_checks.complaints(tmp_path))
    for part in ("gone.html", "there.html#bottom", "#nowhere", "from the network", "KiB"):
        assert part in told
