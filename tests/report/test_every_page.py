"""Every kind of page in a real browser, from phone to desk, light and dark: nothing overlaps, and all can be used.

axe-core, a collection of checks of accessibility by Deque, runs inside the page.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from chromium import Browser, browser, executable
from page_kinds import MORE_PAGES, PAGES

VIEWS = [(390, True), (768, False), (1280, True), (1600, False)]
HEAVIEST = 300 * 1024
"""Bytes of a page without its pictures."""
FAULTS = """(() => {
  const wide = document.documentElement.clientWidth, found = [];
  const meet = (a, b, x, y) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > x
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > y;
  const scrolled = document.documentElement.scrollWidth;
  if (scrolled > wide) found.push(`the page is ${scrolled} wide`);
  for (const svg of document.querySelectorAll('svg.plot')) {
    const figure = svg.closest('section').id, panel = svg.parentElement.getBoundingClientRect();
    const words = [...svg.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()]);
    const lines = [...svg.querySelectorAll('.error')].map(one => one.getBoundingClientRect());
    words.forEach(([text, box], place) => {
      if (box.left < Math.max(0, panel.left - 8) || box.right > Math.min(wide, panel.right + 8)
        || box.top < panel.top - 2 || box.bottom > panel.bottom + 2) found.push(`${figure}: ${text} leaves its panel`);
      for (const [other, second] of words.slice(place + 1))
        if (meet(box, second, 1, 3)) found.push(`${figure}: ${text} / ${other}`);
      const air = box.height / 4; // letters do not fill their box
      const inner = { left: box.left, right: box.right, top: box.top + air, bottom: box.bottom - air };
      for (const line of lines)
        if (line.width > line.height && meet(inner, line, 1, 0)) found.push(`${figure}: ${text} / a whisker`);
    });
  }
  return found;
})()"""

READY_FOR_AXE = """document.querySelectorAll('details').forEach(one => { one.open = true; });
document.querySelectorAll('svg.plot').forEach(one => one.replaceChildren());"""
"""A drawing is an image with a label: of its parts, which are many, nothing is asked."""
VIOLATIONS = """axe.run(document, OPTIONS).then(({ violations }) => violations.map(
  ({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(one => one.html.slice(0, 200)).join(' | ')}`))"""


def missing(reason: str) -> NoReturn:
    """Skips, but fails where all that the tests need must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if executable() is None:
        missing("chromium is not installed: apt-get install chromium")
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, which a package for Python brings."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None or not found.submodule_search_locations:
        missing("axe-core-python is not installed: pip install -r requirements.lock")
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


EVERY = pytest.mark.parametrize("page", [*PAGES, *MORE_PAGES], ids=lambda make: make.__name__, indirect=True)
"""One page of every template is looked at by axe-core each time, the others where slow tests run."""
BY_AXE = pytest.mark.parametrize(
    "page",
    [*PAGES, *(pytest.param(make, marks=pytest.mark.slow) for make in MORE_PAGES)],
    ids=lambda make: make.__name__,
    indirect=True,
)


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make: Callable[[Path], Path] = request.param
    return make(tmp_path_factory.mktemp("page") / "run")


@EVERY
def test_nothing_overlaps_or_is_cut(chromium: Browser, page: Path) -> None:
    found: list[str] = []
    for width, dark in VIEWS:
        chromium.open(page, width, dark)
        found += [f"{width}: {fault}" for fault in chromium.evaluate(FAULTS)]
    assert found == []


@BY_AXE
def test_axe_core_finds_no_violation(chromium: Browser, axe: str, page: Path) -> None:
    found: list[str] = []
    for width, dark, rules in ((390, True, ""), (1280, False, "runOnly: ['color-contrast']")):
        chromium.open(page, width, dark)
        chromium.evaluate(READY_FOR_AXE)
        chromium.evaluate(f"{axe}; undefined")
        options = f"{{ resultTypes: ['violations'], {rules} }}"
        found += [f"{width}: {fault}" for fault in chromium.evaluate(VIOLATIONS.replace("OPTIONS", options))]
    assert found == []


@EVERY
def test_a_page_opens_with_answer_key_figure_and_numbers_without_gaps(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    figures = [int(number) for number in re.findall(r"<b>Figure (\d+)\.</b>", text)]
    assert figures == list(range(1, len(figures) + 1)) and figures
    lead = text.split('id="summary">')[1].split("</div>")[0].strip()
    assert lead.startswith("<p><b>") and 2 <= len(re.findall(r"[.!?](?=\s|<)", lead)) <= 8
    sections = re.findall(r'<section id="([\w-]+)"', text)
    assert sections[0].startswith("fig-")
    assert re.findall(r'<li><a href="#([\w-]+)">', text) == sections
    assert "Not measured" not in text.split("<main>")[0]


@EVERY
def test_a_page_is_light_without_its_pictures(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).encode()) <= HEAVIEST
