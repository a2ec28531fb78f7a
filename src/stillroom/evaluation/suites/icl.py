"""``icl``: what a model learns in context: copying, recall, few-shot rules, and facts that the context contradicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from stillroom.evaluation.suite import ItemTokens, Material, Need, Suite, SuiteConfig, SuiteResult, refuse_too_many
from stillroom.strict import Items
from stillroom.types import Sequences, UserError
from stillroom.vocabulary import Vocabulary, encode
from stillroom.worlds.base import Counterfactual
from stillroom.worlds.facts_world import chance, counterfactuals

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from stillroom.evaluation.measuring.induced_rules import RuleItem
    from stillroom.evaluation.measuring.trigger_recall import RecallTokens


class CopyingConfig(SuiteConfig):
    """Random tokens that repeat."""

    copying_sequences: Items = 64
    """Sequences of random tokens, repeated."""
    copying_period: Annotated[int, Field(ge=2, le=65_536)] = 25
    """Tokens before the sequence repeats."""
    copying_repeats: Annotated[int, Field(ge=2, le=65_536)] = 4
    """How often they are repeated, the first time counted."""
    copying_vocabulary: Items = 256
    """How many token ids, the most frequent ones of the held-out text, the random tokens are drawn from."""

    @model_validator(mode="after")
    def _copying_fits_into_memory(self) -> Self:
        fields = "copying_sequences, copying_period and copying_repeats"
        refuse_too_many(fields, self.copying_tokens * self.copying_sequences)
        return self

    @property
    def copying_tokens(self) -> int:
        """Tokens of a copying sequence after what opens it."""
        return self.copying_period * self.copying_repeats


class InContextConfig(CopyingConfig):
    """What a model is shown, and how often."""

    counterfactual_items: Items = 200
    """Questions whose context contradicts what training said, of the facts world of the corpus."""
    recall_sequences: Items = 64
    """Random walks over real bigrams in which some tokens always have the same successor."""
    recall_length: Annotated[int, Field(ge=16, le=65_536)] = 96
    """Tokens of each."""
    recall_triggers: Items = 3
    """Tokens of each sequence that always have the same successor."""
    rule_items: Items = 16
    """Few-shot items per kind (words, numbers) and number of shots."""
    rule_shots: Annotated[tuple[Annotated[int, Field(ge=1, le=32)], ...], Field(min_length=1)] = (1, 2, 4)
    """Examples before the question; those that the model's positions cannot hold are left out."""

    @model_validator(mode="after")
    def _recall_fits_into_memory(self) -> Self:
        refuse_too_many("recall_sequences and recall_length", self.recall_length * self.recall_sequences)
        return self


def copying_tokens(config: CopyingConfig, tokenizer: PreTrainedTokenizerBase, text: Sequences) -> Tensor:
    """The repeated random tokens (B, T) that ``config`` asks for; the suite ``heads`` reads the same ones."""
    from stillroom.evaluation.measuring.in_context_copying import frequent_tokens, repeated_tokens

    vocabulary = Vocabulary.of(tokenizer)
    return repeated_tokens(
        frequent_tokens(text, vocabulary.special, config.copying_vocabulary),
        vocabulary.start,
        num=config.copying_sequences,
        period=config.copying_period,
        repeats=config.copying_repeats,
        seed=config.seed,
    )


def copying_length(config: CopyingConfig) -> Need:
    """What copying takes at least; refuses a period that cannot be drawn."""
    if config.copying_period > config.copying_vocabulary:
        raise UserError(
            f"evaluation.copying_period is {config.copying_period}, but its tokens are all different and drawn from "
            f"copying_vocabulary, {config.copying_vocabulary}; shorten the period or raise the vocabulary."
        )
    field = f"copying_period {config.copying_period} x copying_repeats {config.copying_repeats}"
    return Need(field, config.copying_tokens, "lower one")


def copying_longest(config: CopyingConfig, material: Material) -> Need:
    """What copying takes, drawn."""
    return Need(
        "copying_period x copying_repeats",
        copying_tokens(config, material.tokenizer, material.heldout.sequences).shape[1],
    )


