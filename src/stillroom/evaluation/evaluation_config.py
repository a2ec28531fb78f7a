"""What is measured, on how many items."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stillroom.strict import Fraction, Items, Length, Positive, Seed, Strict, Temperature

_MOST_ITEM_TOKENS = 100_000_000
"""Tokens of all items of one measure together: they are made one by one and held in memory."""


class EvaluationConfig(Strict):
    """What is measured, on how many items, from which seed."""

    suites: tuple[Literal["lm", "icl", "tts", "heads", "retrieval"], ...] = ("lm", "icl", "tts", "heads")
    """``lm``: bits per byte. ``icl``: copying, recall, few-shot rules and counterfactual facts. ``tts``: pass@k and
    diversity. ``heads``: induction and previous-token heads. ``retrieval``: needle in a haystack and context question
    answering."""
    heldout_sequences: Items = 256
    copying_sequences: Items = 64
    """Sequences of random tokens, repeated."""
    copying_period: Annotated[int, Field(ge=2, le=65_536)] = 25
    """Tokens before the sequence repeats."""
    copying_repeats: Annotated[int, Field(ge=2, le=65_536)] = 4
    copying_vocabulary: Items = 256
    """How many token ids, the most frequent ones of the held-out text, the random tokens are drawn from."""
    counterfactual_items: Items = 200
    recall_sequences: Items = 64
    """Random walks over real bigrams in which some tokens always have the same successor (``icl``)."""
    recall_length: Annotated[int, Field(ge=16, le=65_536)] = 96
    """Tokens of each."""
    recall_triggers: Items = 3
    """Tokens of each sequence that always have the same successor."""
    rule_items: Items = 16
    """Few-shot items per kind (words, numbers) and number of shots (``icl``)."""
    rule_shots: Annotated[tuple[Annotated[int, Field(ge=1, le=32)], ...], Field(min_length=1)] = (1, 2, 4)
    """Examples before the question; those that the model's positions cannot hold are left out."""
    contamination_ngram: Annotated[int, Field(ge=0, le=65_536)] = 13
    """Tokens of the n-grams by which items are looked for in the training text; 0 looks for none."""
    contamination_sequences: Positive = 50_000
    """Most training sequences that are read for it, evenly spaced."""
    retrieval_items: Items = 40
    """Needles per length and depth, and context questions per number of notes."""
    needle_lengths: Annotated[tuple[Length, ...], Field(min_length=1)] = (48, 80, 112)
    """Whole prompts, in tokens."""
    needle_depths: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Where the needle lies: 0 is first, 1 is last."""
    context_notes: Annotated[tuple[Annotated[int, Field(gt=0, le=1000)], ...], Field(min_length=1)] = (1, 2, 4)
    """Facts stated before a context question."""
    problems: Items = 100
    samples_per_problem: Items = 32
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (0.6, 1.0)
    ks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    max_new_tokens: Length = 24
    seed: Seed = 0

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self.ks and max(self.ks) > self.samples_per_problem:
            raise ValueError(
                f"ks asks for pass@{max(self.ks)} but samples_per_problem is {self.samples_per_problem}; "
                "give at least as many samples"
            )
        return self

    @model_validator(mode="after")
    def _items_fit_into_memory(self) -> Self:
        for name, number in (
            ("copying_sequences, copying_period and copying_repeats", self.copying_tokens * self.copying_sequences),
            ("recall_sequences and recall_length", self.recall_length * self.recall_sequences),
            ("retrieval_items and needle_lengths", sum(self.needle_lengths) * self.retrieval_items),
        ):
            if number > _MOST_ITEM_TOKENS:
                raise ValueError(f"{name} make {number:,} tokens, expected at most {_MOST_ITEM_TOKENS:,}; lower one")
        return self

    @property
    def copying_tokens(self) -> int:
        """Tokens of a copying sequence after what opens it."""
        return self.copying_period * self.copying_repeats
