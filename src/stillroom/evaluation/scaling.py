"""Test-time scaling: what more samples buy on problems whose answers are verified.

Letters: P problems, n samples of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.evaluation.coverage import entropy_nats, pass_at_k
from stillroom.evaluation.sampling import ROWS_AT_A_TIME, Sampling, sample
from stillroom.evaluation.scoring import Progress
from stillroom.evaluation.statistics import mean, paired_difference
from stillroom.evaluation.vocabulary import Vocabulary, encode
from stillroom.types import Estimate, UserError
from stillroom.worlds.base import Problem


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
        """Entropy of all answers, right or wrong; a wrong one is told from another by its text."""
        return entropy_nats(
            ("wrong", text.strip()) if answer is None else ("right", answer)
            for text, answer in zip(self.completions, self.answers, strict=True)
        )

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
    rows_at_a_time: int = ROWS_AT_A_TIME,
    progress: Progress | None = None,
) -> list[list[Graded]]:
    """Samples of every problem for every setting, graded: ``result[setting][problem]``.

    A completion is the text up to the first newline or end of document; one that reaches neither has no answer.
    """
    vocabulary = Vocabulary.of(tokenizer)
    prompts = [[*vocabulary.start, *ids] for ids in encode(tokenizer, [problem.prompt for problem in problems])]
    drawn = sample(
        model,
        prompts,
        num_samples=num_samples,
        max_new_tokens=max_new_tokens,
        settings=settings,
        stop=vocabulary.line_ends,
        seed=seed,
        rows_at_a_time=rows_at_a_time,
        progress=progress,
    )
    graded = []
    for of_setting in drawn:
        lines = [tuple(vocabulary.line(ids) for ids in samples.tokens) for samples in of_setting]
        ended = [samples.stopped for samples in of_setting]
        graded.append([_grade(*parts) for parts in zip(problems, lines, ended, strict=True)])
    return graded


def _grade(problem: Problem, completions: tuple[str, ...], stopped: tuple[bool, ...]) -> Graded:
    """Answers of the completions that ended by themselves; one cut off by the limit has not answered yet."""
    ended = {text for text, stop in zip(completions, stopped, strict=True) if stop}
    answer_of = {text: problem.grade(text) for text in ended}
    answers = (answer_of[text] if stop else None for text, stop in zip(completions, stopped, strict=True))
    return Graded(problem, completions, tuple(answers))


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
    rows_at_a_time: int = ROWS_AT_A_TIME,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The ``tts`` part of an evaluation, and one record per problem and temperature with every sample.

    A k above ``num_samples`` is left out and named in ``skipped_ks``. Intervals are over problems.
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
    """pass@k, unique right answers and answer entropy over problems, with pass@k by family."""
    num_P = np.array([len(one.answers) for one in graded])
    correct_P = np.array([one.num_correct for one in graded])
    curves = {str(k): pass_at_k(num_P, correct_P, k) for k in sorted(set(ks)) if k <= num_P.min()}
    return {
        "pass_at": {k: mean(pass_P, seed=seed).as_dict() for k, pass_P in curves.items()},
        "unique_correct": mean([one.unique_correct for one in graded], seed=seed).as_dict(),
        "answer_entropy_nats": mean([one.answer_entropy_nats for one in graded], seed=seed).as_dict(),
        "by_family": _by_family(graded, curves),
    }


def _by_family(graded: Sequence[Graded], curves: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    family_P = np.array([one.problem.family for one in graded])
    return {
        str(family): {k: float(pass_P[family_P == family].mean()) for k, pass_P in curves.items()}
        for family in sorted(set(family_P.tolist()))
    }


def compare_samples(
    first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]], *, temperature: float, k: int, seed: int = 0
) -> tuple[Estimate, float]:
    """pass@k of one model minus that of another over the same problems, and the p-value that they are alike.

    ``first`` and ``second`` are the records of two evaluations (``samples.jsonl``). Problems differ far more than arms
    do, so the difference is taken problem by problem; see ``paired_difference``.
    """
    by_prompt = [
        {record["prompt"]: record["answers"] for record in records if record["temperature"] == temperature}
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
