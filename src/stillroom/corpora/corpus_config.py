"""What a corpus is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.strict import ADDED_LATER, Count, Named, Positive, Seed, Strict


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
    """Training tokens prepared; an arm may use fewer (the first ones), never more. They are distinct but where
    ``epochs`` of a source lets its text be used again."""
    heldout_tokens: Positive = 50_000
    """Held-out tokens, from texts and worlds' items that training never sees: about one text in twenty, by
    its content."""
    isolate_documents: bool = True
    """Attention does not cross from one packed document to another and positions restart at each."""
    packing: Annotated[Literal["concat", "best-fit"], ADDED_LATER] = "concat"
    """``concat``: documents follow one another and sequences are cut from the stream. ``best-fit``: a document is kept
    whole where it fits into a sequence, and what stays free is filled with bos, which nothing learns from."""
    deduplicate: Annotated[bool, ADDED_LATER] = False
    """Whether a text that was there before, letter for letter, in any source but worlds, is left out."""
    shuffle_tokens: Annotated[Count, ADDED_LATER] = 0
    """Tokens among which the order of training is shuffled anew in each epoch; 0 means all. With a number, training
    may begin when so many tokens are there, while the corpus grows."""
    seed: Seed = 0
    """Seed of which text is held out, of what worlds draw and of the order of documents."""
