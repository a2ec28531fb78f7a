"""Draws many completions of every prompt; a sample is a function of the seed, its prompt and its number alone.

Letters: P prompts, n samples of each, R rows (live samples), C most new tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.evaluation.sampling.llama_cache import Prefix, encode_prompts, has_own_engine
from stillroom.evaluation.sampling.stops import StopTexts
from stillroom.evaluation.scoring import check_positions, evaluating
from stillroom.results.statistics import NotFiniteError
from stillroom.types import OnProgress

ROWS_AT_A_TIME = 512
"""Samples drawn together: enough to fill the processor, few enough that what a layer writes stays in its cache."""
CACHE_BYTES = 4 << 30
"""Most memory that the batches drawn at once on a processor's cores are to take together; one prompt's samples may take
more, as they stay in one batch."""
_VOCABULARY_ROWS = 4
"""Arrays of (R, V) fp32 that are alive while tokens are drawn: logits, probabilities and their running sum."""
_COMPACT_BELOW = 0.85


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from the model's distribution."""

    temperature: float = 1.0
    """The logits are divided by it; 0 takes the most likely token (greedy)."""
    top_k: int | None = None
    """Only the k most likely tokens."""
    top_p: float | None = None
    """Only the smallest set of most likely tokens that holds this much probability."""
    min_p: float | None = None
    """Only tokens at least this likely, relative to the most likely one."""

    def __post_init__(self) -> None:
        for name, value, inside in (
            ("temperature", self.temperature, self.temperature >= 0),
            ("top_k", self.top_k, self.top_k is None or self.top_k >= 1),
            ("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1),
            ("min_p", self.min_p, self.min_p is None or 0 <= self.min_p <= 1),
        ):
            if not inside:
                raise ValueError(f"{name} is {value}, outside its range")


@dataclass(frozen=True)
class Samples:
    """Completions of one prompt, in the order of their numbers.

    ``tokens[i]`` ends with the token that stopped it, or that completed a stop text, where one did before the limit.
    ``logprobs[i]`` is the log-probability in nats of the whole completion under the distribution that it was drawn
    from.
    """

    tokens: tuple[tuple[int, ...], ...]
    stopped: tuple[bool, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SamplingRequest:
    """What is drawn: ``num_samples`` completions of every prompt for every setting."""

    prompts: Sequence[Sequence[int]]
    """Token ids, at least one each."""
    num_samples: int
    """n, samples of each prompt."""
    max_new_tokens: int
    """C, after which a sample is cut."""
    settings: Sequence[Sampling]
    """One pass of sampling for each."""
    stop: Collection[int]
    """Ids that end a sample."""
    seed: int
    stop_texts: StopTexts | None = None
    """Texts that end a sample as well."""
    rows_at_a_time: int = ROWS_AT_A_TIME
    """Most samples drawn together; fewer of a model whose caches would not fit ``CACHE_BYTES``."""


class Sampler(Protocol):
    """Draws what ``sample`` draws: it itself, or another process (``OutOfProcess``)."""

    def __call__(
        self, model: PreTrainedModel, request: SamplingRequest, progress: OnProgress | None = None
    ) -> list[list[Samples]]:
        """See ``sample``."""
        ...


def sample(model: PreTrainedModel, request: SamplingRequest, progress: OnProgress | None = None) -> list[list[Samples]]:
    """Completions of every prompt for every setting: ``result[setting][prompt]``. The model is left as it was.

    Prompts are encoded once for all samples and settings; a sample leaves the batch when it ends. The uniform numbers
    behind a sample depend on the seed, the prompt's ids and the sample's number, not on the setting, the model or the
    batch, so that settings and models are compared on common random numbers. ``rows_at_a_time`` changes the speed
    alone (up to the rounding of the processor's matrix products). ``progress`` hears of samples.
    """
    prompts, settings, num_samples = request.prompts, request.settings, request.num_samples
    # the last token is not read again
    longest = max((len(prompt) for prompt in prompts), default=0) + request.max_new_tokens - 1
    check_positions(model, longest, f"evaluation: the longest prompt and max_new_tokens {request.max_new_tokens},")
    is_stop_V = torch.zeros(model.config.get_text_config().vocab_size, dtype=torch.bool, device=model.device)
    is_stop_V[[i for i in request.stop if i < len(is_stop_V)]] = True  # ids beyond the model's are never drawn
    halt = threading.Event()

    def drawn(indices: list[int]) -> list[list[Samples]]:
        """Samples of these prompts, for every setting."""
        batch = [prompts[i] for i in indices]
        with torch.inference_mode():  # which is a thread's own
            prefix = encode_prompts(model, batch)
            uniform_PnC = _uniforms(request.seed, batch, num_samples, request.max_new_tokens).to(model.device)
            return [_complete(prefix, one, uniform_PnC, is_stop_V, request.stop_texts, halt) for one in settings]

    batches, workers = _divided(model, request)
    results: list[dict[int, Samples]] = [{} for _ in settings]
    with evaluating(model), _on_cores(workers, halt) as over:
        for indices, of_batch in zip(batches, over(drawn, batches), strict=True):
            for result, samples in zip(results, of_batch, strict=True):
                result |= zip(indices, samples, strict=True)
            if progress:
                progress(*(num_samples * len(settings) * num for num in (len(results[0]), len(prompts))))
    return [[row[place] for place in range(len(prompts))] for row in results]


def _divided(model: PreTrainedModel, request: SamplingRequest) -> tuple[list[list[int]], int]:
    """Batches of prompts, and how many of them are drawn at once: as many as there are cores, or one.

    The products of small models are too short to be worth dividing among cores: batches of their own keep every core
    busy between the products as well. What they hold together is bounded, so that it does not grow with the cores.
    """
    prompts, num_samples = request.prompts, request.num_samples
    per_batch = max(1, request.rows_at_a_time // num_samples)
    if model.device.type != "cpu" or not has_own_engine(model) or not prompts:
        return list(_like_length(prompts, per_batch)), 1
    fitting = CACHE_BYTES // _bytes_of_prompt(model, max(map(len, prompts)), num_samples, request.max_new_tokens)
    for workers in (max(1, min(torch.get_num_threads(), fitting)), 1):
        batches = list(_like_length(prompts, max(1, min(per_batch, fitting // workers))))
        if len(batches) >= workers:
            break
    return batches, workers


def _bytes_of_prompt(model: PreTrainedModel, length: int, num_samples: int, capacity: int) -> int:
    """Memory of all samples of one prompt at their full length: keys and values of every layer, and distributions."""
    config = model.config.get_text_config()
    width = config.num_key_value_heads * config.head_dim
    per_token = 2 * config.num_hidden_layers * width * model.dtype.itemsize
    return per_token * (length + num_samples * capacity) + 4 * _VOCABULARY_ROWS * config.vocab_size * num_samples


@contextlib.contextmanager
def _on_cores(workers: int, halt: threading.Event) -> Iterator[Callable[..., Iterable[list[list[Samples]]]]]:
    """``map``, or one that draws several batches at once, each on a core of its own.

    Leaving the block by an exception sets ``halt``, so that no batch that is under way is waited for.
    """
    if workers == 1:
        yield map
        return
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                yield pool.map
            except BaseException:
                halt.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(cores)


def _like_length(prompts: Sequence[Sequence[int]], per_batch: int) -> Iterator[list[int]]:
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    for start in range(0, len(order), per_batch):
        yield order[start : start + per_batch]


def _uniforms(seed: int, prompts: Sequence[Sequence[int]], num_samples: int, length: int) -> Tensor:
    """Uniform numbers (P, n, C) in [0, 1), fp32; each row from a generator of its own."""
    keys = [zlib.crc32(np.asarray(prompt, dtype="<i8").tobytes()) for prompt in prompts]
    rows = [
        np.random.default_rng([seed, key, number]).random(length, dtype=np.float32)
        for key in keys
        for number in range(num_samples)
    ]
    return torch.from_numpy(np.stack(rows)).view(len(prompts), num_samples, length)


def probabilities(logits_RV: Tensor, setting: Sampling) -> Tensor:
    """The distribution (R, V), fp32, that a setting draws from.

    Temperature first, then top-k, top-p and min-p, each on what the one before has left, as transformers does. A tie
    at the border of top-k is kept whole.
    """
    if setting.temperature == 0:
        first_R = logits_RV.argmax(dim=-1, keepdim=True)
        _require_scores(logits_RV.gather(-1, first_R))  # the largest is NaN where any is
        return torch.zeros_like(logits_RV, dtype=torch.float32).scatter_(-1, first_R, 1.0)
    logits_RV = logits_RV.float()
    probs_RV = (logits_RV if setting.temperature == 1 else logits_RV / setting.temperature).softmax(dim=-1)
    if setting.top_k is not None and setting.top_k < probs_RV.shape[-1]:
        least_R1 = probs_RV.topk(setting.top_k, dim=-1).values[:, -1:]
        probs_RV = _renormalised(probs_RV, probs_RV >= least_R1)
    if setting.top_p is not None and setting.top_p < 1:
        sorted_RV, order_RV = probs_RV.sort(dim=-1, descending=True, stable=True)
        kept_RV = sorted_RV.cumsum(dim=-1) - sorted_RV < setting.top_p
        probs_RV = _renormalised(probs_RV, torch.zeros_like(kept_RV).scatter_(-1, order_RV, kept_RV))
    if setting.min_p:
        probs_RV = _renormalised(probs_RV, probs_RV >= setting.min_p * probs_RV.amax(dim=-1, keepdim=True))
    return probs_RV


def _renormalised(probs_RV: Tensor, kept_RV: Tensor) -> Tensor:
    kept_probs_RV = torch.where(kept_RV, probs_RV, 0.0)
    return kept_probs_RV / kept_probs_RV.sum(dim=-1, keepdim=True)


def draw(probs_RV: Tensor, uniform_RU: Tensor) -> Tensor:
    """Token ids (R, U) by the inverse of the cumulative distribution: U draws from each of R distributions."""
    cumulative_RV = probs_RV.cumsum(dim=-1)
    total_R1 = cumulative_RV[:, -1:]
    _require_scores(total_R1)
    # Rounding may take u·total up to total itself, beyond the last token that can be drawn.
    threshold_RU = torch.minimum(uniform_RU * total_R1, torch.nextafter(total_R1, torch.zeros_like(total_R1)))
    return torch.searchsorted(cumulative_RV, threshold_RU.contiguous(), right=True)


def _require_scores(scores: Tensor) -> None:
    if not bool(scores.isfinite().all()):
        raise NotFiniteError("the scores that tokens are drawn from are not finite; check the model's weights.")


class _Ends:
    """Which samples are over: at a stop id, or where a stop text is complete."""

    def __init__(self, is_stop_V: Tensor, texts: StopTexts | None, num_rows: int) -> None:
        self._is_stop_V = is_stop_V
        self._watch = None if texts is None or not texts.texts else texts.watch(num_rows)
        self.stopped_R = torch.zeros(num_rows, dtype=torch.bool, device=is_stop_V.device)

    def after(self, place_R: Tensor, tokens_R: Tensor) -> Tensor:
        """Whether each of the samples at these places, all live until now, is over with this token."""
        over_R = self._is_stop_V[tokens_R]
        if self._watch is not None:
            over_R = over_R | torch.tensor(self._watch.ended(place_R.tolist(), tokens_R.tolist()), device=over_R.device)
        self.stopped_R[place_R] = over_R
        return over_R


def _complete(
    prefix: Prefix,
    setting: Sampling,
    uniform_PnC: Tensor,
    is_stop_V: Tensor,
    stop_texts: StopTexts | None,
    halt: threading.Event,
) -> list[Samples]:
    """Samples of every prompt of a batch, for one setting; raises ``CancelledError`` once ``halt`` is set."""
    num_prompts, num_samples, capacity = uniform_PnC.shape
    uniform_RC = uniform_PnC.flatten(0, 1)
    written_RC = torch.full(uniform_RC.shape, -1, dtype=torch.int64, device=uniform_RC.device)
    first_PV = probabilities(prefix.logits_PV, setting)
    first_Pn = draw(first_PV, uniform_PnC[:, :, 0])
    tokens_R = first_Pn.flatten()
    logprob_R = first_PV.gather(1, first_Pn).flatten().double().log()
    written_RC[:, 0] = tokens_R
    place_R = torch.arange(len(tokens_R), device=tokens_R.device)  # of the engine's rows among all
    ends = _Ends(is_stop_V, stop_texts, len(tokens_R))
    live_R = ~ends.after(place_R, tokens_R)
    rows = prefix.rows(num_samples, capacity)
    for step in range(1, capacity):
        if halt.is_set():
            raise CancelledError
        num_live = int(live_R.sum())
        if not num_live:
            break
        if num_live < _COMPACT_BELOW * len(live_R):
            kept = live_R.nonzero()[:, 0]
            rows.keep(kept)
            place_R, tokens_R, live_R = place_R[kept], tokens_R[kept], live_R[kept]
        probs_RV = probabilities(rows.step(tokens_R), setting)
        tokens_R = draw(probs_RV, uniform_RC[place_R, step, None])[:, 0]
        live_place = place_R[live_R]
        written_RC[live_place, step] = tokens_R[live_R]
        gained_R = probs_RV.gather(1, tokens_R[:, None])[:, 0].double().log()
        logprob_R[live_place] += gained_R[live_R]
        live_R[live_R.clone()] = ~ends.after(live_place, tokens_R[live_R])
    return _collect(written_RC, logprob_R, ends.stopped_R, num_prompts, num_samples)


def _collect(
    written_RC: Tensor, logprob_R: Tensor, stopped_R: Tensor, num_prompts: int, num_samples: int
) -> list[Samples]:
    lengths: list[int] = (written_RC >= 0).sum(dim=1).tolist()
    stopped: list[bool] = stopped_R.tolist()
    written: NDArray[np.int64] = written_RC.cpu().numpy()
    logprobs: list[float] = logprob_R.tolist()
    collected = []
    for prompt in range(num_prompts):
        own = range(prompt * num_samples, (prompt + 1) * num_samples)
        collected.append(
            Samples(
                tuple(tuple(written[row, : lengths[row]].tolist()) for row in own),
                tuple(stopped[row] for row in own),
                tuple(logprobs[row] for row in own),
            )
        )
    return collected
