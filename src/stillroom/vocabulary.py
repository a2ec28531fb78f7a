"""The bytes behind every token id: lengths for bits per byte, ids that end a line, exact and quick decoding.

A tokenizer is of use here if its tokens give the text back. ``Vocabulary.of`` looks at the parts that change or cut
text and refuses one that loses some, and ``Vocabulary.bytes_of`` compares a whole text with its tokens.

Letters: T tokens of a text, V vocabulary. Imports nothing of stillroom but its types.
"""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stillroom.types import UserError

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")

PROBES = (
    "Plain words, and 1,234.5 (digits).",
    "one  two\nthree   four\n\n\n\tfive",
    " a leading space, and a trailing one ",
    "\n a line first,\r\nthen CRLF\r\n",
    "Capitals, naïve café, STRASSE straße",
    "ﬁne №１２ ½ x² ｆｕｌｌ",
    "日本語 한국어 ру́сский नमस्ते مرحبا",
    "🙂👩‍👩‍👧 e\u0301 \u00a0\u200b\u3000|",
    "if x != [1]:\n        return {'a': b}  # don't; a.b , c",
    "<s> </s> <unk> [CLS] <|endoftext|> <0x41> ##x x</w> Ġx",
)
"""Texts that a normaliser or pre-tokenizer must leave whole: what people's tokenizers are known to lose."""


class Pieces(tuple[bytes, ...]):
    """The text of every token id in bytes; special tokens have none.

    ``spelt`` has what a special token is called in its place: what a stop text names.
    """

    spelt: tuple[bytes, ...]

    def __new__(cls, pieces: Iterable[bytes], spelt: Iterable[bytes] = ()) -> Self:
        """Pieces by id, and their names where those differ."""
        made = super().__new__(cls, pieces)
        made.spelt = tuple(spelt) or tuple(made)
        return made


_NO_BYTE = "\u0100"


@dataclass(frozen=True)
class _Spelling:
    """How the names in a tokenizer's vocabulary stand for bytes."""

    byte_of: dict[str, int] | None
    """Letter → byte in byte-level vocabularies."""
    space: str
    """The letter that stands for a space; empty where a space is written as itself."""
    before: str = ""
    """What the names of tokens inside a word begin with."""
    after: str = ""
    """What the names of tokens at the end of a word end with."""

    @classmethod
    def of(cls, backend: Any) -> _Spelling:
        parts = [_state(part) for part in (backend.normalizer, backend.pre_tokenizer, backend.decoder)]
        types = {part["type"] for state in parts for part in _flat(state)}
        spaces = [mark for state in parts for part in _flat(state) if (mark := _space_mark(part))]
        model = backend.model
        return cls(
            _byte_alphabet() if "ByteLevel" in types else None,
            spaces[0] if spaces else "",
            getattr(model, "continuing_subword_prefix", None) or "",
            getattr(model, "end_of_word_suffix", None) or "",
        )

    def piece(self, name: str) -> bytes:
        """The bytes of a token of the vocabulary."""
        name = name.removeprefix(self.before) if self.before else name
        name = name.removesuffix(self.after) if self.after else name
        if self.byte_of is not None:
            with contextlib.suppress(UnicodeEncodeError):  # of a name that holds a letter which stands for no byte
                return name.translate(self._letters).encode("latin-1")
        found = _BYTE_PIECE.fullmatch(name)
        return bytes([int(found[1], 16)]) if found else self.text(name).encode()

    @cached_property
    def _letters(self) -> dict[int, str]:
        """Byte for letter, as a table that ``str.translate`` takes; a letter for no byte becomes none of latin-1."""
        known = {ord(letter): chr(byte) for letter, byte in (self.byte_of or {}).items()}
        return {code: _NO_BYTE for code in range(256)} | known

    def text(self, name: str) -> str:
        """A text with ordinary spaces."""
        return name.replace(self.space, " ") if self.space else name

    def cut(self, backend: Any, text: str) -> bytes:
        """What is left of a text when it has been normalised and cut into words, joined again."""
        whole = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        if backend.pre_tokenizer is None:
            return self.text(whole).encode()
        parts = [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(whole)]
        if self.byte_of is None:
            return "".join(map(self.text, parts)).encode()
        return bytes(self.byte_of[letter] for letter in "".join(parts))


