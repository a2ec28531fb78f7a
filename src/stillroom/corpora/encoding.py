"""Texts to flat ids: whole batches by the ``tokenizers`` library, marks put in by numpy, nothing per token in Python.

Needs neither torch nor transformers, so that a process which encodes starts in a second and stays small.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary, num_ids, text_begins_with_space


@dataclass(frozen=True)
class PlainTokenizer:
    """A saved tokenizer as far as ``Vocabulary`` and encoding need it: the part of a transformers one that is fast."""

    folder: Path
    bos_token_id: int
    eos_token_id: int
    all_special_ids: tuple[int, ...]

    @cached_property
    def backend_tokenizer(self) -> Tokenizer:
        """The library's own tokenizer; a text that spells a special token stays text."""
        backend: Any = Tokenizer.from_str((self.folder / "tokenizer.json").read_text(encoding="utf-8"))
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return backend

    def get_vocab(self) -> dict[str, int]:
        """Id of every token."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def __call__(self, text: str, **_: object) -> dict[str, list[Any]]:
        """Ids of a text and their places in it."""
        encoded = self.backend_tokenizer.encode(text, add_special_tokens=False)
        return {"input_ids": encoded.ids, "offset_mapping": encoded.offsets}


@dataclass(frozen=True)
class Encoded:
    """Documents as ids, each between its marks."""

    ids_N: NDArray[np.unsignedinteger[Any]]
    lengths_D: NDArray[np.int64]
    """Of every document, marks included; 0 for one of no tokens, which has no marks."""
    bytes_N: NDArray[np.uint32] | None = None
    """Bytes of text of every token, where an id alone does not tell it."""


@dataclass(frozen=True)
class Encoder:
    """Encodes documents and checks that the ids are those documents."""

    tokenizer: PlainTokenizer

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What every id stands for."""
        return Vocabulary.of(self.tokenizer)

    @cached_property
    def kind(self) -> np.dtype[Any]:
        """The numbers that ids are stored as."""
        return np.dtype(np.uint16 if num_ids(self.tokenizer) <= 1 << 16 else np.uint32)

    def encode(self, source: str, texts: Sequence[str], *, compare: bool) -> Encoded:
        """The documents of a source; with ``compare`` their tokens must say them, and bytes are counted.

        Raises ``UserError`` for a text that gives a mark, or that the tokenizer cannot say.
        """
        found = self.tokenizer.backend_tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        lengths_D = np.fromiter(map(len, found), np.int64, len(found))
        stream = itertools.chain.from_iterable(one.ids for one in found)
        flat_N = np.fromiter(stream, self.kind, int(lengths_D.sum()))
        marked = (flat_N == self.tokenizer.bos_token_id) | (flat_N == self.tokenizer.eos_token_id)
        if marked.any():
            text = texts[int(np.searchsorted(np.cumsum(lengths_D), int(marked.argmax()), side="right"))]
            raise UserError(
                f"corpus.sources.{source}: the text {_begin(text)} gives a token that opens or closes documents; "
                "leave that text out, or use a tokenizer that keeps the names of its special tokens as text."
            )
        counted = self._bytes(source, texts, flat_N, lengths_D) if compare else None
        return self._marked(flat_N, lengths_D, counted)

    def marked_ids(self, documents: Sequence[NDArray[np.uint32]], *, compare: bool) -> Encoded:
        """Documents that are ids already; with ``compare`` the bytes that they stand for are counted."""
        lengths_D = np.fromiter(map(len, documents), np.int64, len(documents))
        flat_N = np.concatenate(documents)
        if not compare or self.vocabulary.exact:
            return self._marked(flat_N, lengths_D, None)
        counted = self.vocabulary.byte_lengths_V[flat_N]
        if text_begins_with_space(self.tokenizer):  # which is no byte of a document
            firsts = (np.cumsum(lengths_D) - lengths_D)[lengths_D > 0]
            counted[firsts] -= [self.vocabulary.pieces[i].startswith(b" ") for i in flat_N[firsts].tolist()]
        return self._marked(flat_N, lengths_D, counted.astype(np.uint32))

    def _bytes(
        self, source: str, texts: Sequence[str], flat_N: NDArray[Any], lengths_D: NDArray[np.int64]
    ) -> NDArray[np.uint32] | None:
        """Bytes of every token; refuses a text that its tokens do not say. None where ids tell them."""
        counted = []
        for text, ids in zip(texts, np.split(flat_N, np.cumsum(lengths_D)[:-1]), strict=True):
            bytes_T = self.vocabulary.bytes_of(self.tokenizer, text, ids.tolist())
            if bytes_T is None:
                raise UserError(
                    f"corpus.sources.{source}: the tokenizer cannot say the text {_begin(text)} (it has no token for "
                    "some of it, or changes it), so bits per byte would be wrong; use a tokenizer that can, such as a "
                    "byte-level one, or leave that text out."
                )
            counted.append(bytes_T)
        return None if self.vocabulary.exact else np.concatenate([np.empty(0), *counted]).astype(np.uint32)

    def _marked(
        self, flat_N: NDArray[Any], lengths_D: NDArray[np.int64], counted: NDArray[np.uint32] | None
    ) -> Encoded:
        """Puts bos before and eos behind every document; where they are one id, it stands before alone."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        marks = 1 if bos == eos else 2
        whole_D = np.where(lengths_D > 0, lengths_D + marks, 0)
        ends_D = np.cumsum(whole_D)[lengths_D > 0]
        starts_D = ends_D - whole_D[lengths_D > 0]
        inside = np.ones(int(whole_D.sum()), bool)
        inside[starts_D] = False
        if marks == 2:
            inside[ends_D - 1] = False
        ids_N = np.full(inside.size, eos, self.kind)
        ids_N[inside], ids_N[starts_D] = flat_N, bos
        if counted is None:
            return Encoded(ids_N, whole_D)
        bytes_N = np.zeros(inside.size, np.uint32)
        bytes_N[inside] = counted
        return Encoded(ids_N, whole_D, bytes_N)


def _begin(text: str) -> str:
    return repr(text[:40] + "..." if len(text) > 40 else text)