class InContextSuite(Suite[InContextConfig]):
    """Copying, recall, few-shot rules, and counterfactual facts where the corpus states facts."""

    name = "icl"
    config = InContextConfig

    def lengths(self, config: InContextConfig) -> Iterator[Need]:
        """Of copying and recall."""
        yield copying_length(config)
        if 2 * config.recall_triggers > config.copying_vocabulary:
            raise UserError(
                f"evaluation.recall_triggers is {config.recall_triggers}, but each needs two tokens of "
                f"copying_vocabulary, {config.copying_vocabulary}; lower the one or raise the other."
            )
        yield Need(f"recall_length {config.recall_length}", config.recall_length, "lower it")

    def longest(self, config: InContextConfig, material: Material) -> Iterator[Need]:
        """Few-shot items are left out: those that do not fit are left out of the evaluation too."""
        yield copying_longest(config, material)
        yield Need("recall_length", _recall(config, material).tokens_BT.shape[1])
        if texts := _counterfactual_tokens(config, material):
            opening = len(Vocabulary.of(material.tokenizer).start)
            yield Need("counterfactual_items", opening + max(map(len, texts)) - 1)

    def item_tokens(self, config: InContextConfig, material: Material) -> ItemTokens:
        """Few-shot items and counterfactual facts; random tokens stand nowhere."""
        shots = [f"{item.prompt} {item.answer}" for item in _few_shot(config)]
        return {
            "induction": encode(material.tokenizer, shots),
            "counterfactual": _counterfactual_tokens(config, material),
        }

    def measure(self, model, config: InContextConfig, material: Material, sampler, progress) -> SuiteResult:
        """The parts ``copying``, ``recall``, ``induction`` and ``counterfactual``."""
        from stillroom.evaluation.measuring.counterfactual import measure_counterfactual
        from stillroom.evaluation.measuring.few_shot_rules import measure_induction
        from stillroom.evaluation.measuring.in_context_copying import measure_copying
        from stillroom.evaluation.measuring.trigger_recall import measure_recall

        tokenizer, seed = material.tokenizer, config.seed
        parts: dict[str, object] = {
            "copying": measure_copying(
                model,
                copying_tokens(config, material.tokenizer, material.heldout.sequences),
                period=config.copying_period,
                repeats=config.copying_repeats,
                seed=seed,
                progress=progress,
            ),
            "recall": measure_recall(model, _recall(config, material), seed=seed, progress=progress),
            "induction": measure_induction(model, tokenizer, _few_shot(config), seed=seed, progress=progress),
        }
        if items := _facts(config, material):
            guess = chance(dict(material.worlds["facts"]))
            parts["counterfactual"], _ = measure_counterfactual(
                model, tokenizer, items, chance=guess, seed=seed, progress=progress
            )
        return SuiteResult(parts)


def _recall(config: InContextConfig, material: Material) -> RecallTokens:
    """The recall sequences over the held-out text's bigrams."""
    from stillroom.evaluation.measuring.in_context_copying import frequent_tokens
    from stillroom.evaluation.measuring.trigger_recall import recall_tokens

    vocabulary, text = Vocabulary.of(material.tokenizer), material.heldout.sequences
    return recall_tokens(
        frequent_tokens(text, vocabulary.special, config.copying_vocabulary),
        vocabulary.start,
        text,
        num=config.recall_sequences,
        length=config.recall_length,
        triggers=config.recall_triggers,
        seed=config.seed,
    )


def _few_shot(config: InContextConfig) -> list[RuleItem]:
    from stillroom.evaluation.measuring.few_shot_rules import few_shot_items

    return few_shot_items(num=config.rule_items, shots=config.rule_shots, seed=config.seed)


def _facts(config: InContextConfig, material: Material) -> list[Counterfactual]:
    if "facts" not in material.worlds:
        return []
    return counterfactuals(config.counterfactual_items, config.seed, options=dict(material.worlds["facts"]))


def _counterfactual_tokens(config: InContextConfig, material: Material) -> list[list[int]]:
    return encode(material.tokenizer, [item.prompt + item.context_answer for item in _facts(config, material)])


SUITE = InContextSuite()
