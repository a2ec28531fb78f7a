"""Labels made of whole numbers alone, the same on every machine: what the golden stores hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillroom.labels.ragged import NO_GOLD, RaggedLabels
from stillroom.types import SoftLabels

VOCAB, LENGTH, COUNT = 500, 64, 24
SETTINGS = {
    "sampled": {"codec": "sampled", "num_samples": 50},
    "top-k": {"codec": "top-k", "k": 20},
    "top-k-coarse": {"codec": "top-k", "k": 20, "value_steps": 5},
    "top-p": {"codec": "top-p", "k": 12, "p": 0.75},
}
"""What the golden stores were written with."""


@dataclass(frozen=True)
class GoldenSource:
    """Labels that are drawn, for a writer of stores."""

    name: str

    def rows(self, numbers: range) -> tuple[np.ndarray, RaggedLabels]:
        """Tokens and labels of some sequences."""
        chance = np.random.default_rng([numbers.start, len(self.name)])
        count = len(numbers) * LENGTH
        tokens_BT = chance.integers(0, VOCAB // 4, (len(numbers), LENGTH))
        width = 20 if self.name.startswith("top-k") else 12
        num_N = np.full(count, width) if width == 20 else chance.integers(1, width + 1, count)
        order_NV = np.argsort(chance.integers(0, 2**40, (count, VOCAB)) + np.arange(VOCAB) * 2**32, axis=1)
        used = np.arange(width) < num_N[:, None]
        counts = chance.integers(1, 40, (count, width)) * used
        if self.name == "sampled":
            counts = chance.integers(1, 4, (count, width)) * used
            counts[:, 0] += 50 - counts.sum(1)
        share = counts / (counts.sum(1, keepdims=True) if self.name == "sampled" else np.full((count, 1), 900))
        rank = chance.integers(NO_GOLD, VOCAB, count).astype(np.int32)
        tail = None if self.name == "sampled" else (1.0 - share.sum(1)).astype(np.float32)
        return tokens_BT, RaggedLabels(
            num_N=num_N.astype(np.uint16),
            ids_E=order_NV[:, :width][used].astype(np.int32),
            values_E=counts[used].astype(np.uint8) if tail is None else share[used].astype(np.float32),
            entropy_N=(chance.integers(0, 640, count) / 64).astype(np.float32),
            gold_logprob_N=np.where(rank == NO_GOLD, 0, -chance.integers(0, 640, count) / 64).astype(np.float32),
            gold_rank_N=rank,
            tail_N=tail,
        )

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        """Nothing is measured."""
        return {"positions": labels.entropy.numel()}
