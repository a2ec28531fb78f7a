"""The bytes behind every token id: lengths for bits per byte, ids that end a line, exact and quick decoding.

Letters: V vocabulary. Imports nothing of stillroom.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Vocabulary:
    """What every token id stands for, and the ids that mark where a document begins and ends.

    ``pieces[i]`` is the text of token ``i`` in bytes; special tokens and ids without a token have none.
    """

    pieces: tuple[bytes, ...]
    special: frozenset[int]
    bos: int | None
    eos: int | None

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a fast transformers tokenizer (byte-level BPE or SentencePiece style)."""
        special = frozenset(int(i) for i in tokenizer.all_special_ids)
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        added = {token["id"]: token["content"] for token in state["added_tokens"]}
        byte_of = _byte_alphabet() if '"ByteLevel"' in json.dumps(state.get("decoder")) else None
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        pieces = [
            b"" if i in special or name is None else added[i].encode() if i in added else _piece(name, byte_of)
            for i, name in enumerate(names)
        ]
        return cls(tuple(pieces), special, tokenizer.bos_token_id, tokenizer.eos_token_id)

    @cached_property
    def byte_lengths_V(self) -> NDArray[np.int64]:
        """Bytes of text per token id, (V,); 0 for special tokens."""
        return np.array([len(piece) for piece in self.pieces], dtype=np.int64)

    @cached_property
    def line_ends(self) -> tuple[int, ...]:
        """Ids after which a one-line completion is over: those with a newline in them, and the end of a document."""
        newlines = [i for i, piece in enumerate(self.pieces) if b"\n" in piece]
        return tuple(sorted({*newlines, *([] if self.eos is None else [self.eos])}))

    @property
    def document_ends(self) -> tuple[int, ...]:
        """The id that ends a document, where there is one."""
        return () if self.eos is None else (self.eos,)

    @property
    def start(self) -> list[int]:
        """The ids that open a document: the bos token where there is one."""
        return [] if self.bos is None else [self.bos]

    def line(self, ids: Iterable[int]) -> str:
        """The text of the ids up to the first newline or end of document."""
        return self._bytes(ids).split(b"\n", 1)[0].decode("utf-8", errors="replace")

    def text(self, ids: Iterable[int]) -> str:
        """The text of the ids up to the end of document."""
        return self._bytes(ids).decode("utf-8", errors="replace")

    def _bytes(self, ids: Iterable[int]) -> bytes:
        kept = []
        for i in ids:
            if i == self.eos:
                break
            kept.append(self.pieces[i])
        return b"".join(kept)


def token_bytes(tokenizer: Any) -> NDArray[np.int64]:
    """Bytes of text per token id, (V,); 0 for special tokens. Their sum over a text's ids is its length in UTF-8."""
    return Vocabulary.of(tokenizer).byte_lengths_V


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text alone, with no special token added."""
    if not texts:
        return []
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _piece(name: str, byte_of: dict[str, int] | None) -> bytes:
    if byte_of is not None:
        return bytes(byte_of[letter] for letter in name)
    found = _BYTE_PIECE.fullmatch(name)
    return bytes([int(found[1], 16)]) if found else name.replace("▁", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Letter → byte of byte-level BPE: printable Latin-1 letters are themselves, the rest is moved above 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(moved)}
