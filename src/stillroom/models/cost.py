"""How many parameters a configuration has and what a token costs, without building the model.

Letters: V vocabulary, D width, L layers, T positions. Imports no torch.
"""

from __future__ import annotations

from stillroom.models.model_config import ModelConfig


def _matrix_parameters(config: ModelConfig) -> int:
    """Parameters of the matrices inside the blocks: each costs 2 FLOPs per token in a forward pass."""
    width = config.hidden_size
    kv_width = width // config.num_heads * (config.num_kv_heads or config.num_heads)
    attention = 2 * width * width + 2 * width * kv_width
    return config.num_layers * (attention + 3 * width * config.intermediate_size)


def num_parameters(config: ModelConfig, vocab_size: int) -> int:
    """Parameters of the model, embeddings included (counted once where they are tied)."""
    norms = (2 * config.num_layers + 1) * config.hidden_size
    embeddings = vocab_size * config.hidden_size * (1 if config.tie_embeddings else 2)
    return _matrix_parameters(config) + norms + embeddings


def flops_per_token(config: ModelConfig, vocab_size: int, sequence_length: int, *, backward: bool) -> float:
    """Model FLOPs per token: 2 per multiply-add of the blocks' matrices, the unembedding and causal attention.

    A backward pass counts twice a forward pass (Kaplan et al. 2020, 2001.08361, appendix B, plus attention over the
    mean T/2 earlier positions). Recomputation is not counted.
    """
    matrices = _matrix_parameters(config) + vocab_size * config.hidden_size
    attention = 2 * config.num_layers * config.hidden_size * (sequence_length / 2)
    return 2.0 * (matrices + attention) * (3.0 if backward else 1.0)
