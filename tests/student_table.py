"""New students of other architectures: one table that drives their tests, made of transformers' own configurations."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent / "models"))
from architectures import tiny_config

from stillroom.config import ModelConfig


@dataclass(frozen=True)
class Kind:
    """A student of width 32 and what its architecture cannot do, by a word of the sentence that says so."""

    name: str
    model_type: str
    changes: dict[str, Any] = field(default_factory=dict)
    no_heads: str | None = None
    no_tensor: str | None = None
    no_width: str | None = None

    def file(self, folder: Path) -> Path:
        """Its ``config.json``, as transformers writes it."""
        tiny_config(self.model_type, **self.changes).save_pretrained(folder)
        return folder / "config.json"

    def model(self, folder: Path, **more: Any) -> ModelConfig:
        """The configuration of a student that takes it."""
        return ModelConfig(config=str(self.file(folder)), **more)


FAST = ("gemma3-caps", "gpt2", "qwen3-moe", "lfm2-hybrid")
"""Those that are most unlike Llama; what is asked of all, is asked of the others by the slow tests."""


def kinds(*names: str) -> list[Any]:
    """Parameters of a test: every kind, those without these names, or else not in ``FAST``, among the slow tests."""
    return [
        pytest.param(one, id=name, marks=[] if name in (names or FAST) else pytest.mark.slow)
        for name, one in KINDS.items()
    ]


_STACKS = "weights beside matrices"
KINDS = {
    one.name: one
    for one in (
        Kind("smollm", "llama", {"tie_word_embeddings": True}),
        Kind("untied-biased", "llama", {"tie_word_embeddings": False, "attention_bias": True, "head_dim": 16}),
        Kind("mistral-window", "mistral"),
        Kind("qwen3", "qwen3", no_tensor="replicated_with_grad_allreduce"),
        Kind("gemma2-caps", "gemma2"),
        Kind(
            "gemma3-caps",
            "gemma3_text",
            {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
            no_tensor="replicated_with_grad_allreduce",
        ),
        Kind("olmo2", "olmo2", no_tensor="colwise_gather_output"),
        Kind("gpt2", "gpt2", no_tensor="no plan", no_width=_STACKS),
        Kind("gpt-neox", "gpt_neox", {"num_hidden_layers": 3}),
        Kind("qwen3-moe", "qwen3_moe", no_tensor="is", no_width=_STACKS),
        Kind("lfm2-hybrid", "lfm2", no_heads="final norms", no_tensor="no plan", no_width="no last norm"),
    )
}
