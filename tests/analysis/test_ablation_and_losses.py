"""Taking heads out, and loss token by token, against plain forward passes."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from stillroom.analysis import (
    batch_entropies,
    batch_losses,
    by_quantile,
    copying_ablation,
    largest_differences,
    split_losses,
    without_head,
)
from stillroom.analysis import loss_comparison as losses_module
from stillroom.config import ModelConfig
from stillroom.corpora.corpus import make_batch
from stillroom.evaluation import repeated_tokens
from stillroom.models import build_model, hidden_states
from stillroom.objectives import copyable
from stillroom.types import IGNORE_INDEX, Batch, UserError


@pytest.fixture
def model() -> PreTrainedModel:
    built = build_model(ModelConfig(hidden_size=32, intermediate_size=48, num_heads=4, num_layers=2), 100, 0)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return built


def gemma(softcap: float | None) -> PreTrainedModel:
    """A tiny Gemma 2, whose logits are capped at a size that matters."""
    config = Gemma2Config(
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=softcap, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Gemma2ForCausalLM(config).eval()
    with torch.no_grad():
        made.get_output_embeddings().weight.mul_(40)
    return made


def documents(seed: int = 0) -> Batch:
    tokens = torch.randint(3, 100, (4, 20), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = 0
    tokens[1, 7] = tokens[2, 15] = 0
    return make_batch(tokens, bos=0)


def test_token_losses_are_the_cross_entropy_of_each_target(model, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = documents()
    monkeypatch.setattr(losses_module, "_LOGITS_AT_A_TIME", 700)
    losses = batch_losses(model, batch)
    assert model.training
    with torch.no_grad():
        logprobs = model.lm_head(hidden_states(model.eval(), batch)).log_softmax(-1)
    counted = batch.targets_BT != IGNORE_INDEX
    expected = -logprobs.gather(2, batch.targets_BT.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(losses[counted], expected[counted], atol=1e-5, rtol=1e-5)
    assert (losses[~counted] == 0).all() and (~counted).any()


def test_a_batch_without_targets_has_no_loss(model) -> None:
    batch = documents()
    nothing = Batch(batch.tokens_BT, torch.full_like(batch.targets_BT, IGNORE_INDEX), batch.document_BT)
    assert (batch_losses(model, nothing) == 0).all()


def test_a_silenced_head_is_one_whose_output_weights_are_zero(model) -> None:
    tokens = documents().tokens_BT
    model.eval()
    with torch.no_grad():
        before = model(tokens).logits
        with without_head(model, 1, 2):
            silenced = model(tokens).logits
        after = model(tokens).logits
        weight = model.base_model.layers[1].self_attn.o_proj.weight
        kept = weight.clone()
        weight[:, 16:24] = 0
        zeroed = model(tokens).logits
        weight.copy_(kept)
    torch.testing.assert_close(silenced, zeroed)
    assert torch.equal(before, after) and not torch.allclose(before, silenced)


def test_ablation_measures_the_loss_on_repeats(model) -> None:
    tokens = repeated_tokens(range(3, 100), [0], num=5, period=6, repeats=3, seed=0)
    steps: list[tuple[int, int]] = []
    result = copying_ablation(model, tokens, period=6, progress=lambda *step: steps.append(step))
    with torch.no_grad():
        logprobs = model.eval()(tokens).logits.log_softmax(-1)
        expected = -logprobs[:, 7:-1].gather(2, tokens[:, 8:, None]).mean()
    assert result.whole == pytest.approx(float(expected), rel=1e-5)
    assert result.effect.shape == (2, 4)
    with without_head(model, 0, 3):
        alone = copying_ablation(model, tokens, period=6).whole
    assert float(result.without[0, 3]) == pytest.approx(alone, rel=1e-6)
    assert steps[-1] == (8, 8)


def test_a_head_that_writes_nothing_has_no_effect(model) -> None:
    with torch.no_grad():
        model.base_model.layers[0].self_attn.o_proj.weight[:, :8] = 0
    tokens = repeated_tokens(range(3, 100), [0], num=3, period=6, repeats=2, seed=0)
    effect = copying_ablation(model, tokens, period=6).effect
    assert float(effect[0, 0]) == pytest.approx(0.0, abs=1e-6)
    assert float(effect.abs().max()) > 1e-3


def test_ablation_refuses_what_it_cannot_measure(model) -> None:
    with pytest.raises(ValueError, match="no repeat"):
        copying_ablation(model, torch.zeros(1, 5, dtype=torch.int64), period=6)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(UserError, match="Llama layout"), without_head(other, 0, 0):
        pass


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 5)), min_size=1, max_size=40), st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_quantile_bins_share_out_all_tokens_in_order(pairs: list[tuple[float, float]], num_bins: int) -> None:
    num_bins = min(num_bins, len(pairs))
    values, keys = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    bins = by_quantile(values, keys, num_bins)
    assert sum(part.num for part in bins) == len(pairs)
    assert max(part.num for part in bins) - min(part.num for part in bins) <= 1
    assert all(one.high <= other.low for one, other in itertools.pairwise(bins))
    assert sum(part.mean * part.num for part in bins) == pytest.approx(float(values.sum()), abs=1e-6)


def test_more_bins_than_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bins"):
        by_quantile(torch.zeros(2), torch.zeros(2), 3)


class Letters:
    """A tokenizer whose token i is a letter."""

    def decode(self, ids: list[int]) -> str:
        return chr(33 + ids[0])


def test_largest_differences_are_found_in_order_and_do_not_overlap() -> None:
    batch = documents()
    first, second = torch.zeros(4, 20), torch.zeros(4, 20)
    first[0, 4:8] = 2.0  # the second is better here
    second[3, 10:12] = 3.0  # and worse here
    first[2, 1] = 0.5
    passages = largest_differences(first, second, batch, Letters(), width=4, num=5)
    assert [passage.total for passage in passages] == [8.0, -6.0, 0.5]
    assert passages[0].tokens == tuple(Letters().decode([i]) for i in batch.targets_BT[0, 4:8].tolist())
    assert passages[0].gains == (2.0,) * 4
    assert len(largest_differences(first, second, batch, Letters(), width=4, num=1)) == 1
    assert largest_differences(first, first, batch, Letters()) == []


def test_only_the_heads_asked_for_are_taken_out(model) -> None:
    tokens = repeated_tokens(range(3, 100), [0], num=5, period=6, repeats=3, seed=0)
    whole, some = copying_ablation(model, tokens, period=6), copying_ablation(model, tokens, period=6, heads=[(1, 2)])
    assert float(some.without[1, 2]) == pytest.approx(float(whole.without[1, 2]))
    assert int(some.effect.isnan().sum()) == 7 and some.whole == whole.whole


def test_copyable_is_what_followed_the_last_time_in_this_document() -> None:
    tokens = torch.tensor([[0, 5, 6, 5, 6, 5, 7, 5, 7, 0, 5, 6]])
    found = copyable(make_batch(tokens, bos=0))
    #                 0  5  6  5  6  5  7  5  7  0  5  6
    assert found.tolist() == [[bool(i) for i in (0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0)]]


def test_losses_are_split_by_kind_of_token(model) -> None:
    batch = documents()
    batch = make_batch(torch.cat([batch.tokens_BT, batch.tokens_BT[:, 1:8]], dim=1), bos=0)
    losses = batch_losses(model, batch)
    entropy = batch_entropies(model, batch)
    with torch.no_grad():
        logprobs = model.eval().lm_head(hidden_states(model, batch)).log_softmax(-1)
    torch.testing.assert_close(entropy, -(logprobs.exp() * logprobs).sum(-1), atol=1e-5, rtol=1e-4)
    parts = {part.name: part for part in split_losses(losses, losses + 1, batch, entropy_BT=entropy, num_bins=3)}
    counted = batch.targets_BT != IGNORE_INDEX
    assert parts["all"].num == int(counted.sum()) == parts["copyable"].num + parts["not copyable"].num
    assert parts["copyable"].first == pytest.approx(float(losses[copyable(batch)].mean()), rel=1e-6)
    assert all(part.second - part.first == pytest.approx(1.0, abs=1e-5) for part in parts.values())
    bins = [part for name, part in parts.items() if name.startswith("teacher entropy")]
    assert sum(part.num for part in bins) == int(counted.sum()) and len(bins) == 3


def test_losses_and_entropies_are_those_of_capped_logits() -> None:
    """Of a model that caps its logits they are what its own forward pass says, not what its last matrix says."""
    batch, capped, bare = documents(), gemma(3.0), gemma(None)
    bare.load_state_dict(capped.state_dict())
    alone = Batch(batch.tokens_BT, batch.targets_BT, torch.zeros_like(batch.document_BT))
    counted = alone.targets_BT != IGNORE_INDEX
    with torch.no_grad():
        logprobs = capped(alone.tokens_BT).logits.float().log_softmax(-1)
    expected = -logprobs.gather(2, alone.targets_BT.clamp(min=0)[..., None])[..., 0]
    losses = batch_losses(capped, alone, isolate=False)
    torch.testing.assert_close(losses[counted], expected[counted], atol=1e-4, rtol=1e-4)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    torch.testing.assert_close(batch_entropies(capped, alone, isolate=False), entropy, atol=1e-4, rtol=1e-4)
    assert (batch_losses(bare, alone, isolate=False) - losses).abs()[counted].max() > 1  # the cap is no detail here
