"""Causal language models over transformers: build, load, export, run on packed documents, and read from inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.models.architectures import architecture_fields, new_config, shallower
    from stillroom.models.attention import use_short_attention
    from stillroom.models.checks import read_weights
    from stillroom.models.create import (
        build_model,
        export_model,
        give_ids,
        load_model,
        plan_model,
        plan_pretrained_model,
    )
    from stillroom.models.forward import (
        attention_patterns,
        hidden_states,
        multiplies_bf16,
        num_positions,
        precision,
        precision_name,
    )
    from stillroom.models.likeness import fields_like
    from stillroom.models.loading import check_files, empty_model, modules_of, read_config
    from stillroom.models.locate import find_source, libraries, looks_local
    from stillroom.models.meta import ModelPlan, allocate, place, realise
    from stillroom.models.output_layer import Readout, logit_softcap, readout, unembedding
    from stillroom.models.own_loops import PackedInputs, packed_inputs
    from stillroom.models.packing import attention_mask, position_ids
    from stillroom.models.tokenizers import read_tokenizer

__all__ = [
    "ModelPlan",
    "PackedInputs",
    "Readout",
    "allocate",
    "architecture_fields",
    "attention_mask",
    "attention_patterns",
    "build_model",
    "check_files",
    "empty_model",
    "export_model",
    "fields_like",
    "find_source",
    "give_ids",
    "hidden_states",
    "libraries",
    "load_model",
    "logit_softcap",
    "looks_local",
    "modules_of",
    "multiplies_bf16",
    "new_config",
    "num_positions",
    "packed_inputs",
    "place",
    "plan_model",
    "plan_pretrained_model",
    "position_ids",
    "precision",
    "precision_name",
    "read_config",
    "read_tokenizer",
    "read_weights",
    "readout",
    "realise",
    "shallower",
    "unembedding",
    "use_short_attention",
]

__getattr__ = names_of(__name__)
