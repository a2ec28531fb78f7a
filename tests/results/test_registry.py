"""A headline measure is one line of the registry: it shows in the terminal, the comparison, worth and the page."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from make_run import estimate, make_run
from stillroom.report import build_report, summary_table
from stillroom.results import load, registered_measures
from stillroom.results import measures as registry
from stillroom.results.abilities import Effort, Ladder, read_items, worth_table
from stillroom.results.compare import write_comparison
from stillroom.results.json_form import write
from stillroom.results.measures import BITS_PER_BYTE, HEADLINE, Measure
from stillroom.results.schema import ModelRecord, baseline_of
from stillroom.types import Estimate

SOLVED = Measure("proofs found", "share of proofs", "higher", ("proof", "solved"), per_item=True, roles=HEADLINE)
"""The one line."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up run whose models have been measured by a suite that this package does not know."""
    monkeypatch.setattr(registry, "MEASURES", (*registry.MEASURES, SOLVED))
    folder = make_run(tmp_path / "run")
    for place, name in enumerate(("spt", "dpt90", "spt2x", "dpt90_routed")):
        file = folder / "models" / name / "evaluation.json"
        values = [float(item < 5 + 10 * place) for item in range(40)]
        mean = sum(values) / len(values)
        part = {"proof": {"solved": estimate(mean, 0.01, 40), "per_item": {"solved": values}}}
        file.write_text(json.dumps(json.loads(file.read_text()) | part))
    return folder


def test_a_new_headline_measure_is_shown_everywhere(run: Path) -> None:
    students = {name: run / "models" / name for name in ("spt", "spt2x", "dpt90")}
    comparison = write_comparison(run / "comparison.json", students, (1, 16))
    assert comparison.against["dpt90"].items["proof"]["solved"].value == pytest.approx(0.25)

    efforts = {name: Effort(tokens, 6.0 * tokens) for name, tokens in (("spt", 1e6), ("spt2x", 2e6), ("dpt90", 1e6))}
    items = {name: read_items(folder) for name, folder in students.items()}
    ladder = Ladder({name: [name] for name in ("spt", "spt2x")}, {"dpt90": ["dpt90"]})
    found = worth_table(ladder, efforts, items)
    (ability,) = [one for one in found.abilities if one.title == "proofs found"]
    assert 1 < ability.arms["dpt90"].data.value < 2
    write(run / "worth.json", found)

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary_table(run))
    assert "proofs found" in console.export_text()
    page = build_report(run).read_text(encoding="utf-8")
    for section in ("fig-worth", "fig-paired"):
        begin = page.index(f'id="{section}"')
        assert "proofs found" in page[begin : page.index("</section>", begin)], section
    assert "does better than SPT in" in page and "proofs found" in page[: page.index("<table")]


def test_it_has_its_unit_where_a_run_is_loaded(run: Path) -> None:
    rows = [row for row in load(run).measures if row.place == "proof solved"]
    assert {row.unit for row in rows} == {"share of proofs"} and len(rows) == 4


def test_places_and_titles_are_different() -> None:
    for field in ("place", "title"):
        values = [getattr(one, field) for one in registered_measures()]
        assert len(set(values)) == len(values)


def test_an_evaluation_of_an_older_version_gives_all_its_text_for_text(run: Path) -> None:
    found = load(run).model("spt").evaluation
    assert found.lm is not None and found.lm.text_bits_per_byte is None
    part = replace(found.lm, per_item={"bits_per_byte": (1.0, 2.0)}, per_item_weights={"bits_per_byte": (3.0, 4.0)})
    evaluation = replace(found, lm=part)
    assert BITS_PER_BYTE.read(evaluation) == part.bits_per_byte
    items = BITS_PER_BYTE.items(evaluation)
    assert items is not None and items.values == part.per_item["bits_per_byte"]
    newer = replace(part, text_bits_per_byte=Estimate(9.0, 8.0, 10.0, 2))
    assert BITS_PER_BYTE.read(replace(evaluation, lm=newer)) == newer.text_bits_per_byte
    assert BITS_PER_BYTE.items(replace(evaluation, lm=newer)) is None  # it keeps none of this measure by item


def test_the_baseline_has_the_text_of_the_students_of_soft_labels() -> None:
    def record(name: str, tokens: int, alpha: float = 0.0) -> ModelRecord:
        return ModelRecord(
            name=name, role="student", label=name, folder=name, alpha=alpha, parameters=1, distinct_tokens=tokens,
            tokens=tokens,
        )  # fmt: skip

    ladder = [record("half", 1), record("one", 2), record("two", 4)]
    assert baseline_of([*ladder, record("dpt", 2, 0.9), record("routed", 2, 0.9)]) is ladder[1]
    assert baseline_of(ladder) is ladder[0]
    assert baseline_of([record("dpt", 4, 0.9), record("other", 2, 0.9)]).name == "dpt"
    assert baseline_of([]) is None
