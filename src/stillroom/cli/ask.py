"""From what was typed to a configuration; a mistake ends in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

from stillroom.config import RunConfig, StudyConfig, override
from stillroom.strict import nearest
from stillroom.study import resolve_recipe
from stillroom.types import UserError


def study_config(recipe: str, assignments: list[str], corpus: str | None = None) -> StudyConfig:
    """The study that a recipe stands for, with ``--corpus`` and ``--set`` applied."""
    config = resolve_recipe(recipe)
    if not isinstance(config, StudyConfig):
        raise UserError(f"recipe {recipe!r}: is a single run, expected a study; use stillroom train.")
    return override(config, _assigned(assignments, corpus))


def _assigned(assignments: list[str], corpus: str | None) -> list[str]:
    """What is overridden: a corpus that is there takes the place of the recipe's, before ``--set`` is applied."""
    return assignments if corpus is None else [f"corpus={json.dumps({'path': corpus})}", *assignments]


def run_or_study_config(
    recipe: str, assignments: list[str], arm: str | None, corpus: str | None = None
) -> RunConfig | StudyConfig:
    """The run, or the study that holds the arm, with ``--corpus`` and ``--set`` applied."""
    config = resolve_recipe(recipe)
    if isinstance(config, RunConfig):
        if arm is not None:
            raise UserError(f"--arm {arm}: recipe {recipe!r} is a single run and has no arms; leave --arm out.")
        return override(config, _assigned(assignments, corpus))
    if not isinstance(config, StudyConfig):
        raise UserError(f"recipe {recipe!r}: is neither a run nor a study.")
    choices = ["teacher", *config.arms]
    if arm is None:
        raise UserError(f"recipe {recipe!r}: is a study; say which model with --arm, one of {', '.join(choices)}.")
    if arm not in choices:
        raise UserError(f"--arm {arm}: recipe {recipe!r} has no such arm{nearest(arm, choices)}.")
    return override(config, _assigned(assignments, corpus))


def print_parts(folder: Path) -> None:
    """The parts of a finished run by the paths under which they stand in its folder."""
    from stillroom.console import Terminal, line
    from stillroom.places import run_parts

    run = run_parts(folder)
    if run is None:
        return
    console = Terminal()
    parts = {"Corpus": run.corpus, "Labels": run.labels}
    for title, path in (parts | {f"Model {name}": path for name, path in run.models.items()}).items():
        if path is not None:
            console.print(line(f"{title}: ", (path, "bold")), soft_wrap=True)
