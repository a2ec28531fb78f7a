"""``retrieval``: finding a fact in the context: needle in a haystack, and one of several stated facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from stillroom.evaluation.suite import ItemTokens, Material, Need, Suite, SuiteConfig, SuiteResult, refuse_too_many
from stillroom.strict import Fraction, Items, Length

if TYPE_CHECKING:
    from stillroom.evaluation.measuring.choices import Question


class RetrievalConfig(SuiteConfig):
    """How long the texts are, and where the fact lies."""

    retrieval_items: Items = 40
    """Needles per length and depth, and context questions per number of notes."""
    needle_lengths: Annotated[tuple[Length, ...], Field(min_length=1)] = (48, 80, 112)
    """Whole prompts, in tokens."""
    needle_depths: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Where the needle lies: 0 is first, 1 is last."""
    context_notes: Annotated[tuple[Annotated[int, Field(gt=0, le=1000)], ...], Field(min_length=1)] = (1, 2, 4)
    """Facts stated before a context question."""

    @model_validator(mode="after")
    def _needles_fit_into_memory(self) -> Self:
        refuse_too_many("retrieval_items and needle_lengths", sum(self.needle_lengths) * self.retrieval_items)
        return self


class RetrievalSuite(Suite[RetrievalConfig]):
    """Needles by length and depth, and questions by the number of stated facts."""

    name = "retrieval"
    config = RetrievalConfig

    def lengths(self, config: RetrievalConfig) -> Iterator[Need]:
        """Of the longest needle."""
        yield Need(f"needle_lengths {max(config.needle_lengths)}", max(config.needle_lengths) + 1, "lower it")

    def longest(self, config: RetrievalConfig, material: Material) -> Iterator[Need]:
        """Of needles, at one depth, and of context questions."""
        yield Need("needle_lengths", _longest(_needles(config, material, depths=(0.0,))))
        yield Need("context_notes", _longest(_notes(config, material)))

    def item_tokens(self, config: RetrievalConfig, material: Material) -> ItemTokens:
        """Context questions; needles lie in text that is counted by the suite ``lm``."""
        questions = _notes(config, material)
        return {"context": [[*question.context, *question.choices[question.right]] for question in questions]}

    def measure(self, model, config: RetrievalConfig, material: Material, sampler, progress) -> SuiteResult:
        """The parts ``needle`` and ``context``."""
        from stillroom.evaluation.measuring.needles import measure_context, measure_needle

        needles, seed = _needles(config, material, config.needle_depths), config.seed
        return SuiteResult(
            {
                "needle": measure_needle(model, needles, seed=seed, progress=progress),
                "context": measure_context(model, _notes(config, material), seed=seed, progress=progress),
            }
        )


def _needles(config: RetrievalConfig, material: Material, depths: Sequence[float]) -> list[Question]:
    from stillroom.evaluation.measuring.needles import needle_questions

    return needle_questions(
        material.tokenizer,
        material.heldout.sequences,
        lengths=config.needle_lengths,
        depths=depths,
        num_each=config.retrieval_items,
        seed=config.seed,
    )


def _notes(config: RetrievalConfig, material: Material) -> list[Question]:
    from stillroom.evaluation.measuring.needles import context_questions

    return [
        question
        for notes in config.context_notes
        for question in context_questions(material.tokenizer, num=config.retrieval_items, notes=notes, seed=config.seed)
    ]


def _longest(questions: Sequence[Question]) -> int:
    return max(len(question.context) + max(map(len, question.choices)) - 1 for question in questions)


SUITE = RetrievalSuite()
