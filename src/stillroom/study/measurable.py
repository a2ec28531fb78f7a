"""Whether what a study is to measure can be measured: told before anything is trained.

What follows from the configuration alone is told by a dry run too; what needs the tokenizer, once the corpus is built.
"""

from __future__ import annotations

from collections.abc import Iterator

from stillroom.config import EvaluationConfig, StudyConfig
from stillroom.types import UserError

Needs = Iterator[tuple[str, int, str]]
"""(Field with its value, tokens that its longest item takes, what to do)."""


def check_evaluation(config: StudyConfig) -> None:
    """Refuses items that cannot be drawn or that the models of a study cannot hold, as far as lengths alone tell."""
    asked = config.evaluation
    _check_draws(asked)
    refuse_too_long(_lengths(asked), *fewest_positions(config))


def refuse_too_long(needs: Needs, positions: int | None, whose: str) -> None:
    """Refuses the first need that is more than ``positions``; None is without limit."""
    for field, tokens, advice in needs:
        if positions is not None and tokens > positions:
            raise UserError(
                f"evaluation.{field} takes {tokens} tokens with what opens and ends them, but {whose} is {positions}; "
                f"{advice}."
            )


def fewest_positions(config: StudyConfig) -> tuple[int | None, str]:
    """The fewest positions of the models that are made here, and the field that says so; None where none is."""
    made = [("student.max_positions", config.student), ("teacher.model.max_positions", config.teacher.model)]
    known = [(model.max_positions, name) for name, model in made if model.path is None]
    return min(known) if known else (None, "")


def _check_draws(asked: EvaluationConfig) -> None:
    if {"icl", "heads"} & set(asked.suites) and asked.copying_period > asked.copying_vocabulary:
        raise UserError(
            f"evaluation.copying_period is {asked.copying_period}, but its tokens are all different and drawn from "
            f"copying_vocabulary, {asked.copying_vocabulary}; shorten the period or raise the vocabulary."
        )
    if "icl" in asked.suites and 2 * asked.recall_triggers > asked.copying_vocabulary:
        raise UserError(
            f"evaluation.recall_triggers is {asked.recall_triggers}, but each needs two tokens of copying_vocabulary, "
            f"{asked.copying_vocabulary}; lower the one or raise the other."
        )


def _lengths(asked: EvaluationConfig) -> Needs:
    """What the items take by the configuration alone: at least the token that opens each."""
    if {"icl", "heads"} & set(asked.suites):
        period, repeats = asked.copying_period, asked.copying_repeats
        yield f"copying_period {period} x copying_repeats {repeats}", asked.copying_tokens, "lower one"
    if "icl" in asked.suites:
        yield f"recall_length {asked.recall_length}", asked.recall_length, "lower it"
    if "retrieval" in asked.suites:
        yield f"needle_lengths {max(asked.needle_lengths)}", max(asked.needle_lengths) + 1, "lower it"
    if "tts" in asked.suites:
        yield f"max_new_tokens {asked.max_new_tokens}", asked.max_new_tokens + 1, "lower it"
