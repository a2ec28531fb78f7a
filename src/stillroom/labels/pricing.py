"""What labelling a corpus would cost, before a teacher is run."""

from __future__ import annotations

from dataclasses import dataclass

from stillroom.labels.settings import SaysSettings, settings_of


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


def price(
    num_tokens: int,
    flops_per_token: float,
    config: SaysSettings,
    vocab_size: int,
    *,
    tokens_per_second: float | None = None,
    bytes_per_token: float | None = None,
) -> Price:
    """The price of labelling ``num_tokens`` tokens.

    ``flops_per_token`` is of the teacher's forward pass (``costs.flops_per_token``). Measured speeds and sizes, from a
    trial on a few sequences, replace the rules of thumb.
    """
    per_token = settings_of(config).codec.bytes_per_token(vocab_size) if bytes_per_token is None else bytes_per_token
    return Price(
        num_tokens=num_tokens,
        teacher_flops=num_tokens * flops_per_token,
        num_bytes=num_tokens * per_token,
        bytes_per_token=per_token,
        hours=None if not tokens_per_second else num_tokens / tokens_per_second / 3600,
    )
