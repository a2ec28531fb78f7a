"""Does the ranking of teachers, read before their students were trained, predict the order of the students?

    python experiments/033_teachers/order.py RANKING_FOLDER

Copies the ranking's numbers to ``ranking.json`` and writes ``order.json``: Spearman's correlation, over teachers, of
what the ranking says with what ``results.json`` says of their students. Its interval comes from drawing the seeds of
the students anew; its p-value counts the orders of teachers that agree at least as well, in either direction.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.files import read_json, write_json
from stillroom.study.recipe_files import load_module

HERE = Path(__file__).parent
TEACHERS: tuple[str, ...] = load_module(HERE / "recipe.py").TEACHERS
PAIRS = {
    "loss_to_loss": ("ce", "lm:nats_per_token"),
    "pass16_to_pass16": ("pass@16", "tts:1:pass_at:16"),
    "proxy_to_loss": ("proxy_ce", "lm:nats_per_token"),
    "loss_to_pass16": ("ce", "tts:1:pass_at:16"),
    "copying_to_context": ("copyable", "counterfactual:follows_context"),
}
"""The first two are the study's hypothesis, the others described."""
DRAWS = 10_000


def of_teachers(ranking: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The numbers that may predict, by teacher."""
    proxies = ranking["proxies"]["ce"]
    return {
        one["name"]: {
            "ce": one["ce"]["value"],
            "pass@16": one["problems"]["pass_at"]["16"]["value"],
            "leak": one["leak"]["shared"]["value"],
            "copyable": one["copyable"]["gold_probability"]["value"],
            "calibration_error": one["calibration"]["ece"]["value"],
            "proxy_ce": float(np.mean(proxies[one["name"]])),
        }
        for one in ranking["teachers"]
    }


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the smallest along the last axis; ties share the mean of their places."""
    below = (values[..., None, :] < values[..., :, None]).sum(-1)
    same = (values[..., None, :] == values[..., :, None]).sum(-1)
    return below + (same + 1) / 2


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """The correlation of ranks along the last axis."""
    one, other = (ranks(values) - (values.shape[-1] + 1) / 2 for values in (first, second))
    return (one * other).sum(-1) / np.sqrt((one**2).sum(-1) * (other**2).sum(-1))


def predicted(predictor: NDArray[np.float64], students_ST: NDArray[np.float64], seed: int = 0) -> dict[str, float]:
    """The correlation of T teachers' numbers with the mean of their students' over S seeds."""
    found = float(spearman(predictor, students_ST.mean(0)))
    drawn = np.random.default_rng(seed).integers(0, len(students_ST), (DRAWS, len(students_ST)))
    again = spearman(predictor, students_ST[drawn].mean(1))
    low, high = np.quantile(again, (0.025, 0.975))
    orders = np.array([predictor[list(order)] for order in itertools.permutations(range(len(predictor)))])
    as_good = np.abs(spearman(orders, students_ST.mean(0))) >= abs(found) - 1e-9
    return {"value": found, "low": float(low), "high": float(high), "p": float(as_good.mean())}


def without_paths(values: Any) -> Any:
    """The same without where models lay on the machine that ranked them."""
    if isinstance(values, dict):
        return {name: without_paths(value) for name, value in values.items() if name != "path"}
    return [without_paths(value) for value in values] if isinstance(values, list) else values


def freeze(ranking: Mapping[str, Any]) -> None:
    """Writes both files."""
    teachers = of_teachers(ranking)
    values = read_json(HERE / "results.json")["values"]
    made: dict[str, Any] = {"teachers": {name: teachers[name] for name in TEACHERS}}
    for name, (said, measured) in PAIRS.items():
        seeds = sorted(set.intersection(*(set(values[teacher]) for teacher in TEACHERS)))
        students = np.array([[values[teacher][seed][measured] for teacher in TEACHERS] for seed in seeds])
        predictor = np.array([teachers[teacher][said] for teacher in TEACHERS])
        made[name] = {"ranking": said, "students": measured} | predicted(predictor, students)
    write_json(HERE / "order.json", made)
    write_json(HERE / "ranking.json", without_paths(dict(ranking)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranking", type=Path, help="folder that stillroom teachers rank wrote")
    freeze(read_json(parser.parse_args().ranking / "ranking.json"))