def _state(part: Any) -> dict[str, Any] | None:
    """The settings of a part of a tokenizer; such a part says them as JSON to whoever pickles it."""
    return None if part is None else json.loads(part.__getstate__())


def _flat(state: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The parts of a part, where it is a sequence of them."""
    if state is None:
        return []
    inner = next((state[name] for name in ("normalizers", "pretokenizers", "decoders") if name in state), None)
    return [state] if inner is None else [part for one in inner for part in _flat(one)]


def _space_mark(part: dict[str, Any]) -> str:
    """The letter that a part of a tokenizer puts in the place of a space, or back."""
    if part["type"] == "Metaspace":
        return part["replacement"]
    if part["type"] != "Replace":
        return ""
    pattern, content = part["pattern"].get("String", ""), part["content"]
    other = content if pattern == " " else pattern if content == " " else ""
    return other if len(other) == 1 and other != " " else ""


@dataclass(frozen=True)
class Vocabulary:
    """What every token id stands for, and the ids that mark where a document begins and ends.

    ``pieces[i]`` is the text of token ``i`` in bytes; special tokens and ids without a token have none.
    """

    pieces: tuple[bytes, ...]
    special: frozenset[int]
    bos: int | None
    eos: int | None
    exact: bool = True
    """Whether the pieces of every text that can be encoded are that text; else they may begin with a space more, be
    another Unicode form of it, or have a space for ``space``, and only ``bytes_of`` knows the bytes of each token."""
    space: str = ""
    """The letter that the tokenizer does not tell from a space."""

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a fast transformers tokenizer; a ``UserError`` for one that loses text."""
        backend = _backend(tokenizer)
        spelling = _Spelling.of(backend)
        special = frozenset(int(i) for i in tokenizer.all_special_ids)
        added = {i: str(token.content) for i, token in backend.get_added_tokens_decoder().items()}
        names: list[str | None] = [None] * num_ids(tokenizer)
        for name, i in tokenizer.get_vocab().items():
            names[i] = name
        spelt = [
            b"" if name is None else added[i].encode() if i in added else name.encode() if i in special
            else spelling.piece(name)
            for i, name in enumerate(names)
        ]  # fmt: skip
        pieces = Pieces((b"" if i in special else piece for i, piece in enumerate(spelt)), spelt)
        exact = _keeps_text(backend, spelling)
        return cls(pieces, special, tokenizer.bos_token_id, tokenizer.eos_token_id, exact, spelling.space)

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

    def bytes_of(self, tokenizer: Any, text: str, ids: Sequence[int]) -> NDArray[np.int64] | None:
        """Bytes of ``text`` that each of its tokens stands for, (T,); they add up to the text's.

        None where the tokens do not say the text: one is unknown, or something was left out or changed. What Unicode
        calls the same text is no change, nor is a space that the tokenizer puts before a text.
        """
        said, lengths_T = self._bytes(ids, through=True), self.byte_lengths_V[list(ids)]
        if said == text.encode():
            return lengths_T
        if said == b" " + text.encode():
            lengths_T[0] -= 1
            return lengths_T
        plain = said.decode("utf-8", errors="replace")
        if not _alike(plain, text, self.space):
            return None
        return _bytes_by_place(tokenizer, text, ids)

    def _bytes(self, ids: Iterable[int], *, through: bool = False) -> bytes:
        kept = []
        for i in ids:
            if i == self.eos and not through:
                break
            kept.append(self.pieces[i] if i < len(self.pieces) else b"")  # models may have more rows than tokens
        return b"".join(kept)


def _backend(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"{_name(tokenizer)}: is a tokenizer written in Python, of which the bytes behind a token are not known; "
            "use one with a tokenizer.json (a 'fast' one)."
        )
    return backend


def _name(tokenizer: Any) -> str:
    path = str(getattr(tokenizer, "name_or_path", ""))
    return f"the tokenizer of {path}" if path else "the tokenizer"


def num_ids(tokenizer: Any) -> int:
    """One more than the largest id; more than ``len(tokenizer)`` where ids are left out."""
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=-1))


