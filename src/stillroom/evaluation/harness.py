"""Our models behind lm-evaluation-harness's interface: its tasks on the scoring and sampling of this package.

Needs the extra ``lm-eval`` and is imported only where that is asked for. Its MBPP runs model-written programs in the
process that judges them; here they run in the sandbox instead.
"""

from __future__ import annotations

import contextlib
import math
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]
from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore[reportMissingImports]
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.evaluation.measuring.benchmarks import passes_tests, program_task
from stillroom.evaluation.sampling.draw import Sampling, SamplingRequest, sample
from stillroom.evaluation.sampling.stops import StopTexts
from stillroom.evaluation.scoring import TOKENS_AT_A_TIME, Continuation, score_continuations
from stillroom.models import num_positions
from stillroom.results.schema import HarnessNumber
from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary, encode_documents

_NO_LIMIT = 1 << 30
_NORMAL_95 = 1.959964


class HarnessModel(TemplateLM):
    """A causal model and its tokenizer, as the harness wants them.

    With ``opens`` every text begins with the bos token, as every document did in training; without it texts are
    encoded as the harness' own ``HFLM`` encodes them. Texts beyond the model's positions lose their beginning.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        opens: bool = True,
        max_new_tokens: int = 256,
        tokens_at_a_time: int = TOKENS_AT_A_TIME,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self._vocabulary = Vocabulary.of(tokenizer)
        self._start = self._vocabulary.start if opens else []
        self._max_new_tokens, self._tokens_at_a_time, self._seed = max_new_tokens, tokens_at_a_time, seed

    @property
    def eot_token_id(self) -> int:
        """The id that ends a document."""
        return self._vocabulary.eos if self._vocabulary.eos is not None else 0

    @property
    def prefix_token_id(self) -> int:
        """The id that stands for an empty context."""
        return self._vocabulary.bos if self._vocabulary.bos is not None else self.eot_token_id

    @property
    def max_length(self) -> int:
        """Positions of the model, in tokens."""
        return num_positions(self.model.config) or _NO_LIMIT

    @property
    def tokenizer_name(self) -> str:
        """What the harness keys its caches by."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **unused: Any) -> list[int]:
        """Token ids of a text, opened as a document unless told otherwise."""
        del unused
        (ids,) = encode_documents(self.tokenizer, [string])
        return ids if add_special_tokens is False else [*self._start, *ids]

    def tok_decode(self, tokens: Sequence[int], **unused: Any) -> str:
        """The text of token ids."""
        del unused
        return self._vocabulary.text(tokens)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **unused: Any
    ) -> list[tuple[float, bool]]:
        del unused
        items = [self._fitting(context, continuation) for _, context, continuation in requests]
        scores = score_continuations(self.model, items, tokens_at_a_time=self._tokens_at_a_time)
        answers = list(zip(scores.logprob_I.tolist(), scores.greedy_I.tolist(), strict=True))
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def _fitting(self, context: Sequence[int], continuation: Sequence[int]) -> Continuation:
        room = self.max_length + 1 - len(continuation)
        if room < 1:
            raise UserError(
                f"lm-eval: an answer has {len(continuation)} tokens but the model has {self.max_length} positions."
            )
        return Continuation(tuple(context[-room:]), tuple(continuation))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability in nats of whole texts, each in windows of as many positions as the model has."""
        del disable_tqdm
        totals = []
        for (text,) in (request.args for request in requests):
            windows = map(
                make_disjoint_window,
                get_rolling_token_windows(
                    token_list=self.tok_encode(text, add_special_tokens=False),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length,
                    context_len=1,
                ),
            )
            items = [self._fitting(context, continuation) for context, continuation in windows]
            scores = score_continuations(self.model, items, tokens_at_a_time=self._tokens_at_a_time)
            totals.append(float(scores.logprob_I.sum()))
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context, up to the texts that the request names; they are not in it."""
        del disable_tqdm
        alike: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(self._settings(request.args[1]), []).append(place)
        written = [""] * len(requests)
        for (stops, most, temperature, top_p), places in alike.items():
            contexts = [requests[place].args[0] for place in places]
            for place, text in zip(places, self._write(contexts, stops, most, temperature, top_p), strict=True):
                written[place] = text
                self.cache_hook.add_partial("generate_until", requests[place].args, text)
        return written

    def _settings(self, asked: Mapping[str, Any]) -> tuple[tuple[str, ...], int, float, float | None]:
        until = asked.get("until") or ()
        stops = (until,) if isinstance(until, str) else tuple(until)
        most = int(asked.get("max_gen_toks") or asked.get("max_new_tokens") or self._max_new_tokens)
        temperature = float(asked.get("temperature") or 0.0)
        if not asked.get("do_sample", temperature > 0):
            temperature = 0.0
        elif not temperature:
            temperature = 1.0
        return stops, min(most, self.max_length - 1), temperature, asked.get("top_p")

    def _write(
        self, contexts: Sequence[str], stops: tuple[str, ...], most: int, temperature: float, top_p: float | None
    ) -> list[str]:
        texts = StopTexts(stops, self._vocabulary.pieces)
        prompts = [
            self.tok_encode(context)[-(self.max_length - most) :] or [self.prefix_token_id] for context in contexts
        ]
        request = SamplingRequest(
            prompts=prompts,
            num_samples=1,
            max_new_tokens=most,
            settings=[Sampling(temperature, top_p=top_p)],
            stop=self._vocabulary.document_ends,
            stop_texts=texts,
            seed=self._seed,
        )
        (drawn,) = sample(self.model, request)
        return [texts.text(samples.tokens[0], self._vocabulary.eos) for samples in drawn]


