"""Applies the rules of this study to its frozen numbers: ``answer.json``.

    python experiments/040_worth/answer.py

For every part of the text: the ratio of the multiplier of pass@16 to that of copying, whether the trade-off was found,
which measures hold "twice the data", and what each routing rule gained and lost.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stillroom.config import ladder
from stillroom.files import read_json, write_json
from stillroom.results.worth import Measured, ReadOff, worth_ratio
from stillroom.study.recipe_files import load_module
from stillroom.types import UserError

HERE = Path(__file__).parent
RECIPE = load_module(HERE / "recipe.py")
TEXT, SAMPLES, ANSWERS = "lm:by_source:python:bits_per_byte", "tts:1:pass_at:16", "tts:1:unique_correct"
SOURCES = ("python", "facts", "problems", "copying")
COPYING = "lm:by_source:copying:bits_per_byte"
BETTER_HIGHER = {SAMPLES: True, ANSWERS: True, TEXT: False, COPYING: False}
PAIRED = {
    TEXT: -1, "lm:by_source:facts:bits_per_byte": -1, "lm:by_source:problems:bits_per_byte": -1,
    "tts:1:pass_at:1": 1, SAMPLES: 1, ANSWERS: 1, "counterfactual:follows_context": 1,
}  # fmt: skip
"""What routing must not cost, and the sign of what is better."""
Values = dict[str, Any]


def read_off(values: Values, arm: str, measure: str) -> ReadOff:
    """The ladder and an arm by one measure."""

    def measured(name: str, part: float) -> Measured:
        return Measured(part, {int(seed): found[measure] for seed, found in values[name].items()})

    rungs = [measured(name, one.data) for name, one in ladder(*RECIPE.LADDER).items()]
    return ReadOff(rungs, measured(arm, RECIPE.ARMS[arm].data), BETTER_HIGHER[measure])


def scaling(worths: Values, arm: str) -> Values:
    """Which multipliers of an arm are above one, of text, samples and answers, and which hold twice the data."""
    found = {ability["key"]: ability["arms"].get(arm, {}).get("data", {}) for ability in worths["abilities"]}
    above = {key: (found.get(key, {}).get("low") or 0) > 1 for key in (TEXT, SAMPLES, ANSWERS)}
    twice = [key for key, one in found.items() if 1 < (one.get("low") or 0) <= 2 <= (one.get("high") or float("inf"))]
    return {"above_one": above, "twice": twice}


def trade_off(values: Values, worths: Values, part: str) -> Values:
    """Rules 1 and 2 at one part of the text."""
    arm = f"dpt90_{part}"
    told = scaling(worths, arm)
    try:
        ratio = worth_ratio(read_off(values, arm, SAMPLES), read_off(values, arm, COPYING)).as_dict()
    except UserError as error:
        ratio = {"value": None, "low": None, "high": None, "why": str(error)}
    is_found = all(told["above_one"].values()) and (ratio["low"] or 0) > 1
    return told | {"pass_16_over_copying": ratio, "found": is_found}


def iso_data(contrast: Values) -> Values:
    """Rule 3: DPT-90 minus SPT in bits per byte, by source."""
    sources = {name: contrast[f"lm:by_source:{name}:bits_per_byte"] for name in SOURCES}
    return {name: {**one, "found": one["high"] < 0} for name, one in sources.items()}


def worsened(contrast: Values) -> list[str]:
    """The measures whose interval lies wholly on the wrong side."""
    return [
        measure for measure, sign in PAIRED.items()
        if measure in contrast and max(sign * contrast[measure][end] for end in ("low", "high")) < 0
    ]  # fmt: skip


def routing(contrasts: Values, rule: str, part: str) -> Values:
    """Rule 4: what a routing rule gained in copying, and the measures that it lost."""
    found = contrasts[f"{rule}15_over_dpt90_{part}"]
    gained, lost = found["copying:accuracy_repeat"], worsened(found)
    return {"copying": gained, "lost": lost, "worth_it": gained["low"] > 0 and not lost}


def main(folder: Path = HERE) -> None:
    """Writes ``answer.json`` beside the numbers."""
    results, worths = read_json(folder / "results.json"), read_json(folder / "worth.json")
    write_json(folder / "answer.json", {
        "trade_off": {part: trade_off(results["values"], worths, part) for part in RECIPE.PARTS},
        "iso_data": iso_data(results["contrasts"]["gain_all"]),
        "routing": {f"{rule}_{part}": routing(results["contrasts"], rule, part)
                    for rule in RECIPE.RULES for part in ("half", "all")},
    })  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="where results.json and worth.json lie")
    main(parser.parse_args().folder)
