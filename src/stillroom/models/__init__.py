"""Causal language models over transformers: build, load, export, run on packed documents, and read from inside."""

from stillroom.models.attention import use_short_attention
from stillroom.models.build import build_model, export_model, load_model, plan_model, plan_pretrained_model
from stillroom.models.cost import flops_per_token, num_parameters
from stillroom.models.forward import (
    attention_patterns,
    hidden_states,
    multiplies_bf16,
    precision,
    precision_name,
)
from stillroom.models.packing import attention_mask, position_ids
from stillroom.models.plan import ModelPlan, allocate, place, realise
from stillroom.models.readout import Readout, logit_softcap, readout, unembedding

__all__ = [
    "ModelPlan",
    "Readout",
    "allocate",
    "attention_mask",
    "attention_patterns",
    "build_model",
    "export_model",
    "flops_per_token",
    "hidden_states",
    "load_model",
    "logit_softcap",
    "multiplies_bf16",
    "num_parameters",
    "place",
    "plan_model",
    "plan_pretrained_model",
    "position_ids",
    "precision",
    "precision_name",
    "readout",
    "realise",
    "unembedding",
    "use_short_attention",
]
