"""Test-time scaling: what more samples buy on problems whose answers are verified.

Letters: P problems, n samples of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.evaluation.diversity import distinct_n, ngram_similarity, self_bleu, vendi_score
from stillroom.evaluation.sampling.draw import Sampler, Sampling, SamplingRequest, sample
from stillroom.evaluation.sampling.stops import StopTexts
from stillroom.results.coverage import entropy_nats, fit_coverage, majority_correct, pass_at_k
from stillroom.results.schema import CoverageFit, SampledProblem, ScalingResult, TemperatureResult
from stillroom.results.statistics import mean
from stillroom.types import Estimate, OnProgress, UserError
from stillroom.vocabulary import Vocabulary, encode_documents
from stillroom.worlds.base import Problem

_NO_LAW = "fewer than two k have a pass@k between 0 and 1"


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """How problems are attempted: how many samples of each, drawn how, and what ends one."""

    num_samples: int
    """Of each problem, for each setting."""
    max_new_tokens: int
    settings: Sequence[Sampling]
    seed: int = 0
    stops: tuple[str, ...] = ()
    """Texts that end a completion, which then runs over any number of lines; without any it is one line."""
    workers: int = 1
    """Threads that grade, which pays where a verifier waits for another process."""


def solve(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    attempts: Attempts,
    *,
    sampler: Sampler = sample,
    progress: OnProgress | None = None,
) -> list[list[SampledProblem]]:
    """Samples of every problem for every setting, graded: ``result[setting][problem]``.

    A completion is the text up to the first newline or end of document; with ``attempts.stops`` it is the text up to
    the first of these or the end of the document. One that reaches no end has no answer. ``sampler`` draws the samples.
    """
    vocabulary = Vocabulary.of(tokenizer)
    texts = StopTexts(attempts.stops, vocabulary.pieces) if attempts.stops else None
    prompts = encode_documents(tokenizer, [problem.prompt for problem in problems])
    request = SamplingRequest(
        prompts=[[*vocabulary.start, *ids] for ids in prompts],
        num_samples=attempts.num_samples,
        max_new_tokens=attempts.max_new_tokens,
        settings=attempts.settings,
        stop=vocabulary.line_ends if texts is None else vocabulary.document_ends,
        stop_texts=texts,
        seed=attempts.seed,
    )
    drawn = sampler(model, request, progress)
    with ThreadPoolExecutor(attempts.workers) if attempts.workers > 1 else nullcontext() as pool:
        graded = []
        for setting, of_setting in zip(attempts.settings, drawn, strict=True):
            completions = [tuple(_text(vocabulary, texts, ids) for ids in samples.tokens) for samples in of_setting]
            ended = [samples.stopped for samples in of_setting]
            answers = _grade_all(problems, completions, ended, map if pool is None else pool.map)
            graded.append(
                [
                    SampledProblem(
                        family=problem.family,
                        prompt=problem.prompt,
                        temperature=setting.temperature,
                        completions=texts_of,
                        answers=answers_of,
                    )
                    for problem, texts_of, answers_of in zip(problems, completions, answers, strict=True)
                ]
            )
    return graded


def _text(vocabulary: Vocabulary, stops: StopTexts | None, ids: Sequence[int]) -> str:
    return vocabulary.line(ids) if stops is None else stops.text(ids, vocabulary.eos)


def _grade_all(
    problems: Sequence[Problem],
    completions: Sequence[tuple[str, ...]],
    stopped: Sequence[tuple[bool, ...]],
    over: Callable[..., Iterable[str | None]],
) -> list[tuple[str | None, ...]]:
    """Answers of the completions that ended by themselves; one cut off by the limit has not answered yet.

    Every different text is graded once, by ``over``, which maps as ``map`` does.
    """
    asked = [
        (which, text)
        for which, (texts, stops) in enumerate(zip(completions, stopped, strict=True))
        for text in dict.fromkeys(text for text, stop in zip(texts, stops, strict=True) if stop)
    ]
    answer_of = dict(zip(asked, over(lambda one: problems[one[0]].grade(one[1]), asked), strict=True))
    return [
        tuple(answer_of[which, text] if stop else None for text, stop in zip(texts, stops, strict=True))
        for which, (texts, stops) in enumerate(zip(completions, stopped, strict=True))
    ]


def measure_scaling(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    attempts: Attempts,
    ks: Sequence[int],
    *,
    sampler: Sampler = sample,
    progress: OnProgress | None = None,
) -> tuple[ScalingResult, list[SampledProblem]]:
    """The ``tts`` part of an evaluation, and one record per problem and temperature with every sample.

    A k above the number of samples is left out and named in ``skipped_ks``. Intervals are over problems. Raises
    ``UserError`` without problems.
    """
    if not problems:
        raise UserError("problems: no problem was given, expected at least one.")
    graded = solve(model, tokenizer, problems, attempts, sampler=sampler, progress=progress)
    by_temperature = {one.temperature: found for one, found in zip(attempts.settings, graded, strict=True)}
    part = ScalingResult(
        num_problems=len(problems),
        num_samples=attempts.num_samples,
        temperatures={
            temperature: summarise_samples(found, ks, attempts.seed) for temperature, found in by_temperature.items()
        },
        skipped_ks=tuple(sorted({k for k in ks if k > attempts.num_samples})),
    )
    return part, [one for found in graded for one in found]


def summarise_samples(graded: Sequence[SampledProblem], ks: Sequence[int], seed: int = 0) -> TemperatureResult:
    """pass@k, majority vote and diversity over problems, with pass@k by family and the law that pass@k follows.

    Diversity is of the samples of a problem, in words: ``distinct_2``, ``self_bleu`` and ``vendi_score``.
    """
    num_P = np.array([len(one.answers) for one in graded])
    correct_P = np.array([one.num_right for one in graded])
    curves = {k: pass_at_k(num_P, correct_P, k) for k in sorted(set(ks)) if k <= num_P.min()}
    law = fit_coverage(list(curves), [float(pass_P.mean()) for pass_P in curves.values()])
    return TemperatureResult(
        pass_at={k: mean(pass_P, seed=seed) for k, pass_P in curves.items()},
        majority=mean([_majority(one) for one in graded], seed=seed),
        coverage_law=None if law is None else CoverageFit(a=law.a, b=law.b, residual=law.residual),
        missing={"coverage_law": _NO_LAW} if law is None else {},
        unique_correct=mean([one.num_different for one in graded], seed=seed),
        answer_entropy_nats=mean([entropy_nats(one.votes) for one in graded], seed=seed),
        **_diversity(graded, seed),
        by_family=_by_family(graded, curves),
    )


def _diversity(graded: Sequence[SampledProblem], seed: int) -> dict[str, Estimate]:
    words = [[text.split() for text in one.completions] for one in graded]
    measured = {
        "distinct_2": [distinct_n(samples, 2) for samples in words],
        "vendi_score": [vendi_score(ngram_similarity(samples)) for samples in words],
    }
    if all(len(samples) > 1 for samples in words):
        measured["self_bleu"] = [self_bleu(samples) for samples in words]
    return {name: mean(values, seed=seed) for name, values in measured.items()}


def _by_family(graded: Sequence[SampledProblem], curves: dict[int, NDArray[np.float64]]) -> dict[str, dict[int, float]]:
    family_P = np.array([one.family for one in graded])
    return {
        str(family): {k: float(pass_P[family_P == family].mean()) for k, pass_P in curves.items()}
        for family in sorted(set(family_P.tolist()))
    }


def _majority(sampled: SampledProblem) -> float:
    """The chance that the most frequent answer is right, ties broken by lot."""
    return majority_correct(sampled.votes, {vote for vote in sampled.votes if vote[0] == "right"})
