"""Parts of an evaluation that come from outside the study: benchmarks, counterfactual files, the harness' tasks."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.config import EvaluationConfig
from stillroom.evaluation import (
    Benchmark,
    load_benchmark,
    measure_benchmark,
    measure_counterfactual,
    read_counterfactuals,
    sample,
)
from stillroom.evaluation.measuring.benchmarks import gsm8k, mbpp
from stillroom.evaluation.measuring.made_problems import program_problems, word_problems
from stillroom.evaluation.sampling.draw import Sampler
from stillroom.evaluation.sampling.vllm_client import OutOfProcess
from stillroom.evaluation.suites.tts import attempts_of
from stillroom.files import file_hash, read_json, write_json, write_text
from stillroom.results.json_form import Json, as_json
from stillroom.results.statistics import NotFiniteError, require_finite_parts
from stillroom.strict import nearest
from stillroom.types import OnProgress, UserError

Made = tuple[object, Sequence[object]]
"""What was measured, and its samples."""

_MADE_HERE = {"word-problems": (word_problems, gsm8k), "programs": (program_problems, mbpp)}
_PUBLISHED = ("gsm8k", "math500", "mbpp")


@dataclass(frozen=True)
class External:
    """What is measured beside the suites of an ``EvaluationConfig``."""

    benchmarks: tuple[tuple[str, str], ...] = ()
    """(name, source) pairs; the source is a file or ``hub``, and empty where the problems are made here."""
    counterfactual: Path | None = None
    """A file of records for ``read_counterfactuals``."""
    lm_eval: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness."""
    lm_eval_data: Path | None = None
    """A folder laid out as the hub lays out its datasets, read instead of it."""
    vllm: Path | None = None
    """A Python that has vLLM: samples are drawn there, from the model's folder."""
    limit: int | None = None
    """First problems of each benchmark, items of each task; None means ``problems`` and all."""

    def sampler(self, model_folder: Path) -> Sampler:
        """What draws samples from the model of this folder."""
        return sample if self.vllm is None else OutOfProcess(self.vllm, model_folder)

    def check(self, config: EvaluationConfig) -> None:
        """Reads what is asked for, so that a mistake in it is told before anything is computed."""
        for name, source in self.benchmarks:
            _benchmark(name, source, self.limit or config.problems, config.seed).setup()
        if self.counterfactual is not None:
            read_counterfactuals(str(self.counterfactual))
        for task in self.lm_eval:
            _require_harness(task)

    def identity(self) -> dict[str, object]:
        """What determines the results, with the contents of files."""
        files = [Path(source) for _, source in self.benchmarks if source]
        files += [] if self.counterfactual is None else [self.counterfactual]
        return {
            "benchmarks": self.benchmarks,
            "lm_eval": self.lm_eval,
            "limit": self.limit,
            "vllm": self.vllm is not None,
            "files": [file_hash(file) for file in files if file.is_file()],
        }


def parse_benchmarks(asked: list[str]) -> tuple[tuple[str, str], ...]:
    """(name, source) pairs from ``NAME=FILE`` or ``NAME=hub``, or ``NAME`` alone for problems that are made here."""
    pairs = []
    for one in asked:
        name, _, source = one.partition("=")
        if name not in (*_PUBLISHED, *_MADE_HERE):
            raise UserError(f"--benchmark {one}: {name} is not known{nearest(name, [*_PUBLISHED, *_MADE_HERE])}.")
        if (name in _PUBLISHED) != bool(source):
            form = f"{name}=FILE or {name}=hub" if name in _PUBLISHED else f"{name} alone, it is made here"
            raise UserError(f"--benchmark {one}: expected {form}.")
        if name in dict(pairs):
            raise UserError(f"--benchmark {one}: {name} is asked for twice; expected each once, in a run of its own.")
        pairs.append((name, source))
    return tuple(pairs)


def evaluate_external(
    folder: Path,
    model_folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    external: External,
    progress: OnProgress,
) -> dict[str, Json]:
    """The parts that ``external`` asks for: ``benchmarks``, ``counterfactual_file`` and ``lm_eval``.

    Each is kept in ``folder`` as it is done and not done again.
    """
    parts: dict[str, Any] = {}
    for path, make in _jobs(model_folder, model, tokenizer, config, external, progress):
        cached = folder / f"suite-{'-'.join(path)}.json"
        if not cached.exists():
            with measuring(" ".join(path)):
                found, records = make()
                value = as_json(found)
                require_finite_parts(value)
            if records:
                lines = (json.dumps(as_json(record), ensure_ascii=False) + "\n" for record in records)
                write_text(folder / f"samples-{path[-1]}.jsonl", "".join(lines))
            write_json(cached, value)
        inside = parts
        for name in path[:-1]:
            inside = inside.setdefault(name, {})
        inside[path[-1]] = read_json(cached)
    return parts


@contextlib.contextmanager
def measuring(what: str) -> Iterator[None]:
    """Says what was measured when scores were not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"{what}: {error}") from error


def _jobs(
    model_folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    external: External,
    progress: OnProgress,
) -> Iterator[tuple[tuple[str, ...], Callable[[], Made]]]:
    for name, source in external.benchmarks:
        benchmark = _benchmark(name, source, external.limit or config.problems, config.seed)
        yield (
            ("benchmarks", name),
            lambda benchmark=benchmark: measure_benchmark(
                model,
                tokenizer,
                benchmark,
                attempts_of(config),
                config.ks,
                sampler=external.sampler(model_folder),
                progress=progress,
            ),
        )
    if external.counterfactual is not None:
        items = read_counterfactuals(str(external.counterfactual))[: external.limit]
        yield (
            ("counterfactual_file",),
            lambda: measure_counterfactual(model, tokenizer, items, seed=config.seed, progress=progress),
        )
    for task in external.lm_eval:
        yield ("lm_eval", task), lambda task=task: (_harness(model, tokenizer, config, external, task), [])


def _benchmark(name: str, source: str, num: int, seed: int) -> Benchmark:
    if name in _MADE_HERE:
        make, load = _MADE_HERE[name]
        return load(make(num, seed))
    return load_benchmark(name, source, num=num)


def _require_harness(task: str) -> None:
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(f"--lm-eval {task}: lm-evaluation-harness is not installed; pip install 'stillroom[lm-eval]'.")


def _harness(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluationConfig,
    external: External,
    task: str,
) -> object:
    _require_harness(task)
    from stillroom.evaluation.harness import HarnessModel, run_harness

    adapter = HarnessModel(model, tokenizer, seed=config.seed)
    lengths = {"max_seq_lengths": [min(adapter.max_length, 4096)]} if task.startswith("niah") else None
    return run_harness(adapter, [task], data=external.lm_eval_data, limit=external.limit, metadata=lengths)
