"""Questions with several possible answers, scored by likelihood and by what greedy decoding would write.

Letters: I items, J (item, choice) pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from stillroom.evaluation.scoring import TOKENS_AT_A_TIME, Continuation, score_continuations
from stillroom.results.schema import ChoiceResult, PerItem
from stillroom.results.statistics import mean
from stillroom.types import Estimate, OnProgress, UserError


@dataclass(frozen=True)
class Question:
    """A context in token ids and the answers that may follow it; ``right`` is the number of the true one.

    ``group`` tells cells of a table apart, such as (length, depth).
    """

    context: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    right: int
    group: Hashable = None


@dataclass(frozen=True)
class ChoiceScores:
    """Per question: whether the right choice is the likeliest, whether greedy decoding writes it, and the margin."""

    chosen_I: NDArray[np.bool_]
    written_I: NDArray[np.bool_]
    margin_I: NDArray[np.float64]
    """Log-probability of the right choice minus that of the best wrong one, nats."""
    chance_I: NDArray[np.float64]
    """What a guess among the choices reaches."""
    groups: tuple[Hashable, ...]

    def accuracy(self, seed: int = 0) -> Estimate:
        """How often the right choice is the likeliest."""
        return mean(self.chosen_I, seed=seed)

    def summary(self, seed: int = 0) -> ChoiceResult:
        """Means with intervals over questions."""
        return ChoiceResult(
            accuracy=self.accuracy(seed),
            exact=mean(self.written_I, seed=seed),
            margin_nats=mean(self.margin_I, seed=seed),
            chance=float(self.chance_I.mean()),
        )

    def per_item(self) -> PerItem:
        """The same measures question by question, for a paired test."""
        return {"accuracy": tuple(self.chosen_I.astype(float).tolist()), "margin_nats": tuple(self.margin_I.tolist())}

    def of_group(self, group: Hashable) -> ChoiceScores:
        """The questions of one group."""
        inside = np.array([own == group for own in self.groups])
        kept = tuple(own for own in self.groups if own == group)
        return ChoiceScores(
            self.chosen_I[inside], self.written_I[inside], self.margin_I[inside], self.chance_I[inside], kept
        )


def score_choices(
    model: PreTrainedModel,
    questions: Sequence[Question],
    *,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> ChoiceScores:
    """Scores every choice of every question by its log-probability after the context.

    Choices are compared by their whole log-probability, not per token: it is the probability that the model gives to
    writing that answer. A tie counts as wrong. Raises ``UserError`` without questions.
    """
    if not questions:
        raise UserError("evaluation: no question was given, expected at least one.")
    pairs = [Continuation(question.context, choice) for question in questions for choice in question.choices]
    scores = score_continuations(model, pairs, tokens_at_a_time=tokens_at_a_time, progress=progress)
    ends = np.cumsum([len(question.choices) for question in questions])
    margins, written = [], []
    for question, end in zip(questions, ends, strict=True):
        logprobs = scores.logprob_I[end - len(question.choices) : end]
        wrong = np.delete(logprobs, question.right)
        margins.append(logprobs[question.right] - wrong.max())
        written.append(scores.greedy_I[end - len(question.choices) + question.right])
    margin_I = np.array(margins)
    return ChoiceScores(
        chosen_I=margin_I > 0,
        written_I=np.array(written),
        margin_I=margin_I,
        chance_I=np.array([1 / len(question.choices) for question in questions]),
        groups=tuple(question.group for question in questions),
    )
