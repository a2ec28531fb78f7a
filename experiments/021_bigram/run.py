"""Runs the bigram study and freezes its numbers: ``python experiments/021_bigram/run.py``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stillroom.files import write_json
from stillroom.results.intervals import paired_interval
from stillroom.results.json_form import write
from stillroom.sandbox.bigram.bigram_cells import pass_curve, pass_references, seed_cell
from stillroom.sandbox.bigram.bigram_config import BigramSweep
from stillroom.sandbox.bigram.theory import best_policy
from stillroom.study.environment import this_environment
from stillroom.worlds.bigram import BigramWorld

HERE = Path(__file__).parent
WORLDS = range(101, 106)
SIZES = (1_000, 10_000, 100_000)
KS = (1, 16)
ARMS = ("spt", "exact", "leak")


def sweep(world: int) -> BigramSweep:
    """Three arms in one world."""
    return BigramSweep(
        world_seed=world, samples=SIZES, alphas=(0.0, 0.9), teachers=("exact", "uniform:0.1"), temperatures=(1.0,),
        routings=("none",), ks=KS, ratio_supports=(), gradient_samples=0, transformer_tokens=0,
    )  # fmt: skip


def measured(config: BigramSweep) -> dict[str, Any]:
    """Arm → measure → one number for each size, the mean over samples; and the policies that know the truth."""
    world = config.make_world()
    cells = [seed_cell(world, config, seed) for seed in range(config.seeds)]
    found: dict[str, Any] = {}
    for name, arm in zip(ARMS, config.arms(), strict=True):
        parts = [cell[arm.name] for cell in cells]
        found[name] = {f"tv_{kind}": np.mean([[at[kind] for at in part.tv] for part in parts], axis=0).tolist()
                       for kind in ("high", "low")}  # fmt: skip
        for place, k in enumerate(KS):
            passed = [[at["high"][place] for at in part.pass_] for part in parts]
            found[name][f"pass_at_{k}"] = np.mean(passed, axis=0).tolist()
    references = pass_references(world, KS)
    found["greedy"] = dict(zip(("pass_at_1", "pass_at_16"), references["greedy"]["high"], strict=True))
    found["best_for_16"] = best_for_16(world)
    return found


def best_for_16(world: BigramWorld) -> dict[str, float]:
    """pass@1 and pass@16 of the policy that is best for sixteen guesses."""
    curve = pass_curve(world, best_policy(world.matrix_KK, 16), KS)["high"]
    return dict(zip(("pass_at_1", "pass_at_16"), curve, strict=True))


def estimate(values: ArrayLike) -> dict[str, Any]:
    """Mean over worlds with its interval."""
    return paired_interval(np.asarray(values)).as_dict()


def contrasts(worlds: list[dict[str, Any]]) -> dict[str, Any]:
    """What README.md decides by, over worlds."""
    made: dict[str, Any] = {}
    for place, size in enumerate(SIZES):
        at = made.setdefault(f"{size}", {})
        for arm in ("exact", "leak"):
            gains = {
                measure: [world[arm][measure][place] - world["spt"][measure][place] for world in worlds]
                for measure in ("tv_high", "tv_low", "pass_at_1", "pass_at_16")
            }
            at[arm] = {measure: estimate(values) for measure, values in gains.items()}
            at[arm]["pass_at_16_less_1"] = estimate(np.subtract(gains["pass_at_16"], gains["pass_at_1"]))
    made["best_for_16_less_greedy"] = {
        measure: estimate([world["best_for_16"][measure] - world["greedy"][measure] for world in worlds])
        for measure in ("pass_at_1", "pass_at_16")
    }
    return made


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = [measured(sweep(world)) for world in WORLDS]
    write_json(HERE / "results.json", {"sizes": SIZES, "worlds": found, "contrasts": contrasts(found)})
    write(HERE / "environment.json", this_environment())
    print(f"wrote {HERE / 'results.json'}")
