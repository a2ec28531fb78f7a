"""A tiny tokenizer, tiny models, packed text, and a model that says what it is told to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from stillroom.config import ModelConfig
from stillroom.corpora.corpus import make_batch
from stillroom.corpora.tokenizer import train_tokenizer
from stillroom.models import build_model
from stillroom.types import Batch
from stillroom.worlds.facts_world import FactsWorld
from stillroom.worlds.problems_world import ProblemsWorld

TEXTS = ["the cat sat on the mat.\n", "a dog; the café\n\n", "12 + 30 = 42\n", "naïve – 日本 😀\n"]


def documents(num: int) -> list[str]:
    worlds = (FactsWorld().documents(0, "train"), ProblemsWorld().documents(0, "train"))
    return TEXTS * 4 + [next(worlds[i % 2]) for i in range(num)]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(documents(400), 600)


@dataclass(frozen=True)
class Packed:
    """Documents packed as training packs them."""

    tokens_IT: Tensor

    @property
    def sequence_length(self) -> int:
        return self.tokens_IT.shape[1]

    def __len__(self) -> int:
        return len(self.tokens_IT)

    def batch(self, indices: Sequence[int]) -> Batch:
        return make_batch(self.tokens_IT[list(indices)], bos=0)


@pytest.fixture(scope="session")
def heldout_sequences(tokenizer: PreTrainedTokenizerFast) -> Packed:
    ids = [i for text in documents(60) for i in (0, *tokenizer(text, add_special_tokens=False)["input_ids"], 1)]
    length = 24
    return Packed(torch.tensor(ids[: len(ids) // length * length]).view(-1, length)[:40])


def lively(model: PreTrainedModel, scale: float = 4.0) -> PreTrainedModel:
    """The model with larger weights, so that its predictions differ from place to place."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return model


def tiny_llama(num_kv_heads: int = 2, vocab_size: int = 600, seed: int = 1) -> PreTrainedModel:
    config = ModelConfig(hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, num_kv_heads=num_kv_heads)
    return lively(build_model(config, vocab_size, seed))


@pytest.fixture(scope="session")
def llama() -> PreTrainedModel:
    return tiny_llama().eval()


@pytest.fixture(scope="session")
def gpt2() -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=600, n_positions=128, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1
        )
        return lively(GPT2LMHeadModel(config)).eval()


class Scripted(nn.Module):
    """Puts nearly all probability on ``rule(tokens so far)`` at every position: a model whose scores are known."""

    def __init__(self, vocab_size: int, rule: Callable[[list[int]], int | None], sharpness: float = 50.0) -> None:
        super().__init__()
        self.config: Any = SimpleNamespace(_attn_implementation="sdpa", max_position_embeddings=None)
        self.device = torch.device("cpu")
        self._identity = SimpleNamespace(weight=torch.eye(vocab_size), bias=None)
        self._rule, self._sharpness, self._vocab_size = rule, sharpness, vocab_size

    def base_model(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        hidden = torch.zeros(*input_ids.shape, self._vocab_size)
        for row, ids in enumerate(input_ids.tolist()):
            for place in range(len(ids)):
                sees = [True] * (place + 1) if attention_mask is None else attention_mask[row, 0, place].tolist()
                said = self._rule([i for i, seen in zip(ids[: place + 1], sees, strict=False) if seen])
                if said is not None:
                    hidden[row, place, said] = self._sharpness
        return SimpleNamespace(last_hidden_state=hidden)

    def get_output_embeddings(self) -> Any:
        return self._identity


@pytest.fixture(scope="session")
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture(scope="session")
def make_llama() -> Callable[..., PreTrainedModel]:
    return tiny_llama
