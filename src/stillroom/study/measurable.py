"""Whether what a study is to measure can be measured: told before anything is trained.

What follows from the configuration alone is told by a dry run too; what needs the tokenizer, once the corpus is built.
"""

from __future__ import annotations

from collections.abc import Iterable

from stillroom.config import StudyConfig
from stillroom.evaluation.suite import Need, find_suite
from stillroom.results import registered_measures
from stillroom.types import UserError


def check_evaluation(config: StudyConfig) -> None:
    """Refuses items that cannot be drawn or that the models of a study cannot hold, as far as lengths alone tell."""
    asked = config.evaluation
    registered_measures()  # those of other packages are read now, so that a broken one is told before anything is made
    suites = [find_suite(name) for name in asked.suites]
    needs = [need for suite in suites for need in suite.lengths(suite.config_in(asked))]
    refuse_too_long(needs, *fewest_positions(config))


def refuse_too_long(needs: Iterable[Need], positions: int | None, whose: str) -> None:
    """Refuses the first need that is more than ``positions``; None is without limit."""
    for field, tokens, advice in needs:
        if positions is not None and tokens > positions:
            raise UserError(
                f"evaluation.{field} takes {tokens} tokens with what opens and ends them, but {whose} is {positions}; "
                f"{advice}."
            )


def fewest_positions(config: StudyConfig) -> tuple[int | None, str]:
    """The fewest positions of the models that are made here, and the field that says so; None where none is."""
    made = {"student": config.student, "teacher.model": config.teacher.model}
    known = [
        (model.positions, f"{name}.max_positions" if model.has_llama_sizes else f"the length of {name}.config")
        for name, model in made.items()
        if model.path is None and model.positions is not None
    ]
    return min(known) if known else (None, "")
