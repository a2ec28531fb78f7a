"""The page of a ranking: whole, safe with any name, the same bytes again, and honest about ties."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from chromium import browser, executable

from stillroom.report.pages.teachers_page import build_teachers_page, teachers_text
from stillroom.results.json_form import as_json, from_json
from stillroom.results.ranking_file import Ranking
from stillroom.types import UserError


def est(value: float, spread: float = 0.1) -> dict:
    return {"value": value, "low": value - spread, "high": value + spread, "num": 40}


def teacher(name: str, loss: float) -> dict:
    return {
        "name": name, "path": f"models/{name}", "key": name, "parameters": 1_000_000,
        "ce": est(loss), "ce_by_source": {"python": est(loss)},
        "entropy": {"mean": est(2.0), "quantiles": {"0.1": 0.1, "0.5": 2.0}, "edges_nats": [0.0, 2.0, 4.0],
                    "counts": [30, 10]},
        "overconfidence_nats": est(loss - 2.0),
        "calibration": {"ece": est(0.1, 0.02), "bins": [{"confidence": 0.2, "accuracy": 0.25, "num": 30},
                                                        {"confidence": 0.8, "accuracy": 0.6, "num": 10}]},
        "copyable": {"share": 0.3, "gold_probability": est(0.5), "ce": est(1.0)},
        "leak": {"shared": est(0.2), "own": est(0.15)},
        "capacity": est(0.9, 0.01) | {"break": 1.315, "side": "below"},
        "looking_back": {"copying": {"icl_score": est(-0.1), "accuracy_repeat": est(0.4)}, "induction": "begun",
                         "prefix_matching": [[0.3]],
                         "best_head": {"layer": 0, "head": 0, "prefix_matching": 0.3, "copying": None}},
        "problems": None,
        "cost": {"tokens": 65_536, "flops": 1e12, "bytes": 7e5, "bytes_per_token": 11.2, "hours": None},
    }  # fmt: skip


def ranking(*names: str, proxies: bool = False) -> dict:
    order = list(names)
    differences = [
        {"name": name, "nats": est(0.1 * place, 0.15), "tie": place == 1} for place, name in enumerate(order) if place
    ]
    comparison = {"order": order, "against": order[0], "level": 0.975, "differences": differences}
    size = len(order)
    return {
        "corpus": {"identity": "abc", "sources": ["python"]},
        "heldout": {"sequences": 48, "documents": 40, "positions": 1000},
        "settings": {"low_entropy_share": 0.15, "copying_sequences": 4, "copying_period": 8, "copying_repeats": 3,
                     "seed": 0, "problems": 4, "samples_per_problem": 2, "temperature": 1.0},
        "student": {"name": "student spt", "path": "x", "ce": 3.3},
        "teachers": [teacher(name, 3.0 + place) for place, name in enumerate(order)],
        "teacher_loss": comparison,
        "proxies": comparison | {"tokens": 4096, "seeds": 1, "alpha": 0.9, "ce": {name: [3.5] for name in order},
                                 "hard_labels_ce": [3.6], "flops_each": 1e12,
                                 "against_hard_labels": {}} if proxies else None,
        "agreement": {"names": order, "same_first_choice": [[1.0] * size] * size,
                      "jensen_shannon_nats": [[0.0] * size] * size, "num_positions": 1000, "num_distributions": 100},
        "solvers": [],
        "recommendation": {"teachers": order[:2], "basis": "held-out loss", "sentences": ["A tie: a and b.", "Why."]},
    }  # fmt: skip


def text_of(values: dict) -> str:
    return teachers_text(from_json(Ranking, values, Path("ranking.json")))


def test_the_page_has_every_part_and_asks_for_nothing():
    page = text_of(ranking("a", "b", "c", proxies=True))
    for words in ("A tie: a and b.", "Calibration", "Agreement", "fig-order", "b (tie)", "proxy student", "1.315"):
        assert words in page
    assert "default-src 'none'" in page and "<script src" not in page and "http://" not in page
    assert text_of(ranking("a", "b", "c", proxies=True)) == page


def test_a_ranking_is_read_and_written_as_it_was():
    values = ranking("a", "b", proxies=True)
    values["teachers"][0]["copyable"]["ce"] = {}
    values["teachers"][1]["capacity"] = None
    again = as_json(from_json(Ranking, values, Path("ranking.json")))
    assert {name: again[name] for name in values} == values | {"teachers": again["teachers"]}
    for before, after in zip(values["teachers"], again["teachers"], strict=True):
        assert {name: after[name] for name in before if name != "looking_back"} == {
            name: value for name, value in before.items() if name != "looking_back"
        }


def test_one_candidate_has_nothing_to_be_compared_with():
    page = text_of(ranking("a"))
    assert "fig-order" not in page and "fig-agreement" not in page and "Calibration" in page


def test_names_are_text_and_missing_measures_are_dashes():
    values = ranking("<b>x</b>", "y")
    values["teachers"][1]["copyable"]["gold_probability"] = {}
    values["teachers"][1]["capacity"] = None
    page = text_of(values)
    assert "<b>x</b>" not in page and "&lt;b&gt;x&lt;/b&gt;" in page and "–" in page


def test_a_folder_without_a_ranking_is_said_so(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        build_teachers_page(tmp_path)
    broken = copy.deepcopy(ranking("a"))
    del broken["agreement"]
    (tmp_path / "ranking.json").write_text(json.dumps(broken))
    with pytest.raises(UserError, match="agreement does not fit"):
        build_teachers_page(tmp_path)


@pytest.mark.skipif(executable() is None, reason="needs chromium")
def test_the_page_fits_phones_and_desks_in_a_browser(tmp_path):
    (tmp_path / "ranking.json").write_text(json.dumps(ranking("short", "a-rather-long-name-of-a-teacher", "c")))
    page = build_teachers_page(tmp_path)
    with browser(tmp_path / "profile") as found:
        for width in (360, 1180):
            found.open(page, width, dark=width == 360)
            assert found.evaluate("document.documentElement.scrollWidth") <= width
            problems = [
                event for event in found.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")
            ]
            assert problems == []
        assert found.evaluate("document.querySelectorAll('svg.plot').length") >= 8
