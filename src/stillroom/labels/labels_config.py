"""How a teacher's distribution is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stillroom.strict import Positive, Seed, Strict, Temperature


class LabelsConfig(Strict):
    """How a teacher's distribution is kept."""

    codec: Literal["sampled", "top-k", "top-p"] = "sampled"
    """``sampled`` is unbiased (systematic sampling); the others keep the largest probabilities and the tail's mass."""
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
