"""What a corpus is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import source_kind
from stillroom.strict import ADDED_LATER, Count, Named, Positive, Seed, Strict


class CorpusConfig(Strict):
    """Text, a tokenizer trained on it, and packed sequences of tokens."""

    path: Annotated[str | None, ADDED_LATER] = None
    """A corpus that is there, or is being built (``stillroom corpus build``), and is used as it is: a folder, a run, an
    address. What is not given beside it is read from it; ``train_tokens`` may be fewer than it holds."""
    sources: Named[SourceConfig] = Field(min_length=1)
    vocab_size: Annotated[int, Field(ge=258, le=2**24)] = 2048
    """Tokens of the byte-level BPE tokenizer, specials included. Ignored where ``tokenizer`` is given."""
    tokenizer: str | None = None
    """A Hugging Face tokenizer folder or hub id to use instead of training one."""
    digits: Annotated[Literal["single", "runs"], ADDED_LATER] = "single"
    """Of a trained tokenizer: ``single``, each digit is a token, so that arithmetic can be learnt; ``runs``: runs of
    digits may become tokens."""
    specials: Annotated[tuple[str, ...], ADDED_LATER] = ()
    """Further special tokens of a trained tokenizer, such as ``<|user|>``, with the ids after those of bos, eos and
    pad."""
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

    @model_validator(mode="before")
    @classmethod
    def _as_it_is_there(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("path"), str) or "sources" in values:
            return values
        from stillroom.corpora.given import recorded  # on demand: it looks into the corpus

        return {**recorded(values["path"]), **values}

    @field_validator("specials")
    @classmethod
    def _are_special(cls, specials: tuple[str, ...]) -> tuple[str, ...]:
        for name in specials:
            if not name.strip() or name in ("<|bos|>", "<|eos|>", "<|pad|>") or specials.count(name) > 1:
                raise ValueError(f"{name!r} is blank, there already or named twice; give names such as '<|user|>'")
        return specials

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tokenizer is not None and (self.digits, self.specials) != ("single", ()):
            raise ValueError("digits and specials are of a trained tokenizer and have no effect on a given one")
        of_ids = [name for name, source in self.sources.items() if source_kind(source.kind).ids is not None]
        if self.tokenizer is None and of_ids:
            raise ValueError(f"sources.{of_ids[0]} holds ids of a tokenizer; set tokenizer to that one")
        if 0 < self.shuffle_tokens < self.sequence_length:
            raise ValueError(
                f"shuffle_tokens is {self.shuffle_tokens}, which is less than one sequence of {self.sequence_length}; "
                "raise it, or set it to 0 for all tokens"
            )
        if len(self.specials) > self.vocab_size - 259:
            raise ValueError(
                f"vocab_size is {self.vocab_size}, expected at least {259 + len(self.specials)} with specials"
            )
        return self
