"""Exact worlds by name, as teachers of ``stillroom label``: ``world:NAME`` or ``world:NAME:{"option": value}``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from stillroom.files import fingerprint
from stillroom.teachers import ExactScores
from stillroom.types import Batch, Sequences, UserError
from stillroom.worlds.bigram_sequences import sample_sequences
from stillroom.worlds.exact import ExactBigram, ExactRecall, ExactWorld, make_exact_world
from stillroom.worlds.recall_sequences import RecallSequences

WORLD_PREFIX = "world:"
"""Begins the name of a teacher that is a process which knows its own distribution."""


def exact_world(teacher: str) -> ExactWorld:
    """The world that a teacher's name stands for; a ``UserError`` says what is wrong with the name or its options."""
    return make_exact_world(*_parsed(teacher))


def world_hash(teacher: str) -> str:
    """What names the world in a store: a hash of its name and options, whatever they are written like."""
    return fingerprint(list(_parsed(teacher)))


def exact_scores(teacher: str, vocab_size: int, isolate: bool = True) -> ExactScores:
    """The scores of an exact world over a corpus of so many tokens; refuses a world of another number."""
    world = exact_world(teacher)
    if world.vocab_size != vocab_size:
        raise UserError(
            f"teacher {teacher}: gives probabilities of {world.vocab_size} tokens, the corpus has {vocab_size}; "
            "give the options that the corpus was made with."
        )

    def log_probs(batch: Batch) -> torch.Tensor:
        rows_BTV = world.exact_probabilities(batch.tokens_BT.numpy())
        return torch.from_numpy(np.log(np.maximum(rows_BTV, 1e-30)))

    return ExactScores(log_probs, isolate=isolate)


def drawn_sequences(teacher: str, num_tokens: int, length: int, seed: int) -> Sequences:
    """Sequences that a world draws, ``num_tokens`` together or a little less; the same arguments give the same ones."""
    world = exact_world(teacher)
    if isinstance(world, ExactBigram):
        return sample_sequences(world.world, num_tokens, length, seed)
    if isinstance(world, ExactRecall):
        return RecallSequences(world.world, max(1, num_tokens // length), length, seed)
    raise UserError(f"teacher {teacher}: draws no sequences; give --corpus, or one of world:bigram, world:recall.")


def _parsed(teacher: str) -> tuple[str, dict[str, Any]]:
    name, _, text = teacher.removeprefix(WORLD_PREFIX).partition(":")
    try:
        options = json.loads(text) if text else {}
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise UserError(f'teacher {teacher}: {text!r} is no JSON object; expected world:NAME:{{"option": value}}.')
    return name, options
