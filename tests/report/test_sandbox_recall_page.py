"""The page of a recall study: from made-up results, without torch, whole or refused with a sentence."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stillroom.report.pages.recall_page import build_recall_report, leak_floor, shown_arms
from stillroom.results.json_form import as_json, read
from stillroom.results.recall_file import RecallResults
from stillroom.types import UserError

STEPS = (1, 2, 4, 8, 16, 32, 64)
PER_STEP = 4096
FINAL = ("copy_accuracy", "copy_loss", "kl", "kl_high", "kl_low", "kl_first", "over_copying", "calibration_error")
LEAKING = {"kind": "leaking", "leak": 0.1, "towards": "unigram", "temperature": 1.0, "until": 1.0}
HEADS = {"num_layers": 1, "num_heads": 1, "previous_token": [[0.1]], "prefix_matching": [[0.1]]}
SYMBOLS = [*" <&", *(chr(97 + place) for place in range(30))]


def probe(step: int, speed: float) -> dict[str, Any]:
    learnt = 1 / (1 + (16 / (speed * step)) ** 2)
    return {
        "step": step, "tokens": step * PER_STEP, "copy_accuracy": learnt, "copy_loss": 3 * (1 - learnt) + 0.05,
        "loss": 2.5, "kl": 1 - learnt, "kl_high": 0.5 * (1 - learnt), "kl_low": None, "kl_first": 0.4,
        "over_copying": 0.01 * learnt, "calibration_error": 0.02,
        "previous_token": [[0.1, learnt], [0.1, 0.1]], "prefix_matching": [[0.1, 0.1], [learnt, 0.2]],
    }  # fmt: skip


def arm(name: str, label: str, speed: float, seeds: tuple[int, ...], teacher: str | None, routed: bool) -> dict:
    probes = [probe(step, speed) for step in STEPS]
    pattern = [[1.0 if key == max(0, query - 1) else 0.0 for key in range(4)] for query in range(4)]
    picture = {"step": 64, "tokens_seen": 64 * PER_STEP, "tokens": [0, 1, 0, 2], "patterns": [[pattern] * 2] * 2}
    interval = (None, None) if len(seeds) == 1 else (0.1, 0.9)
    estimate = {"value": 0.5, "low": interval[0], "high": interval[1], "num": len(seeds), "of": len(seeds)}
    best = {"layer": 0, "head": 1, "score": 0.9}
    half = {name: dict(estimate, value=60_000.0) for name in ("copy_accuracy", "previous_token")}
    return {
        "name": name, "label": label, "alpha": 0.9 if teacher else 0.0, "teacher": teacher,
        "routing": {"rule": "copy-aware", "share": 0.15} if routed else None,
        "seeds": [
            {
                "seed": seed, "seconds": 12.0, "parameters": 113_000, "random_tokens": HEADS, "probes": probes,
                "attention": [dict(picture, tokens_seen=PER_STEP), picture] if seed == seeds[0] else [],
                "routed_share": 0.12 if routed else None,
                "crossings": {
                    "copy_accuracy": 60_000.0, "copy_accuracy_80": None,
                    "transition": {"low": 3e4, "high": 6e4, "rise": 0.3}, "heads": {},
                    "previous_token": 60_000.0, "best_previous_token": best,
                    "prefix_matching": None, "best_prefix_matching": best,
                },
            }
            for seed in seeds
        ],
        "final": {
            measure: None if measure == "kl_low" else dict(estimate, value=probes[-1][measure])
            for measure in FINAL
        },
        "half": half | {"copy_accuracy_80": None, "prefix_matching": None},
    }  # fmt: skip


def make_run(folder: Path, seeds: tuple[int, ...] = (0,)) -> Path:
    results = {
        "kind": "recall", "name": "recall", "fingerprint": "0123456789abcdef",
        "world": {
            "characters": 33, "triggers": 2, "draw": "fixed", "skip": 0, "outputs": "uniform",
            "sequence_length": 128, "symbols": SYMBOLS,
            "trigger_symbols": [" ", "<"], "optimal_loss": 1.8, "scored_per_sequence": 14.2,
            "chance_loss": math.log(33), "high_nats": 2.0, "low_nats": 1.0,
        },
        "teachers": {"leaking": LEAKING},
        "arms": [
            arm("spt", "SPT", 1.0, seeds, None, False),
            arm("dpt90", "DPT-90 <b>", 0.5, seeds, "leaking", False),
            arm("routed", "routed", 0.9, seeds, "leaking", True),
        ],
        "seeds": list(seeds), "steps": 64, "tokens": 64 * PER_STEP, "total_seconds": 40.0,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sandbox.json").write_text(json.dumps(results))
    (folder / "environment.json").write_text(json.dumps({"torch": "2", "cores": 2}))
    (folder / "config.yaml").write_text("kind: recall\n")
    return folder


class Balance(HTMLParser):
    """Remembers tags that are not closed, or closed out of order."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path, seeds: tuple[int, ...]):
    text = build_recall_report(make_run(tmp_path, seeds)).read_text()
    balance = Balance()
    balance.feed(text)
    assert (balance.open, balance.wrong) == ([], [])
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text
    assert "DPT-90 &lt;b&gt;" in text
    assert "<b>" not in text.replace("<b>Figure", "").replace("<p><b>", "")
    assert "nan" not in text.lower().replace("tenan", "")
    assert ("One seed: what differs" in text) == (len(seeds) == 1)
    for identifier in ("fig-learning", "fig-heads", "fig-attention", "fig-rows", "fig-cost"):
        assert f'id="{identifier}"' in text