def _mbpp_result(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    return {"acc": float(passes_tests(doc)(results[0]) is not None)}


SANDBOXED_MBPP: dict[str, Any] = {
    "task": "mbpp_sandboxed",
    "dataset_path": "google-research-datasets/mbpp",
    "dataset_name": "full",
    "output_type": "generate_until",
    "test_split": "test",
    "fewshot_split": "prompt",
    "num_fewshot": 3,
    "fewshot_config": {"sampler": "first_n"},
    "doc_to_text": program_task,
    "doc_to_target": "{{code}}\n[DONE]",
    "target_delimiter": "",
    "process_results": _mbpp_result,
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "generation_kwargs": {"until": ["[DONE]"], "do_sample": False},
    "metadata": {"version": 1.0},
}
"""The harness' MBPP with the three shots of its prompt split, and its tests run in the sandbox; ``acc`` is pass@1."""


def run_harness(
    model: HarnessModel,
    tasks: Sequence[str | Mapping[str, Any]],
    *,
    data: Path | None = None,
    limit: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, HarnessNumber]]:
    """Task → metric → value, its 95 % interval from the harness' standard error, and the number of items.

    Arguments:
        model: What is measured.
        tasks: Names of the harness' tasks, or configurations; ``mbpp`` stands for ``SANDBOXED_MBPP``.
        data: A folder laid out as the hub lays out its datasets (``Rowan/hellaswag/...``); read instead of the hub.
        limit: First items of every task; None means all.
        metadata: What tasks that make their own items are told, such as ``max_seq_lengths``.
    """
    asked = [SANDBOXED_MBPP if task == "mbpp" else task for task in tasks]
    told = {"tokenizer": model.tokenizer.name_or_path, **(metadata or {})}
    with _beside(data):
        try:
            found = simple_evaluate(
                model, tasks=asked, limit=limit, metadata=told, bootstrap_iters=1000, log_samples=False
            )
        except UserError:
            raise
        except Exception as error:  # whatever the harness, its tasks and the data behind them may raise
            if _is_of(error, HarnessModel):
                raise
            said = error.args[0] if isinstance(error, KeyError) and error.args else error  # its text is in quotes
            reason = str(said).split("\n", 1)[0].strip(" .")
            raise UserError(f"lm-eval: {', '.join(map(str, tasks))} could not be loaded ({reason}).") from error
    assert found is not None  # this process is the only rank
    numbers = found["n-samples"]
    return {task: _metrics(of_task, numbers.get(task, {})) for task, of_task in found["results"].items()}


def _is_of(error: BaseException, model: type) -> bool:
    """Whether an error arose inside a model of ours, where none is expected, and not in what surrounds it."""
    ours = {method.__code__ for method in vars(model).values() if hasattr(method, "__code__")}
    return any(frame.f_code in ours for frame, _ in traceback.walk_tb(error.__traceback__))


def _metrics(of_task: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, HarnessNumber]:
    """Estimates by metric; a filter is named where it is not the only one.

    A number that the harness does not give, or gives as NaN, is None and ``missing`` says why.
    """
    made: dict[str, HarnessNumber] = {}
    for key, value in of_task.items():
        name, _, chosen = key.partition(",")
        if not chosen or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        label = name if chosen == "none" else f"{name} ({chosen})"
        made[label] = _estimate(value, of_task.get(f"{name}_stderr,{chosen}"), numbers.get("effective", 0))
    return made


def _estimate(value: float, error: Any, num: int) -> HarnessNumber:
    if not math.isfinite(value):
        reason: dict[str, str] = dict.fromkeys(("value", "low", "high"), f"the harness gives {value}")
        return HarnessNumber(value=None, low=None, high=None, num=num, missing=reason)
    if not isinstance(error, int | float) or not math.isfinite(error):
        reason = dict.fromkeys(("low", "high"), "the harness gives no standard error")
        return HarnessNumber(value=value, low=None, high=None, num=num, missing=reason)
    width = _NORMAL_95 * error
    return HarnessNumber(value=value, low=value - width, high=value + width, num=num)


@contextlib.contextmanager
def _beside(folder: Path | None) -> Iterator[None]:
    """Datasets named by relative paths are looked for in ``folder``: the library prefers a folder of that name."""
    before = os.getcwd()
    try:
        if folder is not None:
            if not folder.is_dir():
                raise UserError(f"--lm-eval-data {folder}: is no folder; expected one laid out as the hub's datasets.")
            os.chdir(folder)
        yield
    finally:
        os.chdir(before)
