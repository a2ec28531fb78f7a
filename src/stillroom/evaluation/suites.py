"""All suites of an evaluation in turn, in the form that a run folder keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.config import EvaluationConfig
from stillroom.evaluation.copying import frequent_tokens, measure_copying, repeated_tokens
from stillroom.evaluation.counterfactual import measure_counterfactual
from stillroom.evaluation.lm import Heldout, measure_likelihood
from stillroom.evaluation.retrieval import context_questions, measure_context, measure_needle, needle_questions
from stillroom.evaluation.scaling import measure_scaling
from stillroom.evaluation.scoring import Progress
from stillroom.evaluation.vocabulary import Vocabulary
from stillroom.types import Sequences
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


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    *,
    heldout: Heldout,
    problems: Sequence[Problem] = (),
    counterfactuals: Sequence[Counterfactual] = (),
    counterfactual_chance: float | None = None,
    progress: SuiteProgress | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every part that ``config.suites`` asks for and that items were given for, and the samples of ``tts``.

    The parts are ``lm``, ``copying``, ``counterfactual``, ``tts``, ``needle`` and ``context``, in the form that
    ``evaluation.json`` has; ``heads`` is the analysis' own. Deterministic per seed and independent of the batch size;
    the model is left as it was.
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
        )
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
    questions = [
        question
        for notes in config.context_notes
        for question in context_questions(tokenizer, num=config.retrieval_items, notes=notes, seed=config.seed)
    ]
    return {
        "needle": measure_needle(model, needles, seed=config.seed, progress=_named(progress, "needles")),
        "context": measure_context(model, questions, seed=config.seed, progress=_named(progress, "context questions")),
    }


def _named(progress: SuiteProgress | None, part: str) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(part, done, total)