def test_the_same_files_give_the_same_bytes(tmp_path: Path):
    first = build_recall_report(make_run(tmp_path / "a")).read_bytes()
    assert first == build_recall_report(make_run(tmp_path / "b")).read_bytes()


def test_results_are_read_and_written_as_they_were(tmp_path: Path):
    file = make_run(tmp_path, (0, 1)) / "sandbox.json"
    again, values = as_json(read(RecallResults, file)), json.loads(file.read_text())
    for result in (again, values):
        for arm_result in result["arms"]:
            for seed in arm_result["seeds"]:
                del seed["random_tokens"]
    assert again == values


def test_the_floor_is_that_of_the_population_optimum(tmp_path: Path):
    results = read(RecallResults, make_run(tmp_path) / "sandbox.json")
    spt, leaking, routed = shown_arms(results)
    assert leak_floor(spt, results) is None
    assert leak_floor(routed, results) is None
    assert leak_floor(leaking, results) == pytest.approx(-math.log(0.1 * 1 + 0.9 * (0.9 + 0.1 / 33)))


def test_another_kind_of_run_is_refused(tmp_path: Path):
    make_run(tmp_path)
    (tmp_path / "sandbox.json").write_text('{"kind": "bigram"}')
    with pytest.raises(UserError, match="is not that of a recall study"):
        build_recall_report(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        build_recall_report(tmp_path / "nowhere")


def test_the_page_needs_no_torch(tmp_path: Path):
    make_run(tmp_path)
    code = (
        "import sys; from pathlib import Path; from stillroom.report.pages.recall_page import build_recall_report; "
        f"build_recall_report(Path({str(tmp_path)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_many_arms_are_told_in_as_many_words_as_few(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    results = json.loads((folder / "sandbox.json").read_text())
    results["arms"] += [arm(f"dpt{n}", f"DPT {n}", 0.3 + n / 50, (0,), "leaking", False) for n in range(20)]
    (folder / "sandbox.json").write_text(json.dumps(results))
    page = build_recall_report(folder).read_text(encoding="utf-8")
    summary = re.search(r'id="summary">(.*?)</div>', page, re.S)
    assert summary is not None and summary[1].count("<p>") == 1
    words, below = (re.sub(r"<[^>]+>|\s+", " ", part).replace("\xa0", " ") for part in (summary[1], page))
    assert "Of all 23" in words and "repeats the most" in words and "Of 21 arms whose teacher leaks" in below
    assert "where an induction head looks" in page


def test_no_interval_of_a_share_leaves_what_a_share_can_be(tmp_path: Path):
    """Of results of older versions too, whose intervals of Student's t were not held to it."""
    folder = make_run(tmp_path / "run", (0, 1))
    results = json.loads((folder / "sandbox.json").read_text())
    ends = {"copy_accuracy": (0.0, 1.0), "calibration_error": (0.0, 1.0), "over_copying": (-1.0, 1.0), "kl": (0.0, 9.0)}
    for one in results["arms"]:
        for measure in ends:
            one["final"][measure] |= {"low": -3.0, "high": 4.0}
    (folder / "sandbox.json").write_text(json.dumps(results))
    for shown in shown_arms(read(RecallResults, folder / "sandbox.json")):
        for measure, (low, high) in ends.items():
            found = shown.final(measure)
            assert found is not None and (found.low, found.high) == (low, min(high, 4.0))
    page = build_recall_report(folder).read_text(encoding="utf-8")
    assert "(0.000 to 1.000)" in page and "−3.0" not in page and "(0.0000 to 4.0000)" in page
