"""How a teacher's distribution is kept."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from stillroom.strict import ADDED_LATER, Positive, Seed, Strict, Temperature
from stillroom.types import UserError


class LabelsConfig(Strict):
    """How a teacher's distribution is kept."""

    codec: str = "sampled"
    """``sampled`` is unbiased (systematic sampling); ``top-k`` and ``top-p`` keep the largest probabilities and the
    tail's mass; other packages may add more (entry points ``stillroom.codecs``)."""
    num_samples: Annotated[int, Field(ge=1, le=255)] = 50
    """N of the sampled codec."""
    k: Annotated[int, Field(ge=1, le=1024)] = 50
    """Most ids kept per position (``top-k``, ``top-p``)."""
    p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Probability mass kept (``top-p``)."""
    value_steps: Annotated[int, Field(ge=1, le=255)] = 199
    """Levels per unit of the square root of a probability (``top-k``, ``top-p``): their error falls with its square."""
    temperature: Temperature = 1.0
    """Temperature at which the teacher is read."""
    shard_sequences: Positive = 512
    """Sequences per shard."""
    seed: Seed = 0
    """Seed of what the sampled codec draws."""
    options: Annotated[dict[str, int | float], ADDED_LATER] = Field(default_factory=dict)
    """Of a codec that another package adds, by name."""

    @model_validator(mode="after")
    def _codec_is_there(self) -> Self:
        if self.codec not in ("sampled", "top-k", "top-p") or self.options:
            from stillroom.labels import LabelSettings  # on demand: it needs torch, which no recipe waits for

            try:
                LabelSettings.of(self.canonical())
            except UserError as error:
                raise ValueError(str(error).removeprefix("labels: ").removesuffix(".")) from None
        return self
