"""``tts``: what more samples buy (test-time scaling) on problems with a verifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from stillroom.evaluation.suite import ItemTokens, Material, Need, Suite, SuiteConfig, SuiteResult
from stillroom.strict import Items, Length, Positive, Temperature
from stillroom.vocabulary import Vocabulary, encode
from stillroom.worlds.base import Problem
from stillroom.worlds.problems_world import problems

if TYPE_CHECKING:
    from stillroom.evaluation.measuring.test_time_scaling import Attempts


class SamplesConfig(SuiteConfig):
    """How often problems are attempted."""

    problems: Items = 100
    """Problems to be solved, from the problems world of the corpus."""
    samples_per_problem: Items = 32
    """Answers drawn for each, at every temperature."""
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (0.6, 1.0)
    """Softmax temperatures at which answers are drawn."""
    ks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    """Every k of pass@k: the chance that one of k answers is right."""
    max_new_tokens: Length = 24
    """Longest answer, in tokens."""

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self.ks and max(self.ks) > self.samples_per_problem:
            raise ValueError(
                f"ks asks for pass@{max(self.ks)} but samples_per_problem is {self.samples_per_problem}; "
                "give at least as many samples"
            )
        return self


class SamplesSuite(Suite[SamplesConfig]):
    """pass@k, majority vote and diversity over temperatures."""

    name = "tts"
    config = SamplesConfig

    @property
    def samples_file(self) -> str:
        """That of every run."""
        return "samples.jsonl"

    def lengths(self, config: SamplesConfig) -> Iterator[Need]:
        """Of a completion after one token."""
        yield Need(f"max_new_tokens {config.max_new_tokens}", config.max_new_tokens + 1, "lower it")

    def longest(self, config: SamplesConfig, material: Material) -> Iterator[Need]:
        """Of the longest problem and its completion."""
        (texts,) = self.item_tokens(config, material).values()
        opening = len(Vocabulary.of(material.tokenizer).start)
        yield Need("max_new_tokens", opening + max(map(len, texts)) + config.max_new_tokens - 1)

    def item_tokens(self, config: SamplesConfig, material: Material) -> ItemTokens:
        """Problems have many right answers, and none is in the item."""
        return {"problems": encode(material.tokenizer, [one.prompt for one in _problems(config, material)])}

    def measure(self, model, config: SamplesConfig, material: Material, sampler, progress) -> SuiteResult:
        """The part ``tts`` and every sample."""
        from stillroom.evaluation.measuring.test_time_scaling import measure_scaling

        items = _problems(config, material)
        part, samples = measure_scaling(
            model, material.tokenizer, items, attempts_of(config), config.ks, sampler=sampler, progress=progress
        )
        return SuiteResult({"tts": part}, samples)


def attempts_of(config: SamplesConfig) -> Attempts:
    """How problems are attempted by this configuration."""
    from stillroom.evaluation.measuring.test_time_scaling import Attempts
    from stillroom.evaluation.sampling.draw import Sampling

    return Attempts(
        num_samples=config.samples_per_problem,
        max_new_tokens=config.max_new_tokens,
        settings=[Sampling(temperature) for temperature in config.temperatures],
        seed=config.seed,
    )


def _problems(config: SamplesConfig, material: Material) -> list[Problem]:
    return problems(config.problems, config.seed, options=dict(material.worlds.get("problems", {})))


SUITE = SamplesSuite()
