"""Head scores beside TransformerLens, and on a real model whose induction heads are known to exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stillroom.analysis import head_scores
from stillroom.config import ModelConfig
from stillroom.evaluation import measure_copying, repeated_tokens
from stillroom.models import build_model, load_model

pytestmark = pytest.mark.real
TEACHER = Path(__file__).parents[2] / "teachers" / "smollm2-135m"
PERIOD = 25


def test_scores_agree_with_transformer_lens() -> None:
    """Its hooked patterns, reduced as its own demonstrations do: the diagonals at -1 and at 1 - period."""
    lens = pytest.importorskip("transformer_lens", reason="make test-real installs it")
    conversions = pytest.importorskip("transformer_lens.pretrained.weight_conversions")
    size = {"hidden_size": 64, "num_heads": 4, "num_layers": 3, "intermediate_size": 96, "max_positions": 128}
    model = build_model(ModelConfig(**size), 300, 0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    config = lens.HookedTransformerConfig(
        n_layers=3,
        d_model=64,
        n_ctx=128,
        d_head=16,
        n_heads=4,
        d_mlp=96,
        act_fn="silu",
        d_vocab=300,
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_dim=16,
        gated_mlp=True,
        final_rms=True,
        eps=model.config.rms_norm_eps,
        original_architecture="LlamaForCausalLM",
    )
    hooked = lens.HookedTransformer(config)
    hooked.load_state_dict(conversions.convert_llama_weights(model, config), strict=False)
    tokens = repeated_tokens(range(3, 300), [0], num=5, period=PERIOD, repeats=2, seed=0)
    with torch.no_grad():
        _, cache = hooked.eval().run_with_cache(tokens)
    patterns = torch.stack([cache["pattern", layer] for layer in range(3)]).double()
    stripe = patterns.diagonal(offset=1 - PERIOD, dim1=-2, dim2=-1)[..., 2:]  # queries of the second repeat
    ours = head_scores(model, tokens, period=PERIOD)
    torch.testing.assert_close(ours.previous_token, patterns.diagonal(offset=-1, dim1=-2, dim2=-1).mean((1, 3)))
    torch.testing.assert_close(ours.prefix_matching, stripe.mean((1, 3)), atol=1e-4, rtol=0)


def test_induction_heads_of_a_real_model_are_found() -> None:
    """SmolLM2-135M copies random tokens, so heads that match prefixes and copy must be in it."""
    if not TEACHER.is_dir():
        pytest.skip("make smollm-teacher")
    model = load_model(TEACHER)
    tokens = repeated_tokens(range(1000, 20_000), [1], num=4, period=PERIOD, repeats=4, seed=0)
    part = measure_copying(model, tokens, period=PERIOD, repeats=4)
    assert part.icl_score.high < -5
    scores = head_scores(model, tokens, period=PERIOD)
    assert scores.copying is not None
    induction = scores.prefix_matching > 0.4
    assert 2 <= int(induction.sum()) <= 40
    assert scores.copying[induction].mean() > 5 * scores.copying[~induction].mean()
    assert scores.previous_token.max() > 0.8
