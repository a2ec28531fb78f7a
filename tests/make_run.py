"""Run folders with MADE-UP numbers, for the tests of the report only: nothing here was measured.

The shapes of the curves are plausible so that layout problems show; no conclusion about any method follows from them.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path

KS = (1, 2, 4, 8, 16)
CONFIG = """kind: study
name: {name}
corpus:
  vocab_size: 2048
  sequence_length: 128
  train_tokens: 2000000
arms:
  spt: {{alpha: 0.0}}
  dpt90: {{alpha: 0.9}}
"""


@dataclass(frozen=True)
class Sketch:
    """What a made-up model is like."""

    name: str
    label: str
    role: str = "student"
    parameters: int = 1_049_600
    distinct: int = 1_000_000
    epochs: float = 1.0
    alpha: float = 0.0
    routed: bool = False
    loss: float = 3.2
    skill: float = 0.02
    spread: float = 0.9
    induction: float = 0.5
    layers: int = 4
    heads: int = 4


SKETCHES = (
    Sketch(
        "teacher", "teacher", "teacher", 4_720_000, epochs=2.0, loss=2.9, skill=0.045, induction=0.8, layers=6, heads=8
    ),
    Sketch("spt", "SPT", loss=3.35, skill=0.018, spread=0.8, induction=0.62),
    Sketch("spt2x", "SPT-2x", distinct=2_000_000, loss=3.05, skill=0.032, spread=0.84, induction=0.7),
    Sketch("dpt90", "DPT-90", alpha=0.9, loss=3.2, skill=0.02, spread=1.0, induction=0.45),
    Sketch(
        "dpt90_routed",
        "DPT-90, 15 % routed",
        alpha=0.9,
        routed=True,
        loss=3.21,
        skill=0.021,
        spread=0.98,
        induction=0.6,
    ),
)


def estimate(value: float, half: float, num: int) -> dict[str, float | int]:
    return {"value": value, "low": value - half, "high": value + half, "num": num}


def make_run(folder: Path, name: str = "made-up", seed: int = 0, sketches: tuple[Sketch, ...] = SKETCHES) -> Path:
    """Writes a complete made-up run folder and returns it."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(name=name))
    write(
        folder / "environment.json",
        {
            "stillroom": "0.0.0",
            "torch": "made up",
            "python": "3.11",
            "processor": "a processor that does not exist",
            "cores": 2,
            "precision": "bf16",
            "date": "2000-01-01",
        },
    )
    write(folder / "study.json", study(name, seed, sketches))
    write(folder / "labels" / "profile.json", profile())
    write(folder / "comparison.json", comparison([one for one in sketches if one.role == "student"]))
    if {"spt", "spt2x", "dpt90"} <= {one.name for one in sketches}:
        write(folder / "worth.json", worths([one.name for one in sketches if one.alpha > 0]))
    for sketch in sketches:
        home = folder / "models" / sketch.name
        home.mkdir(parents=True)
        write_lines(home / "metrics.jsonl", metrics(sketch, rng))
        write(home / "evaluation.json", evaluation(sketch, rng))
        write_lines(home / "samples.jsonl", samples(sketch, rng))
    return folder


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False))


def write_lines(path: Path, values: list[dict]) -> None:
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def study(name: str, seed: int, sketches: tuple[Sketch, ...]) -> dict:
    models = []
    for sketch in sketches:
        tokens = int(sketch.distinct * sketch.epochs)
        models.append(
            {
                "name": sketch.name,
                "role": sketch.role,
                "label": sketch.label,
                "folder": f"models/{sketch.name}",
                "parameters": sketch.parameters,
                "distinct_tokens": sketch.distinct,
                "epochs": sketch.epochs,
                "tokens": tokens,
                "alpha": sketch.alpha,
                "routing": {"rule": "low-entropy", "share": 0.15} if sketch.routed else None,
                "student_flops": 6.0 * sketch.parameters * tokens,
                "teacher_flops": 2.0 * 4_720_000 * tokens if sketch.alpha else 0.0,
                "seconds": tokens / 17_000,
            }
        )
    stages = [("corpus", 8.2), ("teacher", 151.0), ("labels", 62.4), ("train spt", 58.8), ("evaluate dpt90", 21.3)]
    return {
        "name": name,
        "fingerprint": f"{0xABCDEF12 + seed:08x}",
        "models": models,
        "labels": {
            "codec": "sampled",
            "tokens": 1_000_000,
            "bytes_per_token": 31.25,
            "mean_kl_nats": 0.0123,
            "teacher_entropy_nats": 2.41,
        },
        "stages": [{"name": stage, "seconds": seconds, "reused": stage == "corpus"} for stage, seconds in stages],
        "total_seconds": 501.7,
        "notes": ["These numbers are made up."],
    }


