"""Pages that are made from data say what the data say, and what pages name is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import findings
import house_style
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


def test_findings_and_their_table_are_made_of_the_claims_and_the_frozen_numbers():
    stale = [ids(file) for file, text in findings.made().items() if file.read_text(encoding="utf-8") != text]
    assert stale == [], "run python docs/site/findings.py"


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

    known = {re.sub(r"NAME", r"[\\w-]+", name) for name in fields_of(StudyConfig)}
    groups = {name.partition(".")[0] for name in known}
    for page in house_style.pages():
        for name in re.findall(r"`((?:[a-z]+)(?:\.[\w]+)+)(?: ?=[^`]*)?`", page.read_text(encoding="utf-8")):
            if name.partition(".")[0] in groups and not name.endswith((".py", ".json", ".jsonl", ".yaml", ".md")):
                assert any(re.fullmatch(one, name) for one in known), f"{ids(page)} names {name}"


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
