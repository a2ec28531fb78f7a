"""How a language model is built, or which pretrained one is taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from stillroom.strict import ADDED_LATER, Positive, PositiveFloat, Strict
from stillroom.types import UserError

Part = Annotated[float, Field(gt=0.0, le=1.0)]
_SIZES = (
    "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "max_positions", "rope_theta",
    "tie_embeddings",
)  # fmt: skip
_POSITIONS = ("max_position_embeddings", "n_positions")


@contextlib.contextmanager
def _as_value_error(field: str = "") -> Iterator[None]:
    """A refusal as validators raise it, so that it is told with the place of the configuration."""
    try:
        yield
    except UserError as error:
        raise ValueError(f"{field}{str(error).rstrip('.')}") from error


class LikeTeacherConfig(Strict):
    """A new model of the teacher's architecture with fewer layers, a narrower one, or both."""

    depth: Part = 1.0
    """Layers as a part of the teacher's, the same part of every kind of layer, evenly spaced."""
    width: Part = 1.0
    """Widths of the residual stream and of feed-forward layers as parts of the teacher's. Heads keep their size, and
    there are fewer."""
    weights: Literal["random", "cut"] = "random"
    """What it begins with: weights that are drawn, or the teacher's own, cut to its sizes: of the layers that are
    kept, the first heads, channels and neurons."""


class ModelConfig(Strict):
    """A causal language model: in the Llama layout by its sizes, of any architecture by ``config``, cut from the
    teacher's by ``like_teacher``, or the pretrained one of ``path``.
    """

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
    config: Annotated[str | dict[str, JsonValue] | None, ADDED_LATER] = None
    """A new model of any causal architecture: a Hugging Face config.json, a folder that holds one, or a hub id, whose
    fields stand here once they were read. Vocabulary and special tokens are the corpus's; the sizes above are then
    left out."""
    overrides: Annotated[dict[str, JsonValue], ADDED_LATER] = Field(default_factory=dict)
    """Fields of ``config`` that are to be otherwise, by the names that they have there, such as num_hidden_layers."""
    initialisation: Annotated[Literal["stillroom", "model"], ADDED_LATER] = "stillroom"
    """Weights of a new model: ``stillroom`` draws matrices with standard deviation 0.02, smaller where they write into
    the residual stream of a deep model; ``model`` draws them as the architecture's own code does."""
    like_teacher: Annotated[LikeTeacherConfig | None, ADDED_LATER] = None
    """A new model cut from the teacher's architecture, in place of the sizes above and of ``config``, which then says
    what it came to."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.num_heads % (self.num_kv_heads or self.num_heads):
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        return self

    @model_validator(mode="after")
    def _says_one_model(self) -> Self:
        given = [name for name in ("path", "config", "like_teacher") if getattr(self, name) is not None]
        if len(given) > 1 and (self.path is not None or isinstance(self.config, str)):
            raise ValueError(f"{' and '.join(given)} are both given; say once which model it is")
        defaults = {name: type(self).model_fields[name].default for name in _SIZES}
        sizes = [name for name, default in defaults.items() if getattr(self, name) != default]
        if sizes and self.path is None and given:
            if isinstance(self.config, dict) or not defaults.keys() <= self.model_fields_set:
                raise ValueError(
                    f"{sizes[0]} is given beside {given[0]}, which has sizes of its own; set overrides instead"
                )
            vars(self).update(defaults)  # those of a whole object on which another way to say it was set
        if self.overrides and self.config is None:
            raise ValueError("overrides is given without config, whose fields it changes; give config")
        if self.path is not None and self.initialisation != "stillroom":
            raise ValueError("initialisation is of new models, but path names a trained one; leave one out")
        return self

    @model_validator(mode="after")
    def _reads_config(self) -> Self:
        if isinstance(self.config, str) or self.overrides:
            from stillroom.models import architecture_fields  # on demand: it imports torch

            with _as_value_error("config: "):
                vars(self).update(config=architecture_fields(self.config, self.overrides), overrides={})
        return self

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Also without sizes that stand for nothing."""
        values = super()._without_what_came_later(handler)
        idle = () if self.has_llama_sizes or self.path is not None else _SIZES
        return {name: value for name, value in values.items() if name not in idle}

    @property
    def has_llama_sizes(self) -> bool:
        """Whether the sizes above are what is built."""
        return self.path is None and self.config is None and self.like_teacher is None

    @property
    def positions(self) -> int | None:
        """Tokens of the longest sequence of a new model, as far as its configuration says by a known name."""
        if self.has_llama_sizes:
            return self.max_positions
        fields = self.config if isinstance(self.config, dict) else {}
        return next((value for name in _POSITIONS if isinstance(value := fields.get(name), int)), None)

    @property
    def is_cut(self) -> bool:
        """Whether it begins with weights of the teacher."""
        return self.like_teacher is not None and self.like_teacher.weights == "cut"

    def like(self, teacher: ModelConfig) -> Self:
        """This model, with the sizes that ``like_teacher`` makes of a teacher's written down."""
        if self.like_teacher is None or self.config is not None:
            return self
        from stillroom.models import fields_like  # on demand: it imports torch

        with _as_value_error():
            return self.model_copy(update={"config": fields_like(teacher, self.like_teacher)})

    def drawn(self) -> Self:
        """This model with weights that are drawn, where they would be a teacher's that is not there yet."""
        return self.model_copy(update={"like_teacher": None}) if self.is_cut else self


def heads_that_do_not_fit(model: ModelConfig, heads: int) -> str | None:
    """Why a model cannot have so many heads, each beyond the first taking a block off its trunk; None where it can.

    Of other architectures than Llama's it is known once they are built.
    """
    if heads == 1 or (model.path is None and (not model.has_llama_sizes or model.num_layers >= heads)):
        return None
    found = f"{model.num_layers} layers" if model.path is None else f"model.path {model.path}"
    return (
        f"heads is {heads}, which takes {heads - 1} blocks off the trunk, but the model is {found}; "
        "train a new model with at least as many layers as heads"
    )
