"""Context against memory: does the model say what the context states, or what training stated?

Letters: I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.evaluation.scoring import TOKENS_AT_A_TIME, Continuation, Progress, score_continuations
from stillroom.evaluation.statistics import mean
from stillroom.evaluation.vocabulary import Vocabulary, encode
from stillroom.types import UserError
from stillroom.worlds.base import Counterfactual


def continuations(
    tokenizer: PreTrainedTokenizerBase, start: Sequence[int], pairs: Sequence[tuple[str, str]]
) -> list[Continuation]:
    """Token ids of (prompt, answer) pairs, each after ``start``.

    The two are encoded as one text, as training text is, and cut where the prompt's own tokens end; where a token
    spans the border, prompt and answer are encoded apart.
    """
    alone = encode(tokenizer, [prompt for prompt, _ in pairs])
    joint = encode(tokenizer, [prompt + answer for prompt, answer in pairs])
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
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The ``counterfactual`` part of an evaluation, and one record per item.

    The model follows an answer when greedy decoding would write it: every token of it is the first choice. Should
    both answers be written (one begins the other), the longer counts. ``log_odds`` is the log-probability of the
    context's answer minus that of memory's, after the context, in nats. ``memory_accuracy`` asks without the context;
    ``chance`` is what a guess among the values would reach there, where the caller knows. Intervals are over items.
    """
    if not items:
        raise UserError("counterfactual_items: no item was given, expected at least one.")
    start = Vocabulary.of(tokenizer).start
    pairs = [(item.prompt, item.context_answer) for item in items]
    pairs += [(item.prompt, item.memory_answer) for item in items]
    pairs += [(item.closed_prompt, item.memory_answer) for item in items]
    scores = score_continuations(
        model, continuations(tokenizer, start, pairs), tokens_at_a_time=tokens_at_a_time, progress=progress
    )
    num = len(items)
    context_I, memory_I, closed_I = (slice(part * num, (part + 1) * num) for part in range(3))
    longer_I = scores.tokens_I[context_I] >= scores.tokens_I[memory_I]
    says_context_I, says_memory_I = scores.greedy_I[context_I], scores.greedy_I[memory_I]
    follows_context_I = says_context_I & (longer_I | ~says_memory_I)
    follows_memory_I = says_memory_I & ~follows_context_I
    log_odds_I = scores.logprob_I[context_I] - scores.logprob_I[memory_I]
    part: dict[str, Any] = {
        "follows_context": mean(follows_context_I, seed=seed).as_dict(),
        "follows_memory": mean(follows_memory_I, seed=seed).as_dict(),
        "neither": mean(~(follows_context_I | follows_memory_I), seed=seed).as_dict(),
        "log_odds": mean(log_odds_I, seed=seed).as_dict(),
        "memory_accuracy": mean(scores.greedy_I[closed_I], seed=seed).as_dict(),
        "chance": chance,
    }
    records = [
        {
            "prompt": item.prompt,
            "context_answer": item.context_answer,
            "memory_answer": item.memory_answer,
            "follows": "context" if follows_context_I[i] else "memory" if follows_memory_I[i] else "neither",
            "log_odds": float(log_odds_I[i]),
            "knows": bool(scores.greedy_I[closed_I][i]),
        }
        for i, item in enumerate(items)
    ]
    return part, records
