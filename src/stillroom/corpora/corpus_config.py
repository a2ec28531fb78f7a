"""What a corpus is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.strict import Named, Positive, Seed, Strict


class CorpusConfig(Strict):
    """Text, a tokenizer trained on it, and packed sequences of tokens."""

    sources: Named[SourceConfig] = Field(min_length=1)
    vocab_size: Annotated[int, Field(ge=258, le=2**24)] = 2048
    """Tokens of the byte-level BPE tokenizer, specials included. Ignored where ``tokenizer`` is given."""
    tokenizer: str | None = None
    """A Hugging Face tokenizer folder or hub id to use instead of training one."""
    sequence_length: Annotated[int, Field(ge=8, le=2**20)] = 128
    """T, in tokens."""
    train_tokens: Positive = 1_000_000
    """Distinct training tokens prepared; an arm may use fewer (the first ones), never more."""
    heldout_tokens: Positive = 50_000
    """Held-out tokens, from files and worlds' items that training never sees."""
    isolate_documents: bool = True
    """Attention does not cross from one packed document to another and positions restart at each."""
    seed: Seed = 0
    """Seed of which text is held out, of what worlds draw and of the order of documents."""
