"""What labelling a corpus would cost, before a teacher is run.

Imports no torch but through the plan's configuration objects.
"""

from __future__ import annotations

from dataclasses import dataclass

from stillroom.labels.labels_config import LabelsConfig


@dataclass(frozen=True)
class Price:
    """The cost of labels: teacher FLOPs, bytes on disk and hours, as far as they can be told beforehand."""

    num_tokens: int
    teacher_flops: float
    num_bytes: float
    bytes_per_token: float
    hours: float | None

    def sentences(self) -> list[str]:
        """The price for people."""
        hours = "time unknown (give a measured speed)" if self.hours is None else f"{self.hours:.2f} hours"
        return [
            f"{self.num_tokens:,} tokens to label",
            f"{self.teacher_flops:.2e} teacher FLOPs",
            f"{self.num_bytes / 1e6:,.1f} MB of labels (about {self.bytes_per_token:.1f} bytes per token)",
            hours,
        ]


def typical_bytes(config: LabelsConfig, vocab_size: int) -> float:
    """Bytes per token to expect, from what a 135M teacher over source code took (docs/design/label-store.md).

    An id of a few costs about log2(V) - 7.2 bits in a set of a kind's ranked vocabulary, one of many 3.5 bits less, a
    level 4.1 bits; 14 distinct ids are drawn at N = 50 and their number grows as the square root of N; the rest is
    about 4 bytes.
    """
    id_bits = max(2.0, vocab_size.bit_length() - 7.2)
    if config.codec == "sampled":
        return 4.2 + 14.4 * (config.num_samples / 50) ** 0.5 * id_bits / 8
    kept = config.k if config.codec == "top-k" else config.k / 2
    return 3.5 + kept * (max(2.0, id_bits - 3.5) + 4.1) / 8


def price(
    num_tokens: int,
    flops_per_token: float,
    config: LabelsConfig,
    vocab_size: int,
    *,
    tokens_per_second: float | None = None,
    bytes_per_token: float | None = None,
) -> Price:
    """The price of labelling ``num_tokens`` tokens.

    ``flops_per_token`` is of the teacher's forward pass (``models.flops_per_token``). Measured speeds and sizes, from a
    trial on a few sequences, replace the rules of thumb.
    """
    per_token = typical_bytes(config, vocab_size) if bytes_per_token is None else bytes_per_token
    return Price(
        num_tokens=num_tokens,
        teacher_flops=num_tokens * flops_per_token,
        num_bytes=num_tokens * per_token,
        bytes_per_token=per_token,
        hours=None if not tokens_per_second else num_tokens / tokens_per_second / 3600,
    )
