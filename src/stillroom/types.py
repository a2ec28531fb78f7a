"""The shared vocabulary: what a batch is, what soft labels are, and the one exception that a user may see.

Letters: B sequences, T positions, N = B·T, V vocabulary, K stored ids per position. Imports nothing of stillroom.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IGNORE_INDEX = -100
"""Target id of a position that is not trained on (the value that PyTorch and transformers use)."""


_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of characters that act on a terminal, or cannot be written to one, instead of being seen."""


def printable(text: object) -> str:
    r"""A text from outside as one line that a terminal shows and does not obey.

    Line breaks, escape codes, direction marks, bytes of names that are not UTF-8 and the like become ``\n``,
    ``\x1b``, ``\u202e``, ``\udcff``.
    """
    return "".join(_escaped(character) if _is_unseen(character) else character for character in str(text))


def printable_lines(text: str) -> str:
    """``printable`` of every line of a text; its line breaks and tabs stay."""
    if all(part.isprintable() for part in text.split("\n")):
        return text
    return "".join(sign if sign in "\n\t" else printable(sign) for sign in text)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


OnProgress = Callable[[int, int], None]
"""Hears how far work is: what is done, of how much in all, in units of whoever calls it."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one sentence: the field or file, what was found, what was expected and what to do. The command line
    prints it without a traceback and exits with code 2. What it quotes may come from anywhere, so it reads as
    ``printable``.
    """

    def __str__(self) -> str:
        return printable(super().__str__()).replace("?.", "?")  # a hint that ends a sentence asks


class Unreadable(UserError):
    """Data that is damaged or not what its kind should be, as against a configuration that is wrong."""


class _Moves:
    """Moves every tensor of a frozen dataclass to a device."""

    def to(self, device: torch.device | str) -> Self:
        """A copy with every tensor on ``device``; fields that are None stay None."""
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)  # type: ignore[arg-type]
            if hasattr(value := getattr(self, field.name), "to")
        }
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Batch(_Moves):
    """B packed sequences of T tokens.

    ``targets_BT[b, t]`` is the token after position t of the same document, or ``IGNORE_INDEX`` where there is none:
    the shift by one has been done. ``document_BT`` numbers the documents of a sequence from 0; attention does not
    cross from one to another and positions restart at each. ``process_BT`` tells which process of a synthetic world
    made the token (0 = background), and is None for text.
    """

    tokens_BT: Tensor  # int64
    targets_BT: Tensor  # int64
    document_BT: Tensor  # int32, never decreasing along T
    process_BT: Tensor | None = None  # int32

    @property
    def num_positions(self) -> int:
        """N = B·T."""
        return self.tokens_BT.numel()


@dataclass(frozen=True)
class SpecialIds:
    """The ids that open and close a document and that fill what is left of a batch; None where there is none."""

    bos: int | None = None
    eos: int | None = None
    pad: int | None = None


OWN_IDS = SpecialIds(0, 1, 2)
"""Those of every tokenizer that this package trains."""


@dataclass(frozen=True)
class SoftLabels(_Moves):
    """A teacher's next-token distribution at every position of a batch, as K weighted ids.

    ``weights[..., k]`` belongs to token ``ids[..., k]`` and is a probability (top-k codecs) or an unbiased sampled
    weight (sampled codec, rows sum to 1) at temperature 1 unless the store says otherwise. Unused places have weight 0
    and id 0. ``tail`` is the probability outside the listed ids, or None where the weights are unbiased without one.
    ``entropy`` (nats), ``gold_logprob`` (nats, of the true next token) and ``gold_rank`` (0 = the teacher's first
    choice) are of the teacher's full distribution; the last two are 0 and -1 where a position has no target.
    Leading shape is (B, T) or (N,).
    """

    ids: Tensor  # int64 (..., K)
    weights: Tensor  # float32 (..., K)
    entropy: Tensor  # float32 (...)
    gold_logprob: Tensor  # float32 (...)
    gold_rank: Tensor  # int32 (...)
    tail: Tensor | None = None  # float32 (...)

    def flatten(self) -> SoftLabels:
        """The same labels with leading shape (N,)."""
        width = self.ids.shape[-1]
        return SoftLabels(
            ids=self.ids.reshape(-1, width),
            weights=self.weights.reshape(-1, width),
            entropy=self.entropy.reshape(-1),
            gold_logprob=self.gold_logprob.reshape(-1),
            gold_rank=self.gold_rank.reshape(-1),
            tail=None if self.tail is None else self.tail.reshape(-1),
        )


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % interval and the number of independent items behind it."""

    value: float
    low: float
    high: float
    num: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON, which has none that are not finite: an unknown end of the interval is None."""
        values = {name.rstrip("_"): value for name, value in vars(self).items()}  # as files of results call them
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }


class Sequences(Protocol):
    """An ordered set of packed sequences, addressed by number: what a corpus gives to labelling and evaluation."""

    @property
    def sequence_length(self) -> int:
        """T, in tokens."""
        ...

    def __len__(self) -> int:
        """How many sequences there are."""
        ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """The sequences with these numbers, in this order."""
        ...
