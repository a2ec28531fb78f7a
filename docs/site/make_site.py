"""The site: ``make docs``, or python docs/site/make_site.py.

Pages of ``docs/`` and ``experiments/`` are copied with numbers in the place of names, links turned to the site's own
places, and the generated pages beside them. Sphinx makes HTML of that, strictly; then every link of the result is
looked up and every page weighed. The result is read from a folder, without a server or a network.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from findings import Claim, claims, title_of
from named_numbers import ROOT, Number, Shown, replaced
from notebooks import notebooks, page_of
from reference import reference_pages
from site_checks import complaints

DOCS, EXPERIMENTS = ROOT / "docs", ROOT / "experiments"
SECTIONS: dict[str, list[str]] = {
    "Start": ["quickstart", "first-hour", "trainer", "scale"],
    "Guide": ["guide"],
    "Concepts": ["concepts/index"],
    "How-to": ["howto/index"],
    "Notebooks": ["notebooks/index"],
    "Footguns": ["footguns"],
    "Reference": [
        "commands", "reference/cli", "reference/config", "reference/api", "formats", "corpus", "evaluation", "teachers",
        "sandbox", "forecast", "correctness", "architectures", "glossary",
    ],
    "Findings": ["findings/index"],
    "Papers": ["papers"],
    "Design": ["tree", "extending", "releases"],
    "Log": ["LOG"],
}  # fmt: skip
"""Captions of the contents with their pages; pages of ``docs/design/`` stand under Design, new ones under Reference."""
LINK = re.compile(r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)|`[^`\n]+`)|(?P<open>\]\()(?P<to>[^)\s]+)", re.M | re.S)


@dataclass
class Stage:
    """The pages of the site as Markdown, by their place on it, and the files that go with them."""

    folder: Path
    pages: dict[str, str] = field(default_factory=dict)
    homes: dict[Path, str] = field(default_factory=dict)
    """Of a page that stands in the repository: where it stands on the site."""
    pictures: dict[str, str] = field(default_factory=dict)
    """Drawings that pages show, by their place."""

    def add(self, place: str, text: str, home: Path | None = None) -> None:
        self.pages[place] = text
        if home is not None:
            self.homes[home] = place

    def write(self) -> None:
        """Puts numbers and links in their place and writes every page."""
        origins = {place: home for home, place in self.homes.items()}
        for place, text in self.pages.items():
            target = self.folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            linked = self._linked(text, origins.get(place, DOCS / place), place)
            target.write_text(self._numbered(linked, place), encoding="utf-8")
        for place, picture in self.pictures.items():
            (self.folder / place).write_text(picture, encoding="utf-8")

    def _linked(self, text: str, home: Path, place: str) -> str:
        def turned(link: str) -> str:
            file, mark, anchor = link.partition("#")
            found = self._place_of(Path(os.path.normpath(home.parent / file)))
            return f"{os.path.relpath(found, Path(place).parent) if found else file}{mark}{anchor}"

        return relinked(text, turned)

    def _place_of(self, file: Path) -> str | None:
        if file in self.homes:
            return self.homes[file]
        if file.is_relative_to(DOCS) and file.relative_to(DOCS).as_posix() in self.pages:
            return file.relative_to(DOCS).as_posix()
        if not file.exists():
            return None
        copied = Path("_files") / file.relative_to(ROOT)
        if file.is_dir():
            (self.folder / copied).mkdir(parents=True, exist_ok=True)
            names = "\n".join(f"- `{one.name}`" for one in sorted(file.iterdir()) if one.name[0] not in "._")
            (self.folder / f"{copied}.md").write_text(
                f"---\norphan: true\n---\n# {file.relative_to(ROOT)}/\n\n{names}\n"
            )
            return f"{copied}.md"
        (self.folder / copied).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, self.folder / copied)
        return copied.as_posix()

    def _numbered(self, text: str, place: str) -> str:
        """Names as values with their interval on hover, and the small print with intervals and sources below."""
        used: dict[str, tuple[int, Number, Shown]] = {}

        def one(number: Number, how: Shown) -> str:
            rank, *_ = used.setdefault(number.name, (len(used) + 1, number, how))
            hint = number.interval(how)
            title = f' title="95 % interval {html.escape(hint)}"' if hint else ""
            return f'<a class="number" href="#number-{rank}"{title}>{html.escape(number.plain(how))}</a>'

        found = replaced(text, one)
        return found + self._small_print(used, place) if used else found

    def _small_print(self, used: dict[str, tuple[int, Number, Shown]], place: str) -> str:
        up = "../" * place.count("/")
        rows = [
            f'<li id="number-{rank}">{_whole(number, how)}: {html.escape(number.words)} '
            f'(<a href="{up}{self._frozen(number.file)}">frozen</a>)</li>'
            for rank, number, how in used.values()
        ]
        return (
            "\n\n"
            + "\n".join(['<section class="numbers"><h2>Numbers on this page</h2><ol>', *rows, "</ol></section>"])
            + "\n"
        )

    def _frozen(self, file: Path) -> str:
        copied = Path("frozen") / file.parent.name / file.name
        target = self.folder.parent / "extra" / copied
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        return copied.as_posix()


def _whole(number: Number, how: Shown) -> str:
    """A number with its interval, for the small print."""
    return html.escape(number.plain(replace(how, with_interval=True, in_parentheses=False)))


def relinked(text: str, turned: Callable[[str], str]) -> str:
    """A text whose links to files, outside code, lead where ``turned`` says."""

    def one(match: re.Match[str]) -> str:
        is_file = match["code"] is None and not re.match(r"[a-z]+:|#", match["to"])
        return f"{match['open']}{turned(match['to'])}" if is_file else match[0]

    return LINK.sub(one, text)


def staged(folder: Path) -> Stage:
    """Every page of the site."""
    stage = Stage(folder)
    for file in sorted(DOCS.rglob("*.md")):
        stage.add(file.relative_to(DOCS).as_posix(), file.read_text(encoding="utf-8"), file)
    for file in (ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"):
        stage.add(file.name.lower(), file.read_text(encoding="utf-8"), file)
    for file in notebooks():
        text, pictures = page_of(file)
        stage.add(f"notebooks/{file.stem}.md", text, file)
        stage.pictures |= {f"notebooks/{name}": picture for name, picture in pictures.items()}
    studies = sorted(EXPERIMENTS.glob("*/README.md"))
    for file in studies:
        stage.add(f"studies/{file.parent.name}.md", study_page(file), file)
    overview = EXPERIMENTS / "README.md"
    stage.add(
        "findings/index.md", re.sub(r"^\| (C\d+) ", _claim_link, overview.read_text("utf-8"), flags=re.M), overview
    )
    for claim in claims():
        stage.add(f"findings/{claim.page}.md", claim_page(claim))
    for place, text in reference_pages().items():
        stage.add(place, text)
    stage.add("index.md", (ROOT / "README.md").read_text(encoding="utf-8"), ROOT / "README.md")
    _with_contents(stage, [f"../studies/{file.parent.name}" for file in studies])
    return stage


def _claim_link(row: re.Match[str]) -> str:
    """The number of a claim as a link to its page, which the site alone has."""
    return f"| [{row[1]}](../docs/findings/{row[1].lower()}.md) "


def _with_contents(stage: Stage, studies: list[str]) -> None:
    """Tables of contents: of the site, and of the pages that have others below them."""
    below = {
        "concepts/index.md": _in_order(stage, "concepts"),
        "howto/index.md": _in_order(stage, "howto"),
        "notebooks/index.md": re.findall(r"\]\(([\w-]+)\.ipynb\)", stage.pages["notebooks/index.md"]),
        "findings/index.md": [claim.page for claim in claims()] + studies,
        "reference/api.md": sorted(Path(one).stem for one in stage.pages if one.startswith("reference/api-")),
    }
    stage.add("reference/api.md", "# Python API\n\nWhat the public rooms export, read off the source.\n")
    for place, pages in below.items():
        stage.pages[place] += _toctree(pages, "")
    sections = {caption: list(pages) for caption, pages in SECTIONS.items()}
    sections["Design"] += sorted(one[:-3] for one in stage.pages if one.startswith("design/"))
    listed = {page for pages in sections.values() for page in pages}
    sections["Reference"] += sorted(
        one[:-3] for one in stage.pages if "/" not in one and one[:-3] not in listed | {"index"}
    )
    for caption, pages in sections.items():
        stage.pages["index.md"] += _toctree(pages, caption)


def _in_order(stage: Stage, folder: str) -> list[str]:
    """The pages of a folder in the order in which its index names them."""
    return re.findall(r"^- .*\]\(([\w-]+)\.md\)", stage.pages[f"{folder}/index.md"], re.M)


def _toctree(pages: list[str], caption: str) -> str:
    options = f":hidden:\n:caption: {caption}\n" if caption else ":hidden:\n"
    return "\n\n```{toctree}\n" + options + "\n" + "\n".join(pages) + "\n```\n"


def study_page(file: Path) -> str:
    """A study's page, with what it says of each claim in a sentence before all else."""
    title, _, body = file.read_text(encoding="utf-8").partition("\n")
    answers = [
        f"- [{claim.question}](../../docs/findings/{claim.page}.md) **{claim.verdict.capitalize()}.** {claim.short}"
        for claim in claims()
        if file.parent.name in claim.studies
    ]
    return "\n".join([title, "", *answers, body])


