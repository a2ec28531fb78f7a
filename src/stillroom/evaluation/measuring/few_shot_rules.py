"""Few-shot rule induction: some examples of an unknown rule, and an input whose output is asked for.

Letters: I items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.evaluation.measuring.choices import Question, score_choices
from stillroom.evaluation.measuring.induced_rules import RuleItem, rule_items
from stillroom.evaluation.sampling.draw import Sampling, SamplingRequest, sample
from stillroom.evaluation.scoring import TOKENS_AT_A_TIME
from stillroom.models import num_positions
from stillroom.results.schema import ChoiceResult, InductionResult
from stillroom.results.statistics import mean
from stillroom.types import OnProgress, UserError
from stillroom.vocabulary import Vocabulary, encode, encode_documents

_SLACK = 2
"""Tokens that a written answer may be longer than the right one before it is cut off."""


def few_shot_items(*, num: int, shots: Sequence[int], seed: int) -> list[RuleItem]:
    """``num`` held-out items for every number of shots and each of the two kinds, words and numbers."""
    return [
        item
        for kind in ("string", "number")
        for shot in shots
        for item in rule_items(num, shots=shot, kind=kind, seed=seed)
    ]


def measure_induction(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[RuleItem],
    *,
    seed: int = 0,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> InductionResult:
    """The ``induction`` part of an evaluation: accuracy among choices, and of what the model writes by itself.

    ``accuracy`` compares the right output's log-probability with that of outputs that other rules give; ``written`` is
    greedy generation up to the end of the line, which must be the right output and nothing else. Both in all, by kind
    and by number of shots, with intervals over items. Numbers of shots of which an item is longer than the model's
    positions are left out and named in ``skipped_shots``. Raises ``UserError`` without items, or where none fits.
    """
    if not items:
        raise UserError("rule_items: no item was given, expected at least one.")
    items, questions, skipped = _fitting(model, items, _questions(tokenizer, items))
    answered = score_choices(model, questions, tokens_at_a_time=tokens_at_a_time, progress=progress)
    written_I = _written(model, tokenizer, items, questions)

    def part(inside_I: NDArray[np.bool_]) -> ChoiceResult:
        return ChoiceResult(
            accuracy=mean(answered.chosen_I[inside_I], seed=seed),
            written=mean(written_I[inside_I], seed=seed),
            chance=float(answered.chance_I[inside_I].mean()),
        )

    kinds, shots = np.array([item.kind for item in items]), np.array([len(item.examples) for item in items])
    whole = part(np.ones(len(items), dtype=bool))
    return InductionResult(
        accuracy=whole.accuracy,
        written=whole.written,
        chance=whole.chance,
        by_kind={str(kind): part(kinds == kind) for kind in np.unique(kinds)},
        by_shots={int(shot): part(shots == shot) for shot in np.unique(shots)},
        per_item={"accuracy": tuple(answered.chosen_I.astype(float).tolist())},
        skipped_shots=tuple(skipped),
    )


def _questions(tokenizer: PreTrainedTokenizerBase, items: Sequence[RuleItem]) -> list[Question]:
    """Choices end with the line, so that an output is not taken for the beginning of a longer one."""
    start = Vocabulary.of(tokenizer).start
    prompts = encode_documents(tokenizer, [item.prompt for item in items])
    made = []
    for item, prompt in zip(items, prompts, strict=True):
        choices = encode(tokenizer, [f" {text}\n" for text in (item.answer, *item.wrong)])
        made.append(Question((*start, *prompt), tuple(tuple(ids) for ids in choices), 0, len(item.examples)))
    return made


def _fitting(
    model: PreTrainedModel, items: Sequence[RuleItem], questions: Sequence[Question]
) -> tuple[list[RuleItem], list[Question], list[int]]:
    """The items and questions of the numbers of shots that fit, and the numbers that do not."""
    longest = num_positions(model.config)
    needed: dict[int, int] = {}
    for item, question in zip(items, questions, strict=True):
        length = len(question.context) + max(map(len, question.choices)) + _SLACK
        needed[len(item.examples)] = max(length, needed.get(len(item.examples), 0))
    skipped = [] if longest is None else sorted(shots for shots, length in needed.items() if length > longest)
    kept = [pair for pair in zip(items, questions, strict=True) if len(pair[0].examples) not in skipped]
    if not kept:
        raise UserError(
            f"rule_shots: the shortest items have {min(needed.values())} tokens but the model has {longest} positions; "
            "ask for fewer shots."
        )
    return [item for item, _ in kept], [question for _, question in kept], skipped


def _written(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[RuleItem],
    questions: Sequence[Question],
) -> NDArray[np.bool_]:
    vocabulary = Vocabulary.of(tokenizer)
    request = SamplingRequest(
        prompts=[question.context for question in questions],
        num_samples=1,
        max_new_tokens=max(len(question.choices[0]) for question in questions) + _SLACK,
        settings=[Sampling(0.0)],
        stop=vocabulary.line_ends,
        seed=0,
    )
    (drawn,) = sample(model, request)
    return np.array(
        [
            samples.stopped[0] and vocabulary.line(samples.tokens[0]).strip() == item.answer
            for item, samples in zip(items, drawn, strict=True)
        ]
    )
