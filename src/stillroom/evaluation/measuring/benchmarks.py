"""GSM8K, MATH500 and MBPP from a local file or the hub, graded as they are meant to be.

Records have the field names of the published sets; the same forms serve problems of one's own (``made_problems``).
"""

from __future__ import annotations

import ast
import importlib.util
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.cores import num_cores
from stillroom.evaluation.grading.answers import last_number
from stillroom.evaluation.grading.code.judge import Limits, Setting, parse_check, passes_checks, require_sandbox
from stillroom.evaluation.grading.code.values import parse_python
from stillroom.evaluation.measuring.problem_files import Hub, checked_records, read_problem_records
from stillroom.evaluation.measuring.test_time_scaling import Attempts, measure_scaling
from stillroom.evaluation.sampling.draw import Sampler, sample
from stillroom.models import num_positions
from stillroom.results.schema import SampledProblem, ScalingResult
from stillroom.types import OnProgress, UserError
from stillroom.vocabulary import encode
from stillroom.worlds.base import Problem

_MATH_SECONDS = 5
_LIMITS = Limits(wall_seconds=20.0, cpu_seconds=12)
"""Three times what the slowest of MBPP's own programs takes on an idle processor: a busy one may take twice as long."""
FIELDS = {"gsm8k": ("question", "answer"), "math500": ("problem", "answer"), "mbpp": ("test_list",)}
HUB: dict[str, Hub] = {
    "gsm8k": ("openai/gsm8k", "main", "test"),
    "math500": ("HuggingFaceH4/MATH-500", None, "test"),
    "mbpp": ("google-research-datasets/mbpp", "full", "test"),
}


@dataclass(frozen=True)
class Benchmark:
    """Problems whose completions run over several lines."""

    name: str
    problems: tuple[Problem, ...]
    stops: tuple[str, ...]
    """Texts at which a completion ends; the end of a document ends it too."""
    max_new_tokens: int
    skipped: int = 0
    """Records left out because nothing outside the judged program could check them (``parse_check``)."""
    waits: bool = False
    """Whether grading waits for another process, so that several threads pay."""
    setup: Callable[[], object] = field(default=lambda: None)
    """Raises a ``UserError`` where this machine cannot grade; called before anything is sampled."""


def load_benchmark(
    name: str, source: str, *, num: int | None = None, shots: Sequence[Mapping[str, Any]] = ()
) -> Benchmark:
    """A benchmark by name: the first ``num`` records of ``source``, after worked examples (``shots``) where given.

    Raises ``UserError`` where the name is not known, or the source is missing or holds other records.
    """
    loaders = {"gsm8k": gsm8k, "math500": math500, "mbpp": mbpp}
    if name not in loaders:
        raise UserError(f"benchmark {name}: is not known, expected one of {', '.join(loaders)}.")
    records = read_problem_records(source, name, FIELDS[name], HUB[name])
    return loaders[name](records[:num], shots)


def gsm8k(records: Iterable[Mapping[str, Any]], shots: Sequence[Mapping[str, Any]] = ()) -> Benchmark:
    """Word problems with fields ``question`` and ``answer``, the latter ending in ``#### number``.

    Right is a completion whose number after ``####``, or last number where it has no such mark, equals the answer's.
    """
    before = "".join(f"Question: {shot['question']}\nAnswer: {shot['answer']}\n\n" for shot in shots)
    problems = [
        Problem("gsm8k", f"{before}Question: {record['question']}\nAnswer:", _same_number(record["answer"]))
        for record in checked_records(records, "gsm8k")
    ]
    return Benchmark("gsm8k", tuple(problems), ("\nQuestion:", "\n\n"), 256)


def _same_number(answer: str) -> Callable[[str], str | None]:
    right = last_number(answer)
    assert right is not None  # as its form asks
    return lambda completion: f"{right:f}" if last_number(completion) == right else None


def math500(records: Iterable[Mapping[str, Any]], shots: Sequence[Mapping[str, Any]] = ()) -> Benchmark:
    """Competition problems with fields ``problem`` and ``answer`` (LaTeX), graded by math-verify (extra ``math``).

    Equality of mathematical expressions is its verifier's to say; without it nothing is graded.
    """
    require_math_verify()
    before = "".join(f"Problem: {shot['problem']}\nSolution: {shot['solution']}\n\n" for shot in shots)
    problems = [
        Problem("math500", f"{before}Problem: {record['problem']}\nSolution:", _same_expression(record["answer"]))
        for record in checked_records(records, "math500")
    ]
    return Benchmark("math500", tuple(problems), ("\nProblem:",), 512, setup=require_math_verify)


