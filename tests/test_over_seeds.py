"""The tool that freezes studies of several seeds: measures by seed, weighted contrasts, intervals over seeds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from stillroom.results.schema import SampledProblem
from stillroom.results.sweeps import Sweep
from stillroom.study.recipe_files import load_module

TOOL = load_module(Path(__file__).parents[1] / "experiments/over_seeds.py")
RECIPE = """
from stillroom.config import StudyConfig
CONTRASTS = {"gain": {"dpt": 1.0, "spt": -1.0}, "sum": {"dpt": 0.5, "spt": 0.5}, "unknown": {"other": 1.0}}
"""


def samples(num_correct: dict[str, int], temperature: float, num: int = 16) -> list[SampledProblem]:
    return [
        SampledProblem(
            family="f",
            prompt=prompt,
            temperature=temperature,
            completions=tuple(str(i) for i in range(num)),
            answers=("1",) * right + (None,) * (num - right),
        )
        for prompt, right in num_correct.items()
    ]


def write_run(folder: Path, losses: dict[str, float]) -> Path:
    for name, loss in losses.items():
        target = folder / "models" / name
        target.mkdir(parents=True)
        estimate = {"value": loss, "low": 0.0, "high": 9.0, "num": 3}
        passed = {"1": estimate, "16": {"value": 3 * loss, "low": 0, "high": 9, "num": 3}}
        evaluation = {
            "lm": {"bits_per_byte": estimate, "nats_per_token": estimate},
            "heads": {
                "num_layers": 2,
                "num_heads": 2,
                "prefix_matching": [[0.1, 0.4], [0.2, 0.3]],
                "previous_token": [[0.5, 0.1], [0.1, 0.1]],
            },
            "tts": {"num_problems": 3, "num_samples": 16, "temperatures": {"1": {"pass_at": passed}}},
        }
        (target / "evaluation.json").write_text(json.dumps(evaluation))
        (target / "samples.jsonl").write_text("")
    for name in ("environment.json", "config.yaml"):
        (folder / name).write_text("{}")
    return folder


def test_contrasts_are_worked_out_seed_by_seed(tmp_path):
    losses = {"spt-s0": 2.0, "spt-s1": 3.0, "spt-s2": 4.0, "dpt-s0": 1.5, "dpt-s1": 2.0, "dpt-s2": 3.9, "teacher": 7.0}
    run = write_run(tmp_path / "run", losses)
    study = tmp_path / "study"
    study.mkdir()
    (study / "recipe.py").write_text(RECIPE)
    TOOL.freeze(study, [run])
    found = json.loads((study / "results.json").read_text())
    assert found["seeds"] == [0, 1, 2] and set(found["contrasts"]) == {"gain", "sum"}
    gain = found["contrasts"]["gain"]["lm:nats_per_token"]
    differences = [-0.5, -1.0, -0.1]
    mean = sum(differences) / 3
    half = 4.302653 * math.sqrt(sum((d - mean) ** 2 for d in differences) / 2 / 3)
    assert gain["value"] == pytest.approx(mean, abs=1e-5)
    assert (gain["low"], gain["high"]) == (pytest.approx(mean - half, abs=1e-5), pytest.approx(mean + half, abs=1e-5))
    assert found["contrasts"]["sum"]["lm:nats_per_token"]["value"] == pytest.approx((1.75 + 2.5 + 3.95) / 3, abs=1e-5)
    assert found["arms"]["spt"]["lm:nats_per_token"]["value"] == pytest.approx(3.0)
    assert found["values"]["dpt"]["1"]["heads:prefix_matching"] == 0.4
    assert found["values"]["dpt"]["1"]["tts:1:pass_at_16_less_1"] == pytest.approx(4.0)
    assert (study / "config.yaml").exists()


def test_a_frontier_is_read_at_equal_pass_at_1():
    """The second model's pass@16 is 1 wherever it solves something, so the first, which solves half, is below it."""
    first = Sweep.of([*samples({"a": 8, "b": 0}, 0.5), *samples({"a": 4, "b": 0}, 1.0)])
    second = Sweep.of([*samples({"a": 4, "b": 4}, 0.5), *samples({"a": 2, "b": 2}, 1.0)])
    found = TOOL.of_pair(first, second)
    assert found["tts:frontier:pass_at_16"] == pytest.approx(0.5 - 1.0)
    assert TOOL.of_pair(first, first)["tts:frontier:pass_at_16"] == 0.0
    out_of_reach = Sweep.of([*samples({"a": 16, "b": 16}, 0.5), *samples({"a": 16, "b": 15}, 1.0)])
    assert "tts:frontier:pass_at_16" not in TOOL.of_pair(out_of_reach, second)
