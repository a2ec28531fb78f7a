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
from stillroom.results.statistics import mean, paired_difference
from stillroom.types import Estimate, OnProgress, UserError
from stillroom.vocabulary import Vocabulary, encode_documents
from stillroom.worlds.base import Problem

_NO_LAW = "fewer than two k have a pass@k between 0 and 1"


@dataclass(frozen=True)
class Graded:
    """Samples of one problem: the completed line of each, and its normalised answer where it is right."""

    problem: Problem
    completions: tuple[str, ...]
    answers: tuple[str | None, ...]

    @property
    def num_correct(self) -> int:
        """How many samples are right."""
        return _num_right(self.answers)

    @property
    def unique_correct(self) -> int:
        """How many different right answers there are."""
        return len({answer for answer in self.answers if answer is not None})

    @property
    def answer_entropy_nats(self) -> float:
        """Entropy of all answers, right or wrong."""
        return entropy_nats(self.votes)

    @property
    def votes(self) -> list[tuple[str, str]]:
        """Every sample's answer: (right, answer), or (wrong, text), since only its text tells a wrong one's apart."""
        return [
            ("wrong", text.strip()) if answer is None else ("right", answer)
            for text, answer in zip(self.completions, self.answers, strict=True)
        ]

    @property
    def majority(self) -> float:
        """The chance that the most frequent answer is right, ties broken by lot."""
        votes = self.votes
        return majority_correct(votes, {vote for vote in votes if vote[0] == "right"})

    def record(self, temperature: float) -> SampledProblem:
        """A line of ``samples.jsonl``."""
        return SampledProblem(
            family=self.problem.family,
            prompt=self.problem.prompt,
            temperature=temperature,
            completions=self.completions,
            answers=self.answers,
        )


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
) -> list[list[Graded]]:
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
        for of_setting in drawn:
            completions = [tuple(_text(vocabulary, texts, ids) for ids in samples.tokens) for samples in of_setting]
            ended = [samples.stopped for samples in of_setting]
            graded.append(_grade_all(problems, completions, ended, map if pool is None else pool.map))
    return graded


def _text(vocabulary: Vocabulary, stops: StopTexts | None, ids: Sequence[int]) -> str:
    return vocabulary.line(ids) if stops is None else stops.text(ids, vocabulary.eos)


def _grade_all(
    problems: Sequence[Problem],
    completions: Sequence[tuple[str, ...]],
    stopped: Sequence[tuple[bool, ...]],
    over: Callable[..., Iterable[str | None]],
) -> list[Graded]:
    """Answers of the completions that ended by themselves; one cut off by the limit has not answered yet.

    Every different text is graded once, by ``over``, which maps as ``map`` does.
    """
    asked = [
        (which, text)
        for which, (texts, stops) in enumerate(zip(completions, stopped, strict=True))
        for text in dict.fromkeys(text for text, stop in zip(texts, stops, strict=True) if stop)
    ]
    answer_of = dict(zip(asked, over(lambda one: problems[one[0]].grade(one[1]), asked), strict=True))
    graded = []
    for which, (problem, texts, stops) in enumerate(zip(problems, completions, stopped, strict=True)):
        answers = (answer_of[which, text] if stop else None for text, stop in zip(texts, stops, strict=True))
        graded.append(Graded(problem, texts, tuple(answers)))
    return graded


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

    A k above the number of samples is left out and named in ``skipped_ks``. Intervals are over problems.
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
    return part, [one.record(temperature) for temperature, found in by_temperature.items() for one in found]


def summarise_samples(graded: Sequence[Graded], ks: Sequence[int], seed: int = 0) -> TemperatureResult:
    """pass@k, majority vote and diversity over problems, with pass@k by family and the law that pass@k follows.

    Diversity is of the samples of a problem, in words: ``distinct_2``, ``self_bleu`` and ``vendi_score``.
    """
    num_P = np.array([len(one.answers) for one in graded])
    correct_P = np.array([one.num_correct for one in graded])
    curves = {k: pass_at_k(num_P, correct_P, k) for k in sorted(set(ks)) if k <= num_P.min()}
    law = fit_coverage(list(curves), [float(pass_P.mean()) for pass_P in curves.values()])
    return TemperatureResult(
        pass_at={k: mean(pass_P, seed=seed) for k, pass_P in curves.items()},
        majority=mean([one.majority for one in graded], seed=seed),
        coverage_law=None if law is None else CoverageFit(a=law.a, b=law.b, residual=law.residual),
        missing={"coverage_law": _NO_LAW} if law is None else {},
        unique_correct=mean([one.unique_correct for one in graded], seed=seed),
        answer_entropy_nats=mean([one.answer_entropy_nats for one in graded], seed=seed),
        **_diversity(graded, seed),
        by_family=_by_family(graded, curves),
    )


def _diversity(graded: Sequence[Graded], seed: int) -> dict[str, Estimate]:
    words = [[text.split() for text in one.completions] for one in graded]
    measured = {
        "distinct_2": [distinct_n(samples, 2) for samples in words],
        "vendi_score": [vendi_score(ngram_similarity(samples)) for samples in words],
    }
    if all(len(samples) > 1 for samples in words):
        measured["self_bleu"] = [self_bleu(samples) for samples in words]
    return {name: mean(values, seed=seed) for name, values in measured.items()}


def _by_family(graded: Sequence[Graded], curves: dict[int, NDArray[np.float64]]) -> dict[str, dict[int, float]]:
    family_P = np.array([one.problem.family for one in graded])
    return {
        str(family): {k: float(pass_P[family_P == family].mean()) for k, pass_P in curves.items()}
        for family in sorted(set(family_P.tolist()))
    }


def compare_samples(
    first: Sequence[SampledProblem], second: Sequence[SampledProblem], *, temperature: float, k: int, seed: int = 0
) -> tuple[Estimate, float]:
    """pass@k of one model minus that of another over the same problems, and the p-value that they are alike.

    ``first`` and ``second`` are the records of two evaluations (``samples.jsonl``). Problems differ far more than arms
    do, so the difference is taken problem by problem; see ``paired_difference``.
    """
    by_prompt = [
        {record.prompt: record.answers for record in records if record.temperature == temperature}
        for records in (first, second)
    ]
    if not by_prompt[0] or by_prompt[0].keys() != by_prompt[1].keys():
        raise UserError(
            f"samples at temperature {temperature:g}: the two models did not solve the same problems; evaluate both "
            "with the same configuration."
        )
    passed = [
        pass_at_k([len(answers[p]) for p in by_prompt[0]], [_num_right(answers[p]) for p in by_prompt[0]], k)
        for answers in by_prompt
    ]
    return paired_difference(passed[0], passed[1], seed=seed)


def _num_right(answers: Sequence[str | None]) -> int:
    return sum(answer is not None for answer in answers)