def _keeps_text(backend: Any, spelling: _Spelling) -> bool:
    """Whether no text is changed at all before it is looked up; a ``UserError`` where some is lost.

    Costs milliseconds: the probes are cut into words, not encoded.
    """
    if getattr(backend.model, "dropout", None):
        raise UserError(
            f"tokenizer: gives a text other ids every time (dropout {backend.model.dropout:g}); set dropout to null in "
            "its tokenizer.json."
        )
    left = [(probe, spelling.cut(backend, probe)) for probe in PROBES]
    for probe, said in left:
        plain = said.decode("utf-8", errors="replace")
        if not _alike(plain, probe, spelling.space):
            raise UserError(
                f"tokenizer: loses text ({_difference(probe, plain)}), so that bits per byte, samples and stop texts "
                "would be wrong; use one that keeps every character, such as a byte-level one."
            )
    return not spelling.space and all(said == probe.encode() for probe, said in left)


def _alike(said: str, text: str, space: str) -> bool:
    """Whether two texts are the same to Unicode (canonically), the first with at most a space more at its front."""

    def form(one: str) -> str:
        return unicodedata.normalize("NFC", one.replace(space, " ") if space else one)

    return form(said) in (form(text), form(f" {text}"))


def _difference(text: str, said: str) -> str:
    """Where two texts part, in words."""
    place = next((i for i, (a, b) in enumerate(zip(text, said, strict=False)) if a != b), min(len(text), len(said)))
    part = slice(max(0, place - 8), place + 12)
    return f"{text[part]!r} becomes {said[part]!r}"


def _bytes_by_place(tokenizer: Any, text: str, ids: Sequence[int]) -> NDArray[np.int64] | None:
    """Bytes per token by the place in the text that the tokenizer says each is from; what lies between two is the
    second's.
    """
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    if list(encoded["input_ids"]) != list(ids) or not ids:
        return None
    upto = np.cumsum([0, *(len(letter.encode()) for letter in text)])
    ends_T = np.maximum.accumulate(upto[[end for _, end in encoded["offset_mapping"]]])
    ends_T[-1] = upto[-1]
    return np.diff(ends_T, prepend=0)


def token_bytes(tokenizer: Any) -> NDArray[np.int64]:
    """Bytes of text per token id, (V,); 0 for special tokens.

    Their sum over the ids that ``encode`` gives a text is its length in UTF-8. Over the ids of a document it need not
    be where ``Vocabulary.exact`` is false: ``Vocabulary.bytes_of`` counts those.
    """
    return Vocabulary.of(tokenizer).byte_lengths_V


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text as it stands inside a document: no special token and no space is put before it.

    A text that spells out a special token stays text.
    """
    inside = _inside(tokenizer)
    if inside is None:
        return encode_documents(tokenizer, texts)
    return [encoding.ids for encoding in inside.encode_batch(list(texts), add_special_tokens=False)]


def encode_documents(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text as it begins a document: with the space that some tokenizers put before a text.

    A text that spells out a special token stays text: it must not open or close a document.
    """
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [list(ids) for ids in encoded]


def text_begins_with_space(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a space before every text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and _Spelling.of(backend).cut(backend, "a").startswith(b" ")


_INSIDE: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _inside(tokenizer: Any) -> Any:
    """The tokenizer without the space that it puts before a text; None where it puts none."""
    if not text_begins_with_space(tokenizer):
        return None
    if tokenizer not in _INSIDE:
        backend = tokenizer.backend_tokenizer
        state = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
        for part in ("normalizer", "pre_tokenizer"):
            state[part] = _without_prefix(state[part])
        _INSIDE[tokenizer] = type(backend).from_str(json.dumps(state))
        _INSIDE[tokenizer].encode_special_tokens = True
    return _INSIDE[tokenizer]


def _without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normaliser or pre-tokenizer that puts nothing before a text."""
    if part is None or part["type"] == "Prepend":
        return None
    for inner in ("normalizers", "pretokenizers"):
        if inner in part:
            return part | {inner: [kept for one in part[inner] if (kept := _without_prefix(one)) is not None]}
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    return part | {"add_prefix_space": False} if "add_prefix_space" in part else part


def _byte_alphabet() -> dict[str, int]:
    """Letter → byte of byte-level BPE: printable Latin-1 letters are themselves, the rest is moved above 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(moved)}