def claim_page(claim: Claim) -> str:
    """Verdict, figure and answer; then hypothesis, setting and every number, folded."""
    number = f"{claim.id}: " if claim.id.startswith("C") else ""
    rows = "\n".join(f"| {words} | {{{{{name} ci}}}} |" for name, words in claim.effects)
    folded = "\n\n".join(part for study in claim.studies for part in _folded(study))
    sources = "\n".join(
        f"- [{study[:3]}](../../experiments/{study}/README.md): {title_of(study)}" for study in claim.studies
    )
    return f"""# {number}{claim.question}

*{claim.paper}*

**{claim.verdict.capitalize()}:** {claim.where}.

![{claim.question}](../../experiments/effects/{claim.page}-all.svg)

{" ".join(claim.answer)}

Scale: {claim.scale}. Intervals are 95 %. In the [list of findings](../../experiments/README.md) stands
{claim.of}.

<details>
<summary>Every number behind the figure</summary>

| effect | value and interval |
|---|---|
{rows}

</details>

{folded}

## Studies

{sources}
"""


def _folded(study: str) -> Iterator[str]:
    """What a study wrote before its runs, behind a line that opens it."""
    home = EXPERIMENTS / study
    text = (home / "README.md").read_text(encoding="utf-8")
    for title, body in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
        if re.match(r"Setting|Hypothes|World|Arms|Measures", title):
            linked = relinked(body.strip(), lambda link: os.path.relpath(home / link, DOCS / "findings"))
            summary = f"<summary>{study[:3]}, written before its runs: {title}</summary>"
            yield f"<details>\n{summary}\n\n{linked}\n\n</details>"


def build(out: Path) -> int:
    """Makes the site anew; 0 where nothing is to be said against it."""
    from sphinx.cmd.build import main

    source = out / "src"
    for part in (source, out / "html", out / "extra"):
        shutil.rmtree(part, ignore_errors=True)
    (out / "extra").mkdir(parents=True)
    staged(source).write()
    shutil.copyfile(DOCS / "site" / "conf.py", source / "conf.py")
    shutil.copyfile(DOCS / "site" / "site.css", source / "site.css")
    failed = main(
        [
            "-W",
            "--keep-going",
            "-q",
            "-j",
            "auto",
            "-b",
            "html",
            "-d",
            str(out / "trees"),
            str(source),
            str(out / "html"),
        ]
    )
    found = complaints(out / "html")
    print("\n".join(found) or f"{out / 'html' / 'index.html'}: no link is broken, no page is too large")
    return failed or bool(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="folder of the site, made anew")
    sys.exit(build(parser.parse_args().out))
