"""Applies the rules of this study to its frozen numbers, for each kind of teacher: ``answer.json``.

    python experiments/041_capacity/answer.py

Reads ``results.json``, ``worth.json`` and ``formation.json``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stillroom.files import read_json, write_json
from stillroom.results.intervals import paired_interval
from stillroom.study.recipe_files import load_module

HERE = Path(__file__).parent
RECIPE = load_module(HERE / "recipe.py")
SHARED = load_module(HERE.parent / "040_worth" / "answer.py")
TEACHERS = {"finished": "", "unfinished": "early_"}
"""Kind of teacher, and what the names of its arms and contrasts begin with."""
COPYING, SURE = "copying:accuracy_repeat", 0.05
Values = dict[str, Any]


def formed_level(arms: Values, one: str, other: str) -> Values | None:
    """Accuracy on repeats of one arm minus the other's, over seeds that formed copying in both; None below three."""
    both = [seed for seed, tokens in arms[one]["tokens"].items() if tokens and arms[other]["tokens"].get(seed)]
    if len(both) < 3:
        return None
    return paired_interval([arms[one]["accuracy"][seed] - arms[other]["accuracy"][seed] for seed in both]).as_dict()


def is_shifted(test: Values, sign: int) -> bool:
    """Whether the first of two arms forms copying earlier (1) or later (-1), by the log-rank test."""
    return test["p"] is not None and test["p"] < SURE and sign * test["statistic"] > 0


def cost(formation: Values, contrasts: Values, early: str) -> Values:
    """Rule 3: whether soft labels cost copying, and whether their gain fades."""
    test = formation["log_rank"][f"{early}dpt90_over_spt"]
    level = formed_level(formation["arms"], f"{early}dpt90_all", "spt")
    gain, faded = (contrasts[f"{early}{name}"][COPYING] for name in ("gain_all", "gain_quarter_less_all"))
    is_later, is_lower = is_shifted(test, -1), level is not None and level["high"] < 0
    return {
        "log_rank": test, "level_once_formed": level, "later": is_later, "lower": is_lower,
        "costs": is_later or is_lower, "fades": faded["low"] > 0 and gain["low"] <= 0,
    }  # fmt: skip


def repair(formation: Values, contrasts: Values, early: str, rule: str) -> Values:
    """Rule 4: whether routing takes back what soft labels cost, and what it made worse."""
    name = f"{early}{rule}15_over_dpt90"
    gained, lost = contrasts[name][COPYING], SHARED.worsened(contrasts[name])
    is_back = gained["low"] > 0 or is_shifted(formation["log_rank"][name], 1)
    had_cost = cost(formation, contrasts, early)["costs"]
    return {"copying": gained, "takes_back": is_back, "lost": lost, "repairs": had_cost and is_back and not lost}


def answer(results: Values, worths: Values, formation: Values) -> Values:
    """Every rule, by kind of teacher."""
    contrasts = results["contrasts"]
    return {
        teacher: {
            "iso_data": SHARED.iso_data(contrasts[f"{early}gain_all"]),
            "scaling": {part: SHARED.scaling(worths, f"{early}dpt90_{part}") for part in RECIPE.PARTS},
            "in_context": cost(formation, contrasts, early),
            "routing": {rule: repair(formation, contrasts, early, rule) for rule in RECIPE.RULES},
        }
        for teacher, early in TEACHERS.items()
    }


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    made = answer(*(read_json(HERE / f"{name}.json") for name in ("results", "worth", "formation")))
    write_json(HERE / "answer.json", made)
