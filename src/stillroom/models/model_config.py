"""How a language model is built, or which pretrained one is taken."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from stillroom.strict import Positive, PositiveFloat, Strict


class ModelConfig(Strict):
    """A causal language model in the Llama layout, or the folder or hub id of a pretrained one."""

    hidden_size: Annotated[int, Field(gt=0, le=2**17)] = 128
    """Width D of the residual stream."""
    intermediate_size: Annotated[int, Field(gt=0, le=2**20)] = 384
    """Width of the gated feed-forward layer."""
    num_layers: Annotated[int, Field(gt=0, le=4096)] = 4
    """Blocks, each of attention and feed-forward layer."""
    num_heads: Annotated[int, Field(gt=0, le=4096)] = 4
    """Query heads of a block; hidden_size is a multiple of it."""
    num_kv_heads: Positive | None = None
    """Key and value heads; None means one for each query head."""
    max_positions: Annotated[int, Field(gt=0, le=2**24)] = 512
    """Longest sequence, in tokens, that the positions of the model cover."""
    rope_theta: PositiveFloat = 10_000.0
    """Base of the rotary positions: the longest wavelength is about 2 pi times it, in tokens."""
    tie_embeddings: bool = True
    """One matrix for the embedding and the unembedding."""
    path: str | None = None
    """A Hugging Face folder or hub id to start from; the sizes above are then ignored."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.num_heads % (self.num_kv_heads or self.num_heads):
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        return self


def heads_that_do_not_fit(model: ModelConfig, heads: int) -> str | None:
    """Why a model cannot have so many heads, each beyond the first taking a block off its trunk; None where it can."""
    if heads == 1 or (model.path is None and model.num_layers >= heads):
        return None
    found = f"{model.num_layers} layers" if model.path is None else f"model.path {model.path}"
    return (
        f"heads is {heads}, which takes {heads - 1} blocks off the trunk, but the model is {found}; "
        "train a new model with at least as many layers as heads"
    )