def profile() -> dict:
    edges = [0.25 * place for place in range(31)]
    middles = [low + 0.125 for low in edges[:-1]]
    shapes = {"python-library": (1.2, 1.6), "facts": (0.5, 0.8), "problems": (2.6, 0.9)}
    by_source = {}
    for source, (mean, width) in shapes.items():
        counts = [int(40_000 * math.exp(-(((m - mean) / width) ** 2))) + (9000 if m < 0.3 else 0) for m in middles]
        by_source[source] = {
            "counts": counts,
            "mean_nats": sum(c * m for c, m in zip(counts, middles, strict=True)) / sum(counts),
        }
    counts = [sum(part["counts"][place] for part in by_source.values()) for place in range(len(middles))]
    return {
        "entropy_histogram": {"edges_nats": edges, "counts": counts},
        "by_source": by_source,
        "routing_threshold_nats": 0.41,
        "mean_entropy_nats": 1.62,
    }


def metrics(sketch: Sketch, rng: random.Random) -> list[dict]:
    rows: list[dict] = []
    tokens_per_step, total = 4096, int(sketch.distinct * sketch.epochs)
    for step in range(1, total // tokens_per_step + 1):
        tokens = step * tokens_per_step
        ce = sketch.loss + 4.4 * math.exp(-tokens / 70_000) + 0.9 * math.exp(-tokens / 600_000)
        row = {"kind": "train", "step": step, "tokens": tokens, "loss": ce, "ce": ce + rng.gauss(0, 0.05)}
        row |= {"alpha": sketch.alpha, "gradient_norm": 1.0, "learning_rate": 1e-3, "tokens_per_second": 17_000.0}
        if sketch.alpha:
            kl = 0.35 + 1.9 * math.exp(-tokens / 150_000) + rng.gauss(0, 0.02)
            row |= {"teacher_ce": kl + 2.4, "teacher_entropy": 2.4, "forward_kl": kl}
        rows.append(row)
        if step % 20 == 0 or tokens + tokens_per_step > total:
            rows.append({"kind": "validation", "step": step, "tokens": tokens, "ce": ce + rng.gauss(0, 0.006)})
    return rows


def evaluation(sketch: Sketch, rng: random.Random) -> dict:
    bits = sketch.loss * 0.72
    score = -4.2 * sketch.induction
    curve = [7.4 + rng.gauss(0, 0.12) for _ in range(25)]
    for repeat in range(1, 4):
        curve += [7.4 + score * (1 - 0.35 / repeat) + rng.gauss(0, 0.2) + 1.3 * math.exp(-p) for p in range(25)]
    return {
        "lm": {
            "bits_per_byte": estimate(bits, 0.02, 256),
            "nats_per_token": estimate(sketch.loss, 0.03, 256),
            "by_source": {
                "facts": {"bits_per_byte": estimate(1.1, 0.05, 60), "nats_per_token": estimate(1.6, 0.1, 60)}
            },
        },
        "copying": {
            "icl_score": estimate(score, 0.25, 64),
            "loss_first": estimate(7.4, 0.05, 64),
            "loss_repeat": estimate(7.4 + score * 0.8, 0.2, 64),
            "accuracy_repeat": estimate(0.55 * sketch.induction, 0.03, 64),
            "order_repeat": estimate(0.5 + 0.45 * sketch.induction, 0.03, 64),
            "loss_by_position": curve,
            "period": 25,
            "repeats": 4,
        },
        "counterfactual": {
            "follows_context": estimate(0.1 + 0.7 * sketch.induction, 0.065, 200),
            "follows_memory": estimate(0.7 - 0.6 * sketch.induction, 0.06, 200),
            "neither": estimate(0.2 - 0.1 * sketch.induction, 0.04, 200),
            "log_odds": estimate(4 * (sketch.induction - 0.5), 0.4, 200),
            "memory_accuracy": estimate(0.83, 0.05, 200),
            "chance": 0.125,
        },
        "recall": {"accuracy": estimate(0.2 + 0.5 * sketch.induction, 0.03, 64)},
        "context": {"accuracy": estimate(0.1 + 0.6 * sketch.induction, 0.05, 96), "chance": 1 / 14},
        "needle": {
            "accuracy": estimate(0.05 + 0.8 * sketch.induction, 0.03, 240),
            "chance": 1 / 14,
            "lengths": [64, 128],
            "depths": [0.0, 0.5, 1.0],
            "grid": [
                [estimate(sketch.induction * fall * (1 - 0.3 * depth), 0.05, 40) for depth in (1, 2, 0)]
                for fall in (1.0, 0.7)
            ],
        },
        "tts": {
            "num_problems": 100,
            "num_samples": 32,
            "temperatures": {f"{heat:g}": draws(sketch, heat) for heat in (0.6, 1.0)},
        },
        "heads": heads(sketch, rng),
    }


def comparison(students: list[Sketch]) -> dict:
    first, *others = students

    def against(other: Sketch) -> dict:
        more = other.skill - first.skill
        passed = {str(k): estimate(more * k**0.5, 0.02, 100) | {"p_value": 0.004} for k in KS}
        icl = estimate(-4.2 * (other.induction - first.induction), 0.2, 64) | {"p_value": 0.25}
        return {
            "items": {"copying": {"icl_score": icl}},
            "samples": {"temperature_matched": {"1": passed}, "entropy_matched": {"1": passed["1"], "16": None}},
        }

    return {"baseline": first.name, "against": {other.name: against(other) for other in others}, "frontier": {}}


def worths(arms: list[str]) -> dict:
    def read(value: float | None, low: float | None, high: float | None, why: str = "") -> dict:
        ends = {"value": value, "low": low, "high": high, "why": why, "least": 1.0, "most": 2.0, "num": 100}
        return {"data": ends, "compute": ends}

    kinds = {
        "python, bits per byte": read(1.44, 1.31, 1.6),
        "pass@1": read(1.7, 1.2, None),
        "pass@16": read(None, 1.6, None, "above"),
        "copying, bits per byte": read(None, None, 1.05, "below"),
        "following the context": read(None, None, None, "flat"),
    }
    rungs = [{"arm": "spt", "tokens": 1_000_000}, {"arm": "spt2x", "tokens": 2_000_000}]
    abilities = [{"key": title, "title": title, "arms": dict.fromkeys(arms, found)} for title, found in kinds.items()]
    return {"over": "items", "ladder": rungs, "abilities": abilities}


def draws(sketch: Sketch, heat: float) -> dict:
    one = sketch.skill * (1.5 if heat < 1 else 1.1)
    power = sketch.spread * (0.82 if heat < 1 else 0.97)
    passes = {k: 1 - (1 - one) ** (k**power) for k in KS}
    return {
        "pass_at": {
            str(k): estimate(value, 0.3 * math.sqrt(value * (1 - value)) / 2.5, 100) for k, value in passes.items()
        },
        "unique_correct": estimate(6 * one * power, 0.07, 100),
        "answer_entropy_nats": estimate(1.9 * power * heat, 0.1, 100),
        "by_family": {
            "chain sum": {str(k): 0.8 * value for k, value in passes.items()},
            "target number": {str(k): 1.2 * value for k, value in passes.items()},
        },
    }


def heads(sketch: Sketch, rng: random.Random) -> dict:
    def grid(low: float, high: float) -> list[list[float]]:
        return [[rng.uniform(low, high) for _ in range(sketch.heads)] for _ in range(sketch.layers)]

    previous, prefix, copying = grid(0, 0.2), grid(0, 0.1), grid(-0.4, 0.2)
    previous[0][1], prefix[2][3], copying[2][3] = 0.85, sketch.induction, 0.7 * sketch.induction
    prefix[1][0], copying[1][0] = 0.3, -0.5
    return {
        "num_layers": sketch.layers,
        "num_heads": sketch.heads,
        "previous_token": previous,
        "prefix_matching": prefix,
        "copying": copying,
    }


def samples(sketch: Sketch, rng: random.Random) -> list[dict]:
    rows = []
    for family, prompt, right in (
        ("chain sum", "State the final answer: 4 + 3 - 2 =", ("5",)),
        ("chain sum", "State the final answer: 8 - 3 =", ("5",)),
        ("target number", "Use 2, 3 and 7 to reach 13.\nAnswer:", ("2 * 3 + 7", "7 + 2 * 3", "3 * 2 + 7")),
    ):
        for heat in (0.6, 1.0):
            answers = [rng.choice(right) if rng.random() < 8 * sketch.skill else None for _ in range(32)]
            completions = [f" {answer or rng.choice(('4', '17 <&> 3', '6 - '))}" for answer in answers]
            rows.append(
                {
                    "family": family,
                    "prompt": prompt,
                    "temperature": heat,
                    "completions": completions,
                    "answers": answers,
                }
            )
    return rows


def make_seeds(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """A made-up run of two arms at several seeds: DPT-90 is better in bits per byte at every seed, by what varies."""
    rng = random.Random(0)
    sketches = [SKETCHES[0]]
    for seed in seeds:
        luck = rng.gauss(0, 0.1)
        sketches += [
            replace(SKETCHES[1], name=f"spt-s{seed}", label=f"SPT, seed {seed}", loss=3.35 + luck),
            replace(SKETCHES[3], name=f"dpt90-s{seed}", label=f"DPT-90, seed {seed}", loss=3.2 + luck + 0.01 * seed),
        ]
    return make_run(folder, name="seeds", sketches=tuple(sketches))


def make_steps(folder: Path, steps: tuple[int, ...] = (10, 40, 70, 100, 150, 200)) -> Path:
    """A made-up run that kept checkpoints, in which heads for copying form: in DPT-90 later than in the others."""
    rng = random.Random(0)
    run = make_run(folder, name="over training")
    for sketch in SKETCHES[1:]:
        for step in steps:
            formed = 1 / (1 + math.exp((100 + 60 * sketch.alpha - step) / 15))
            young = replace(sketch, induction=sketch.induction * formed, loss=sketch.loss + 3 * math.exp(-step / 60))
            measured = evaluation(young, rng)
            kept = {name: measured[name] for name in ("lm", "copying", "heads")}
            write(run / "models" / sketch.name / "steps" / str(step) / "evaluation.json", kept)
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the run folder is made")
    make_run(parser.parse_args().folder)
