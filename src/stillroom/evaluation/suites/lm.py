"""``lm``: bits per byte of held-out text."""

from __future__ import annotations

from stillroom.evaluation.suite import ItemTokens, Material, Suite, SuiteConfig, SuiteResult
from stillroom.strict import Items


class LikelihoodConfig(SuiteConfig):
    """How much held-out text is scored."""

    heldout_sequences: Items = 256
    """Sequences of held-out text whose loss is measured."""


class LikelihoodSuite(Suite[LikelihoodConfig]):
    """Bits per byte and nats per token, in all and by source."""

    name = "lm"
    config = LikelihoodConfig

    def item_tokens(self, config: LikelihoodConfig, material: Material) -> ItemTokens:
        """The sequences themselves."""
        sequences = material.heldout.sequences
        return {"heldout": sequences.batch(range(min(config.heldout_sequences, len(sequences)))).tokens_BT.tolist()}

    def measure(self, model, config: LikelihoodConfig, material: Material, sampler, progress) -> SuiteResult:
        """The part ``lm``."""
        from stillroom.evaluation.measuring.language_modelling import measure_likelihood

        text, num = material.heldout, config.heldout_sequences
        found = measure_likelihood(model, text, num_sequences=num, seed=config.seed, progress=progress)
        return SuiteResult({"lm": found})


SUITE = LikelihoodSuite()
