"""What a soft label was worth in a study of several seeds, from its frozen numbers alone.

    python experiments/worth.py experiments/030_data

Reads ``config.yaml``, or of a study of several runs the recipe's ``RUNS``, and ``results.json``, and writes
``worth.json`` beside them: for every arm that is no rung of the ladder of hard labels, the data multiplier of each
ability with its interval over seeds (``stillroom.results.worth``). Where the recipe has ``WORTH_ARMS``, arms and
their words, ``worth.svg`` draws those.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stillroom.config import StudyConfig
from stillroom.costs import flops_per_token
from stillroom.files import read_json, write_text
from stillroom.report.charts.keys import line_key
from stillroom.report.figure_files import Paper, paper_picture
from stillroom.report.figures.worth_bars import Mark, worth_picture
from stillroom.results.abilities import Ability, Effort, worth_table
from stillroom.results.json_form import write
from stillroom.results.schema import WorthTable
from stillroom.study.ladder import ladder_of
from stillroom.study.recipe_files import load_module, resolve_recipe

ABILITIES = (
    Ability("lm:by_source:python:bits_per_byte", "Python, bits per byte", False),
    Ability("lm:by_source:facts:bits_per_byte", "facts, bits per byte", False),
    Ability("lm:by_source:problems:bits_per_byte", "problems, bits per byte", False),
    Ability("lm:by_source:copying:bits_per_byte", "copying, bits per byte", False),
    Ability("tts:1:pass_at:1", "pass@1", True),
    Ability("tts:1:pass_at:16", "pass@16", True),
    Ability("tts:1:unique_correct", "different right answers", True),
    Ability("counterfactual:follows_context", "following the context", True),
    Ability("copying:accuracy_repeat", "copying of random tokens", True),
    Ability("recall:accuracy", "recall", True),
    Ability("needle:accuracy", "needle in a haystack", True),
)


SIGNS = (("s1", "circle"), ("s2", "square"), ("s3", "triangle"), ("s4", "diamond"))
DRAWN = (
    "lm:by_source:python:bits_per_byte", "lm:by_source:facts:bits_per_byte", "lm:by_source:problems:bits_per_byte",
    "tts:1:pass_at:1", "tts:1:pass_at:16", "tts:1:unique_correct", "counterfactual:follows_context",
)  # fmt: skip
"""Abilities of the picture: those that do not form in a jump."""


def drawn(table: WorthTable, marks: Mapping[str, Mark]) -> str:
    """The worth of some arms as a picture of its own."""
    legend = [(mark.arm, line_key(f"curve {mark.colour}", mark.shape, mark.colour)) for mark in marks.values()]
    return paper_picture(worth_picture(table, marks), "", legend, Paper())


def picture(table: WorthTable, words: Mapping[str, str]) -> str:
    """The abilities that do not form in a jump, of the arms that have words."""
    marks = {arm: Mark(said, *sign) for (arm, said), sign in zip(words.items(), SIGNS, strict=False)}
    return drawn(replace(table, abilities=tuple(one for one in table.abilities if one.key in DRAWN)), marks)


def configuration(folder: Path) -> StudyConfig:
    """The frozen configuration; of a study of several runs the first one's, with the arms of all."""
    if (folder / "config.yaml").exists():
        config = resolve_recipe(str(folder / "config.yaml"))
        assert isinstance(config, StudyConfig)
        return config
    recipe = load_module(folder / "recipe.py")
    configs: list[StudyConfig] = [getattr(recipe, name)() for name in recipe.RUNS]
    arms = {name: arm for config in configs for name, arm in config.arms.items()}
    return configs[0].model_copy(update={"arms": arms})


def effort(config: StudyConfig, name: str) -> Effort:
    """Tokens and FLOPs of an arm, the teacher's labelling counted."""
    arm, corpus = config.arms[name], config.corpus
    tokens = config.training.tokens * arm.data
    shape = (corpus.vocab_size, corpus.sequence_length)
    own = flops_per_token(config.student, *shape, backward=True) * tokens * arm.epochs
    labelling = flops_per_token(config.teacher.model, *shape, backward=False) * tokens if arm.alpha > 0 else 0.0
    return Effort(tokens, own + labelling)


def main(folder: Path) -> None:
    """Writes ``worth.json``."""
    config = configuration(folder)
    values = read_json(folder / "results.json")["values"]
    names = {f"{arm}-s{seed}": seeds for arm, found in values.items() for seed, seeds in found.items()}
    measured = [one for one in ABILITIES if all(one.key in found for found in names.values())]
    tables = {name: {one: ([found[one.key]], [1.0]) for one in measured} for name, found in names.items()}
    efforts = {name: effort(config, name) for name in names}
    table = worth_table(ladder_of(config, list(names)), efforts, tables)
    write(folder / "worth.json", table)
    words = getattr(load_module(folder / "recipe.py"), "WORTH_ARMS", {}) if (folder / "recipe.py").exists() else {}
    if words:
        write_text(folder / "worth.svg", picture(table, words))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a study's folder under experiments/")
    main(parser.parse_args().folder)
