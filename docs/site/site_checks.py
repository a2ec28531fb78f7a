"""What a built site must hold: links that lead somewhere, pages that are not too large, nothing from the network."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MOST_BYTES = 300 * 1024
"""Of a page, pictures aside."""


class _Page(HTMLParser):
    """Places that a page can be entered at, where its links lead, and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if "href" in given and tag in ("a", "link"):
            (self.loaded if tag == "link" and "stylesheet" in given.get("rel", "") else self.links).append(
                given["href"]
            )
        if "src" in given:
            self.loaded.append(given["src"])


def complaints(site: Path) -> list[str]:
    """Every broken link, remote part and page above ``MOST_BYTES``, in a sentence each."""
    pages = {file: _Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    return [f"{file.relative_to(site)}: {what}" for file in pages for what in _of_page(file, pages)]


def _of_page(file: Path, pages: dict[Path, _Page]) -> Iterator[str]:
    page = pages[file]
    if (size := file.stat().st_size) > MOST_BYTES:
        yield f"has {size // 1024} KiB, at most {MOST_BYTES // 1024} are allowed"
    yield from (f"loads {one} from the network" for one in page.loaded if urlsplit(one).netloc)
    for link in dict.fromkeys([*page.links, *page.loaded]):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        if not target.is_file():
            yield f"links to {link}, which is not there"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
            yield f"links to {link}, where that page has no such place"
