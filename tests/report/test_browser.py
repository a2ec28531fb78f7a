"""The page in a real browser: everything visible, nothing clipped or overlapping, no error, no request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, browser, executable

from make_run import make_run, make_seeds
from stillroom.report import build_report, compare_report

FIGURES = ("worth", "learning", "passk", "frontier", "unique", "icl", "copying", "needle", "paired", "heads", "entropy")
LOUD = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
VIEWS = [(390, False), (1280, True)]
SIZES = """[...document.querySelectorAll('figure svg.plot')].map(svg => {
  const box = svg.getBoundingClientRect(), style = getComputedStyle(svg);
  return {figure: svg.closest('section').id, width: box.width, height: box.height,
    seen: style.visibility === 'visible' && style.display !== 'none' && svg.checkVisibility(),
    marks: svg.querySelectorAll('path, rect, circle, polygon').length};
})"""
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('svg.plot text')].map(text => {
  const svg = text.ownerSVGElement;
  return parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
}))"""
CONTRAST = """(() => {
  const level = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = level(getComputedStyle(document.body).backgroundColor);
  const ratio = colour => {
    const [low, high] = [level(colour), paper].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const least = (query, part) =>
    Math.min(...[...document.querySelectorAll(query)].map(e => ratio(getComputedStyle(e)[part])));
  return {text: least('p, td, th, small, figcaption, dt, dd, a, button, summary', 'color'),
    ticks: least('svg.plot text', 'fill'), marks: least('.mark', 'fill'), lines: least('.curve', 'stroke')};
})()"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if executable() is None:
        reason = "chromium is not installed: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("runs")
    runs = [make_run(home / "a", "made-up"), make_run(home / "b", "made-up with a long name", seed=1)]
    both = compare_report(runs, home / "both.html")
    return {"one run": build_report(runs[0]), "two runs": both, "seeds": build_report(make_seeds(home / "c"))}


@pytest.mark.parametrize(("width", "dark"), VIEWS, ids=[f"{w}-{'dark' if d else 'light'}" for w, d in VIEWS])
@pytest.mark.parametrize("kind", ["one run", "two runs", "seeds"])
def test_every_figure_is_visible_and_legible(
    chromium: Browser, pages: dict[str, Path], kind: str, width: int, dark: bool
) -> None:
    chromium.open(pages[kind], width, dark)
    sizes = chromium.evaluate(SIZES)
    changed = {"one run": set[str](), "two runs": {"worth", "paired"}, "seeds": {"worth", "seeds"}}
    shown = {*FIGURES} ^ changed[kind]
    assert {size["figure"] for size in sizes} == {f"fig-{name}" for name in shown}
    for size in sizes:
        assert size["seen"] and size["width"] > 200 and size["height"] > 60 and size["marks"] > 3, size
    scrolled, client = chromium.evaluate(WIDTHS)
    assert width - 20 <= client <= width and scrolled <= client  # a scroll bar may take 15
    assert chromium.evaluate(SMALLEST_TEXT) > 9.5
    contrast = chromium.evaluate(CONTRAST)
    assert contrast["text"] >= 4.5 and contrast["ticks"] >= 3 and contrast["marks"] >= 3 and contrast["lines"] >= 3


TIP = "[document.getElementById('tip').textContent, getComputedStyle(document.getElementById('tip')).display]"


def test_a_value_is_shown_where_the_pointer_rests(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one run"], 1280, dark=False)
    for query, words in (
        ("#fig-passk .plot .mark", "pass@1 0.0"),
        ("#fig-learning .plot .curve", "teacher at 1"),
        ("#fig-heads .plot rect.warm", "layer "),
    ):
        x, y = chromium.evaluate(
            f"(() => {{ const one = document.querySelector('{query}'); one.scrollIntoView({{block: 'center'}});"
            " const at = one.getTotalLength && one.matches('path') ? one.getPointAtLength(0) : null;"
            " const box = one.getBoundingClientRect();"
            " const place = at && new DOMPoint(at.x, at.y).matrixTransform(one.ownerSVGElement.getScreenCTM());"
            " return place ? [place.x, place.y] : [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        text, display = chromium.evaluate(TIP)
        assert words in text and display == "block", (query, text)
    chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert chromium.evaluate(TIP) == ["", "none"]


def press(chromium: Browser, *keys: str) -> None:
    for key in keys:
        for kind in ("rawKeyDown", "keyUp"):
            chromium.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def test_keys_read_the_values_of_a_figure_one_after_another(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one run"], 1280, dark=False)
    press(chromium, "Tab")
    chromium.evaluate("document.querySelector('#fig-passk svg.plot').focus()")
    told = [chromium.evaluate(TIP)[0]]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "End", "Home", "Escape"):
        press(chromium, key)
        told.append(chromium.evaluate(TIP)[0])
    first, second, third, back, line, before, last, home, gone = told
    assert first.startswith("teacher: pass@1 ") and "arrow keys" in first and second.startswith("teacher: pass@2 ")
    assert third.startswith("teacher: pass@4 ") and back == second and line.startswith("SPT: pass@1 ")
    assert before.startswith("teacher: pass@16 ") and last.startswith("DPT-90, 15 % routed: pass@16 ")
    assert home.startswith("teacher: pass@1 ") and gone == ""
    assert chromium.evaluate("document.querySelectorAll('main [tabindex=\"0\"] [tabindex]').length") == 0


SHOWN = """[...document.querySelectorAll('.problem')].filter(one => one.checkVisibility()).map(one => [one.dataset.task,
  [...one.querySelectorAll('li')].filter(li => li.checkVisibility()).map(li => [li.className, li.innerText])])"""


@pytest.mark.parametrize("width", [390, 1280])
def test_completions_are_filtered_by_task_by_outcome_and_by_text(
    chromium: Browser, pages: dict[str, Path], width: int
) -> None:
    chromium.open(pages["one run"], width, dark=False)

    def chosen(**values: str) -> list[tuple[str, list[list[str]]]]:
        for name, value in values.items():
            chromium.evaluate(
                f"(() => {{ const one = document.forms[0].elements.{name}; one.value = '{value}';"
                " one.dispatchEvent(new Event('input', {bubbles: true})); })()"
            )
        return chromium.evaluate(SHOWN)

    everything = chosen()
    tasks = {task for task, _ in everything}
    assert len(everything) == 3 and tasks == {"chain sum", "target number"}
    assert {task for task, _ in chosen(task="chain sum")} == {"chain sum"}
    assert chromium.evaluate("document.querySelector('.filter output').textContent") == "2 of 3 problems"
    for outcome in ("right", "wrong"):
        assert {kind for _, found in chosen(task="", outcome=outcome) for kind, _ in found} == {outcome}
    found = {words for _, found in chosen(outcome="", text="17 <") for _, words in found}
    assert found and all(words.startswith("✗ 17 <&> 3") for words in found)
    assert len(chosen(text="reach 13")) == 1  # words of the problem show all that was answered to it
    assert chosen(text="") == everything
    beside = chromium.evaluate(
        "[...document.querySelector('.answers').children].map(one => Math.round(one.getBoundingClientRect().top))"
    )
    assert len(beside) == 5 and len(set(beside)) == (1 if width == 1280 else 3)


def test_no_error_and_no_request(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one run"], 1280, dark=False)
    chromium.evaluate("document.getElementById('theme').click()")
    reported = [event for event in chromium.events if event.get("method") in LOUD]
    assert reported == []
    requests = [
        event["params"]["request"]["url"]
        for event in chromium.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert {url for url in requests if not url.startswith("data:")} == {pages["one run"].as_uri()}


def test_the_page_cannot_send_a_request(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one run"], 1280, dark=False)
    refused = chromium.evaluate(
        "new Promise(done => { const image = new Image(); image.onerror = () => done(true);"
        " image.onload = () => done(false); image.src = 'file:///proc/version'; })"
    )
    assert refused
    assert any("Content Security Policy" in str(event["params"]) for event in chromium.events if "params" in event)


def test_the_theme_button_goes_round(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["one run"], 1280, dark=True)
    seen = []
    for _ in range(4):
        seen.append(
            chromium.evaluate(
                "[document.getElementById('theme').textContent, getComputedStyle(document.body).backgroundColor]"
            )
        )
        chromium.evaluate("document.getElementById('theme').click()")
    words, colours = [pair[0] for pair in seen], [pair[1] for pair in seen]
    assert words == ["Theme: automatic", "Theme: light", "Theme: dark", "Theme: automatic"]
    assert colours[0] == colours[2] == colours[3] != colours[1]


def test_a_model_has_one_colour_in_every_figure(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["two runs"], 1280, dark=False)
    fills = chromium.evaluate(
        "[...document.querySelectorAll('.mark')].map(e => [e.className.baseVal, getComputedStyle(e).fill])"
    )
    by_class: dict[str, set[str]] = {}
    for name, fill in fills:
        by_class.setdefault(name, set()).add(fill)
    assert len(by_class) == 9  # seven student colours (eight students) and two teachers
    assert all(len(found) == 1 for found in by_class.values())
    assert len(set.union(*by_class.values())) == len(by_class)
