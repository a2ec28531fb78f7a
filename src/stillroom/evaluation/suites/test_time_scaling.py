"""Test-time scaling: what more samples buy on problems whose answers are verified.

Letters: P problems, n samples of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.evaluation.diversity import distinct_n, ngram_similarity, self_bleu, vendi_score
from stillroom.evaluation.sampling.draw import ROWS_AT_A_TIME, Sampler, Sampling, sample
from stillroom.evaluation.sampling.stops import StopTexts
from stillroom.results.coverage import entropy_nats, fit_coverage, majority_correct, pass_at_k
from stillroom.results.statistics import mean
from stillroom.types import OnProgress, UserError
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

    def record(self, temperature: float) -> dict[str, Any]:
        """A line of ``samples.jsonl``."""
        return {
            "family": self.problem.family,
            "prompt": self.problem.prompt,
            "temperature": temperature,
            "completions": list(self.completions),
            "answers": list(self.answers),
        }


def solve(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    num_samples: int,
    max_new_tokens: int,
    settings: Sequence[Sampling],
    seed: int = 0,
    stops: Sequence[str] = (),
    workers: int = 1,
    sampler: Sampler = sample,
    rows_at_a_time: int = ROWS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> list[list[Graded]]:
    """Samples of every problem for every setting, graded: ``result[setting][problem]``.

    A completion is the text up to the first newline or end of document; with ``stops`` it is the text up to the first
    of these or the end of the document, over any number of lines. One that reaches no end has no answer. ``workers``
    threads grade, which pays where a verifier waits for another process. ``sampler`` draws the samples.
    """
    vocabulary = Vocabulary.of(tokenizer)
    texts = StopTexts(tuple(stops), vocabulary.pieces) if stops else None
    prompts = [
        [*vocabulary.start, *ids] for ids in encode_documents(tokenizer, [problem.prompt for problem in problems])
    ]
    drawn = sampler(
        model,
        prompts,
        num_samples=num_samples,
        max_new_tokens=max_new_tokens,
        settings=settings,
        stop=vocabulary.line_ends if texts is None else vocabulary.document_ends,
        stop_texts=texts,
        seed=seed,
        rows_at_a_time=rows_at_a_time,
        progress=progress,
    )
    with ThreadPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
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
    *,
    num_samples: int,
    max_new_tokens: int,
    temperatures: Sequence[float],
    ks: Sequence[int],
    seed: int = 0,
    stops: Sequence[str] = (),
    workers: int = 1,
    sampler: Sampler = sample,
    rows_at_a_time: int = ROWS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The ``tts`` part of an evaluation, and one record per problem and temperature with every sample.

    A k above ``num_samples`` is left out and named in ``skipped_ks``. Intervals are over problems. ``stops``,
    ``workers`` and ``sampler`` are those of ``solve``.
    """
    if not problems:
        raise UserError("problems: no problem was given, expected at least one.")
    settings = [Sampling(temperature) for temperature in temperatures]
    graded = solve(
        model,
        tokenizer,
        problems,
        num_samples=num_samples,
        max_new_tokens=max_new_tokens,
        settings=settings,
        seed=seed,
        stops=stops,
        workers=workers,
        sampler=sampler,
        rows_at_a_time=rows_at_a_time,
        progress=progress,
    )
    part: dict[str, Any] = {"num_problems": len(problems), "num_samples": num_samples, "temperatures": {}}
    records = []
    for temperature, of_temperature in zip(temperatures, graded, strict=True):
        part["temperatures"][f"{temperature:g}"] = summarise(of_temperature, ks, seed)
        records += [one.record(temperature) for one in of_temperature]
    if skipped := sorted({k for k in ks if k > num_samples}):
        part["skipped_ks"] = skipped
    return part, records


def summarise(graded: Sequence[Graded], ks: Sequence[int], seed: int = 0) -> dict[str, Any]:
    """pass@k, majority vote and diversity over problems, with pass@k by family and the law that pass@k follows.

    Diversity is of the samples of a problem, in words: ``distinct_2``, ``self_bleu`` and ``vendi_score``.
    """
    num_P = np.array([len(one.answers) for one in graded])
    correct_P = np.array([one.num_correct for one in graded])
    curves = {str(k): pass_at_k(num_P, correct_P, k) for k in sorted(set(ks)) if k <= num_P.min()}
    law = fit_coverage([int(k) for k in curves], [float(pass_P.mean()) for pass_P in curves.values()])
    return {
        "pass_at": {k: mean(pass_P, seed=seed).as_dict() for k, pass_P in curves.items()},
        "majority": mean([one.majority for one in graded], seed=seed).as_dict(),
        "coverage_law": None if law is None else asdict(law),
        **({"missing": {"coverage_law": _NO_LAW}} if law is None else {}),
        "unique_correct": mean([one.unique_correct for one in graded], seed=seed).as_dict(),
        "answer_entropy_nats": mean([one.answer_entropy_nats for one in graded], seed=seed).as_dict(),
        **_diversity(graded, seed),
        "by_family": _by_family(graded, curves),
    }


def _diversity(graded: Sequence[Graded], seed: int) -> dict[str, Any]:
    words = [[text.split() for text in one.completions] for one in graded]
    measured = {
        "distinct_2": [distinct_n(samples, 2) for samples in words],
        "vendi_score": [vendi_score(ngram_similarity(samples)) for samples in words],
    }
    if all(len(samples) > 1 for samples in words):
        measured["self_bleu"] = [self_bleu(samples) for samples in words]
    return {name: mean(values, seed=seed).as_dict() for name, values in measured.items()}


def _by_family(graded: Sequence[Graded], curves: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    family_P = np.array([one.problem.family for one in graded])
    return {
        str(family): {k: float(pass_P[family_P == family].mean()) for k, pass_P in curves.items()}
        for family in sorted(set(family_P.tolist()))
    }


def _num_right(answers: Sequence[str | None]) -> int:
    return sum(answer is not None for answer in answers)
