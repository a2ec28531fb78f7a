"""Whether new models of any architecture can be built and trained as a study asks: told before anything is made.

Tried on a model of the same widths with few layers, one of every kind, and few tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel

from stillroom.config import ModelConfig, StudyConfig, TrainingConfig
from stillroom.models import modules_of, new_config, num_positions, realise
from stillroom.models.architectures import all_fields, layer_kinds, with_layers
from stillroom.models.contract import checked
from stillroom.models.fresh import Drawing, plan_new
from stillroom.training.blocks import blocks
from stillroom.training.mtp_heads import check_further
from stillroom.training.prepare import check_split
from stillroom.types import OWN_IDS, UserError

_VOCABULARY = 64
_MOST = 1 << 30
"""Parameters of a model that is small enough to be tried."""


@dataclass(frozen=True)
class _Asked:
    """A new model and what is asked of it."""

    field: str
    model: ModelConfig
    training: TrainingConfig
    heads: int
    length: int


def check_models(config: StudyConfig) -> None:
    """Refuses a new model of an architecture that cannot do what a study asks of it."""
    length = config.corpus.sequence_length
    heads = max(arm.heads for arm in config.arms.values())
    asked = [_Asked("student", config.student, config.training, heads, length)]
    if config.teacher.training is not None:
        asked.append(_Asked("teacher.model", config.teacher.model, config.teacher.training, 1, length))
    for one in asked:
        is_plain = one.model.has_llama_sizes and one.model.initialisation == "stillroom"
        if one.model.path is None and not is_plain:
            _check(one)


def _check(asked: _Asked) -> None:
    """On paper first, then with numbers."""
    field, parallel = f"{asked.field}.config", asked.training.parallel
    config = new_config(asked.model, _VOCABULARY, OWN_IDS)
    longest = num_positions(config)
    if longest is not None and asked.length > longest:
        raise UserError(
            f"corpus.sequence_length is {asked.length}, but {field} covers {longest}; shorten the sequences or raise "
            "the positions."
        )
    whole = modules_of(config)
    kinds = layer_kinds(whole)
    if parallel.tensor > 1:
        check_split(whole, parallel.tensor)
    blocks(whole)
    if asked.heads > len(kinds):
        raise UserError(
            f"arms: heads is {asked.heads}, which takes {asked.heads - 1} blocks off the trunk, but {field} has "
            f"{len(kinds)} layers; give it at least as many layers as heads."
        )
    small = _shallow(asked.model, config, kinds)
    drawing = Drawing(asked.training.seed, asked.training.base_width, asked.model.initialisation)
    plan = plan_new(small, drawing)
    if plan.model.num_parameters() <= _MOST:
        _try(realise(plan), field, asked.heads)


def _shallow(model: ModelConfig, config: PreTrainedConfig, kinds: list[tuple[object, ...]]) -> PreTrainedConfig:
    """The configuration with its first layers alone, as many as hold one of every kind, where that can be said."""
    depth = max(kinds.index(kind) + 1 for kind in kinds)
    fields = with_layers(all_fields(config), range(depth), config)
    small = new_config(model.model_copy(update={"config": fields}), _VOCABULARY, OWN_IDS)
    return small if layer_kinds(modules_of(small)) == kinds[:depth] else config


def _try(model: PreTrainedModel, field: str, heads: int) -> None:
    try:
        checked(model, field)
    except UserError as error:
        said = str(error).rpartition("; ")[0]
        raise UserError(f"{said}; check its sizes, or choose another architecture.") from error
    if heads > 1:
        check_further(model)
