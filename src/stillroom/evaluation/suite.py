"""All suites of an evaluation in turn, in the form that a run folder keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.config import EvaluationConfig
from stillroom.evaluation.sampling.draw import Sampler, sample
from stillroom.evaluation.suites.choices import Question
from stillroom.evaluation.suites.counterfactual import measure_counterfactual
from stillroom.evaluation.suites.few_shot_rules import few_shot_items, measure_induction
from stillroom.evaluation.suites.in_context_copying import frequent_tokens, measure_copying, repeated_tokens
from stillroom.evaluation.suites.language_modelling import Heldout, measure_likelihood
from stillroom.evaluation.suites.retrieval import context_questions, measure_context, measure_needle, needle_questions
from stillroom.evaluation.suites.rules import RuleItem
from stillroom.evaluation.suites.test_time_scaling import measure_scaling
from stillroom.evaluation.suites.trigger_recall import RecallTokens, measure_recall, recall_tokens
from stillroom.types import OnProgress, Sequences
from stillroom.vocabulary import Vocabulary, encode
from stillroom.worlds.base import Counterfactual, Problem

SuiteProgress = Callable[[str, int, int], None]
"""Called with (part, done, total)."""


def copying_tokens(tokenizer: PreTrainedTokenizerBase, config: EvaluationConfig, heldout: Sequences) -> Tensor:
    """The repeated random tokens (B, T) that ``config`` asks for; the ``heads`` suite reads the same ones."""
    vocabulary = Vocabulary.of(tokenizer)
    return repeated_tokens(
        frequent_tokens(heldout, vocabulary.special, config.copying_vocabulary),
        vocabulary.start,
        num=config.copying_sequences,
        period=config.copying_period,
        repeats=config.copying_repeats,
        seed=config.seed,
    )


def recall_items(tokenizer: PreTrainedTokenizerBase, config: EvaluationConfig, heldout: Sequences) -> RecallTokens:
    """The recall sequences that ``config`` asks for, over the held-out text's bigrams."""
    vocabulary = Vocabulary.of(tokenizer)
    return recall_tokens(
        frequent_tokens(heldout, vocabulary.special, config.copying_vocabulary),
        vocabulary.start,
        heldout,
        num=config.recall_sequences,
        length=config.recall_length,
        triggers=config.recall_triggers,
        seed=config.seed,
    )


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    *,
    heldout: Heldout,
    problems: Sequence[Problem] = (),
    counterfactuals: Sequence[Counterfactual] = (),
    counterfactual_chance: float | None = None,
    sampler: Sampler = sample,
    progress: SuiteProgress | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every part that ``config.suites`` asks for and that items were given for, and the samples of ``tts``.

    The parts are ``lm``, ``copying``, ``recall``, ``induction``, ``counterfactual``, ``tts``, ``needle`` and
    ``context``, in the form that ``evaluation.json`` has; ``heads`` is the analysis' own. Deterministic per seed and
    independent of the batch size; the model is left as it was.
    """
    parts: dict[str, Any] = {}
    samples: list[dict[str, Any]] = []
    if "lm" in config.suites:
        parts["lm"] = measure_likelihood(
            model,
            heldout,
            num_sequences=config.heldout_sequences,
            seed=config.seed,
            progress=_named(progress, "held-out text"),
        )
    if "icl" in config.suites:
        parts |= _in_context(model, tokenizer, config, heldout, counterfactuals, counterfactual_chance, progress)
    if "retrieval" in config.suites:
        parts |= _retrieval(model, tokenizer, config, heldout, progress)
    if "tts" in config.suites and problems:
        parts["tts"], samples = measure_scaling(
            model,
            tokenizer,
            problems[: config.problems],
            num_samples=config.samples_per_problem,
            max_new_tokens=config.max_new_tokens,
            temperatures=config.temperatures,
            ks=config.ks,
            seed=config.seed,
            sampler=sampler,
            progress=_named(progress, "samples"),
        )
    return parts, samples


def _in_context(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    heldout: Heldout,
    counterfactuals: Sequence[Counterfactual],
    chance: float | None,
    progress: SuiteProgress | None,
) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "copying": measure_copying(
            model,
            copying_tokens(tokenizer, config, heldout.sequences),
            period=config.copying_period,
            repeats=config.copying_repeats,
            seed=config.seed,
            progress=_named(progress, "copying"),
        ),
        "recall": measure_recall(
            model,
            recall_items(tokenizer, config, heldout.sequences),
            seed=config.seed,
            progress=_named(progress, "recall"),
        ),
        "induction": measure_induction(
            model, tokenizer, _few_shot(config), seed=config.seed, progress=_named(progress, "rules")
        ),
    }
    if counterfactuals:
        parts["counterfactual"], _ = measure_counterfactual(
            model,
            tokenizer,
            counterfactuals[: config.counterfactual_items],
            chance=chance,
            seed=config.seed,
            progress=_named(progress, "counterfactual facts"),
        )
    return parts


def _retrieval(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    heldout: Heldout,
    progress: SuiteProgress | None,
) -> dict[str, Any]:
    needles = needle_questions(
        tokenizer,
        heldout.sequences,
        lengths=config.needle_lengths,
        depths=config.needle_depths,
        num_each=config.retrieval_items,
        seed=config.seed,
    )
    questions = _context_questions(tokenizer, config)
    return {
        "needle": measure_needle(model, needles, seed=config.seed, progress=_named(progress, "needles")),
        "context": measure_context(model, questions, seed=config.seed, progress=_named(progress, "context questions")),
    }


def _few_shot(config: EvaluationConfig) -> list[RuleItem]:
    return few_shot_items(num=config.rule_items, shots=config.rule_shots, seed=config.seed)


def _context_questions(tokenizer: PreTrainedTokenizerBase, config: EvaluationConfig) -> list[Question]:
    return [
        question
        for notes in config.context_notes
        for question in context_questions(tokenizer, num=config.retrieval_items, notes=notes, seed=config.seed)
    ]


def item_tokens(
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    *,
    heldout: Heldout,
    problems: Sequence[Problem] = (),
    counterfactuals: Sequence[Counterfactual] = (),
) -> dict[str, list[list[int]]]:
    """Token ids of every item of the suites that ``config`` asks for, by kind of item, for the contamination check.

    Where an item has a right answer it is part of the text, after its prompt; problems have many and none is.
    """
    items: dict[str, list[list[int]]] = {}
    if "lm" in config.suites:
        rows = range(min(config.heldout_sequences, len(heldout.sequences)))
        items["heldout"] = heldout.sequences.batch(rows).tokens_BT.tolist()
    if "icl" in config.suites:
        items["induction"] = encode(tokenizer, [f"{item.prompt} {item.answer}" for item in _few_shot(config)])
        chosen = counterfactuals[: config.counterfactual_items]
        items["counterfactual"] = encode(tokenizer, [item.prompt + item.context_answer for item in chosen])
    if "retrieval" in config.suites:
        questions = _context_questions(tokenizer, config)
        items["context"] = [[*question.context, *question.choices[question.right]] for question in questions]
    if "tts" in config.suites:
        items["problems"] = encode(tokenizer, [problem.prompt for problem in problems[: config.problems]])
    return items


def longest_items(
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    *,
    heldout: Heldout,
    problems: Sequence[Problem] = (),
    counterfactuals: Sequence[Counterfactual] = (),
) -> dict[str, int]:
    """Tokens of the longest item of each kind that ``config`` asks for, by the field that makes it long.

    Draws every item as the evaluation will, so what cannot be drawn is refused here as there. Few-shot items are left
    out: those that do not fit are left out of the evaluation too.
    """
    needed: dict[str, int] = {}
    if {"icl", "heads"} & set(config.suites):
        copying = copying_tokens(tokenizer, config, heldout.sequences)
        needed["copying_period x copying_repeats"] = copying.shape[1]
    if "icl" in config.suites:
        needed["recall_length"] = recall_items(tokenizer, config, heldout.sequences).tokens_BT.shape[1]
    if "retrieval" in config.suites:
        needles = needle_questions(
            tokenizer, heldout.sequences, lengths=config.needle_lengths, depths=(0.0,),
            num_each=config.retrieval_items, seed=config.seed,
        )  # fmt: skip
        needed["needle_lengths"] = _longest(needles)
        needed["context_notes"] = _longest(_context_questions(tokenizer, config))
    opening = len(Vocabulary.of(tokenizer).start)
    few = config.model_copy(update={"suites": tuple({"icl", "tts"} & set(config.suites)), "rule_items": 1})
    texts = item_tokens(tokenizer, few, heldout=heldout, problems=problems, counterfactuals=counterfactuals)
    if texts.get("counterfactual"):
        needed["counterfactual_items"] = opening + max(map(len, texts["counterfactual"])) - 1
    if texts.get("problems"):
        needed["max_new_tokens"] = opening + max(map(len, texts["problems"])) + config.max_new_tokens - 1
    return needed


def _longest(questions: Sequence[Question]) -> int:
    return max(len(question.context) + max(map(len, question.choices)) - 1 for question in questions)


def _named(progress: SuiteProgress | None, part: str) -> OnProgress | None:
    if progress is None:
        return None
    return lambda done, total: progress(part, done, total)
