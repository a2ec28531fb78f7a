"""``heads``: induction and previous-token heads, on the tokens of the suite ``icl`` that repeat."""

from __future__ import annotations

from collections.abc import Iterator

from stillroom.evaluation.suite import Material, Need, Suite, SuiteResult
from stillroom.evaluation.suites.icl import CopyingConfig, copying_length, copying_longest, copying_tokens


class HeadsSuite(Suite[CopyingConfig]):
    """A score of every attention head for three things that a head may do."""

    name = "heads"
    config = CopyingConfig

    def check(self, model) -> None:
        """Refuses a model whose heads' patterns cannot be read."""
        from stillroom.analysis import check_heads

        check_heads(model)

    def lengths(self, config: CopyingConfig) -> Iterator[Need]:
        """Of copying."""
        yield copying_length(config)

    def longest(self, config: CopyingConfig, material: Material) -> Iterator[Need]:
        """Of copying."""
        yield copying_longest(config, material)

    def measure(self, model, config: CopyingConfig, material: Material, sampler, progress) -> SuiteResult:
        """The part ``heads``."""
        from stillroom.analysis import head_scores

        tokens_BT = copying_tokens(config, material.tokenizer, material.heldout.sequences)
        return SuiteResult(
            {"heads": head_scores(model, tokens_BT, period=config.copying_period, progress=progress).result()}
        )


SUITE = HeadsSuite()
