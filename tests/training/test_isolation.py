"""Documents are kept apart alike by every attention implementation."""

from __future__ import annotations

import engine
import pytest
import torch
from torch import Tensor

from stillroom.models import build_model, hidden_states, packing, use_short_attention
from stillroom.types import Batch


def _batch() -> Batch:
    return engine.training_data().train.batch(range(6))


def _hidden(implementation: str) -> Tensor:
    model = build_model(engine.MODEL, engine.VOCAB, 0).eval()
    if implementation == "short":
        use_short_attention(model)
    elif implementation != "one row":
        model.set_attn_implementation(implementation)
    with torch.no_grad():
        return hidden_states(model, _batch())


@pytest.mark.parametrize("implementation", ["eager", "short", "one row"])
def test_implementations_agree(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``one row`` is how flash-attention is called; here another kernel answers the call."""
    assert int(_batch().document_BT.max()) >= 2
    expected = _hidden("sdpa")
    if implementation == "one row":
        monkeypatch.setattr(packing, "way_of", lambda *_: "one row")
    torch.testing.assert_close(_hidden(implementation), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own, when it compiles
def test_flex_attention_agrees() -> None:
    torch.testing.assert_close(_hidden("flex_attention"), _hidden("sdpa"), rtol=1e-4, atol=1e-5)