def require_math_verify() -> None:
    """A ``UserError`` where math-verify is not installed."""
    if importlib.util.find_spec("math_verify") is None:
        raise UserError(
            "math500: answers are graded by math-verify, which is not installed; pip install 'stillroom[math]'."
        )


def _same_expression(answer: str) -> Callable[[str], str | None]:
    from math_verify import parse, verify  # pyright: ignore[reportMissingImports]

    right = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)

    def grade(completion: str) -> str | None:
        # Its clock is an alarm signal, which only the main thread may set.
        seconds = _MATH_SECONDS if threading.current_thread() is threading.main_thread() else None
        try:
            found = parse(completion, parsing_timeout=seconds)
            return answer if found and verify(right, found, timeout_seconds=seconds) else None
        except Exception:  # the parser meets arbitrary text
            return None

    return grade


def mbpp(records: Iterable[Mapping[str, Any]], shots: Sequence[Mapping[str, Any]] = ()) -> Benchmark:
    """Program synthesis: ``text`` or ``prompt``, asserts in ``test_list``, and ``code`` where a record is a shot.

    A completion passes when it gives the value that every assert names, run in the sandbox and judged outside. The
    answer of one that passes is the program without comments and layout, so that different programs are told apart.
    """
    before = "".join(f"{program_task(shot)}{shot['code'].strip()}\n[DONE]\n\n" for shot in shots)
    problems, skipped = [], 0
    for record in checked_records(records, "mbpp"):
        try:
            problems.append(Problem("mbpp", before + program_task(record), passes_tests(record)))
        except UserError:
            skipped += 1
    if not problems:
        raise UserError("mbpp: no record has tests that compare a call with a literal, expected at least one.")
    return Benchmark("mbpp", tuple(problems), ("[DONE]", "\n\n\n"), 256, skipped, waits=True, setup=require_sandbox)


def program_task(record: Mapping[str, Any]) -> str:
    """The prompt of an MBPP record, as its authors put it."""
    tests = "\n".join(record["test_list"])
    wanted = record.get("text") or record["prompt"]
    return (
        f"You are an expert Python programmer, and here is your task: {wanted} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def passes_tests(record: Mapping[str, Any]) -> Callable[[str], str | None]:
    """A grader that runs a record's tests on a completion: the normal form of a program that passes, else None.

    As its authors run it, the set-up code comes after the program. Where that fails the set-up code comes first, all of
    it that does not need a name of the program's.
    """
    imports = "\n".join(record.get("test_imports") or ())
    setup = str(record.get("test_setup_code") or "")
    first = Setting(before=imports, after=setup)
    settings = (first, Setting(before=f"{imports}\n{setup}")) if setup.strip() else (first,)
    checks = [parse_check(part, first) for test in record["test_list"] for part in _statements(test)]

    def grade(completion: str) -> str | None:
        normal = normal_program(completion)
        return normal if normal is not None and passes_checks(completion, checks, _LIMITS, settings=settings) else None

    return grade


def _statements(test: str) -> list[str]:
    """The statements of a test, which may be several asserts; the test itself where it is no Python."""
    try:
        return [ast.unparse(statement) for statement in parse_python(test.strip()).body] or [test]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [test]


def normal_program(text: str) -> str | None:
    """A program without its comments and layout; None where it is no Python."""
    try:
        return ast.unparse(parse_python(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def measure_benchmark(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: Benchmark,
    attempts: Attempts,
    ks: Sequence[int],
    *,
    sampler: Sampler = sample,
    progress: OnProgress | None = None,
) -> tuple[ScalingResult, list[SampledProblem]]:
    """What ``measure_scaling`` gives for a benchmark, and its records; the benchmark says what ends a completion.

    Problems that the model's positions cannot hold with their completion are left out and counted in ``too_long``;
    ``skipped`` counts the records that could not be judged. Raises ``UserError`` where no problem fits.
    """
    benchmark.setup()
    longest = num_positions(model.config)
    lengths = [
        len(ids) + 1 + benchmark.max_new_tokens for ids in encode(tokenizer, [p.prompt for p in benchmark.problems])
    ]
    kept = [p for p, length in zip(benchmark.problems, lengths, strict=True) if longest is None or length <= longest]
    if not kept:
        raise UserError(
            f"{benchmark.name}: the shortest problem takes {min(lengths)} tokens with its completion but the model has "
            f"{longest} positions; give fewer shots or a model with more positions."
        )
    attempts = replace(
        attempts,
        max_new_tokens=benchmark.max_new_tokens,
        stops=benchmark.stops,
        workers=num_cores() if benchmark.waits else 1,
    )
    part, records = measure_scaling(model, tokenizer, kept, attempts, ks, sampler=sampler, progress=progress)
    return replace(part, skipped=benchmark.skipped, too_long=len(benchmark.problems) - len(kept)), records
