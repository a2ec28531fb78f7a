"""Context against memory: does the model say what the context states, or what training stated?

Letters: I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.evaluation.measuring.problem_files import read_problem_records
from stillroom.evaluation.scoring import TOKENS_AT_A_TIME, Continuation, ContinuationScores, score_continuations
from stillroom.results.schema import CounterfactualRecord, CounterfactualResult
from stillroom.results.statistics import mean
from stillroom.types import OnProgress, UserError
from stillroom.vocabulary import Vocabulary, encode, encode_documents
from stillroom.worlds.base import Counterfactual


def continuations(
    tokenizer: PreTrainedTokenizerBase, start: Sequence[int], pairs: Sequence[tuple[str, str]]
) -> list[Continuation]:
    """Token ids of (prompt, answer) pairs, each after ``start``.

    The two are encoded as one text, as training text is, and cut where the prompt's own tokens end; where a token
    spans the border, prompt and answer are encoded apart.
    """
    alone = encode_documents(tokenizer, [prompt for prompt, _ in pairs])
    joint = encode_documents(tokenizer, [prompt + answer for prompt, answer in pairs])
    apart = encode(tokenizer, [answer for _, answer in pairs])
    made = []
    for prompt, whole, answer in zip(alone, joint, apart, strict=True):
        splits = whole[: len(prompt)] == prompt and len(whole) > len(prompt)
        made.append(Continuation((*start, *prompt), tuple(whole[len(prompt) :] if splits else answer)))
    return made


def measure_counterfactual(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Counterfactual],
    *,
    chance: float | None = None,
    seed: int = 0,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> tuple[CounterfactualResult, list[CounterfactualRecord]]:
    """The ``counterfactual`` part of an evaluation, and one record per item.

    The model follows an answer when greedy decoding would write it: every token of it is the first choice. Should
    both answers be written (one begins the other), the longer counts. ``log_odds`` is the log-probability of the
    context's answer minus that of memory's, after the context, in nats. ``memory_accuracy`` asks without the context;
    ``chance`` is what a guess among the values would reach there, where the caller knows. Intervals are over items.
    Raises ``UserError`` without items.
    """
    if not items:
        raise UserError("counterfactual_items: no item was given, expected at least one.")
    scores = _scores(model, tokenizer, items, tokens_at_a_time, progress)
    longer_I = scores["context"].tokens_I >= scores["memory"].tokens_I
    says_memory_I = scores["memory"].greedy_I
    follows_context_I = scores["context"].greedy_I & (longer_I | ~says_memory_I)
    measured = {
        "follows_context": follows_context_I,
        "follows_memory": says_memory_I & ~follows_context_I,
        "neither": ~(follows_context_I | says_memory_I),
        "log_odds": scores["context"].logprob_I - scores["memory"].logprob_I,
        "memory_accuracy": scores["closed"].greedy_I,
    }
    unknown = {"chance": "the values that a guess would choose from are not known"}
    part = CounterfactualResult(
        **{name: mean(values_I, seed=seed) for name, values_I in measured.items()},
        chance=chance,
        missing=unknown if chance is None else {},
        per_item={name: tuple(measured[name].astype(float).tolist()) for name in ("follows_context", "log_odds")},
    )
    return part, [
        _record(item, {name: float(values_I[i]) for name, values_I in measured.items()}) for i, item in enumerate(items)
    ]


def read_counterfactuals(source: str) -> list[Counterfactual]:
    """Items from a local file of records with the fields ``context``, ``question``, ``answer`` and ``memory_answer``.

    ``answer`` is what the context says. An answer may be a list of equivalent ones, of which the first is taken.
    """
    fields = ("context", "question", "answer", "memory_answer")
    items = []
    for record in read_problem_records(source, "counterfactual", fields):
        context, question, said, known = (_first(record[name]) for name in fields)
        asked = f"Question: {question}\nAnswer:"
        items.append(Counterfactual(f"{context}\n{asked}", asked, f" {said}", f" {known}"))
    return items


def _first(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value).strip()


def _scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Counterfactual],
    tokens_at_a_time: int,
    progress: OnProgress | None,
) -> dict[str, ContinuationScores]:
    """Scores of the context's answer, of memory's, and of memory's without the context (``closed``)."""
    pairs = [(item.prompt, item.context_answer) for item in items]
    pairs += [(item.prompt, item.memory_answer) for item in items]
    pairs += [(item.closed_prompt, item.memory_answer) for item in items]
    scores = score_continuations(
        model,
        continuations(tokenizer, Vocabulary.of(tokenizer).start, pairs),
        tokens_at_a_time=tokens_at_a_time,
        progress=progress,
    )
    parts = {}
    for number, name in enumerate(("context", "memory", "closed")):
        own = slice(number * len(items), (number + 1) * len(items))
        parts[name] = ContinuationScores(scores.logprob_I[own], scores.greedy_I[own], scores.tokens_I[own])
    return parts


def _record(item: Counterfactual, measured: Mapping[str, float]) -> CounterfactualRecord:
    follows = next(name for name in ("follows_context", "follows_memory", "neither") if measured[name])
    return CounterfactualRecord(
        prompt=item.prompt,
        context_answer=item.context_answer,
        memory_answer=item.memory_answer,
        follows=follows.removeprefix("follows_"),
        log_odds=measured["log_odds"],
        knows=bool(measured["memory_accuracy"]),
    )
