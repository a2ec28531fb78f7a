"""What a codec is: how the distribution of a position is read off a teacher's scores, and how it becomes columns.

A codec is one file: its options, what it reads off scores, and a coder that is fitted to a store's first labels. Beside
the entries of a codec a record holds entropy, gold log-probability, gold rank and tokens, which are the same for all
(``record_codec``). A package of someone else's adds one by the entry point ``stillroom.codecs``.
Letters: n positions of a chunk, V vocabulary, N positions, E entries, K places. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self

import numpy as np

from stillroom.labels.ragged import RaggedLabels
from stillroom.registry import entries_of, load_entry
from stillroom.types import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from stillroom.labels.codecs.position_kinds import Rankings
    from stillroom.labels.format.record import Columns, PackedRecords
    from stillroom.labels.settings import Options


@dataclass(frozen=True)
class ScoredPositions:
    """A teacher's scores at n positions, its temperature applied."""

    shifted_nV: Tensor
    """Scores less the largest of their position."""
    mass_nV: Tensor
    """exp of these: probabilities but for a factor."""
    log_total_n: Tensor
    """Logarithm of the factor: log p = shifted - log_total."""
    offset_n: Tensor
    """One number in [0, 1), float64, for each position: a function of seed, sequence and position alone."""


class Kept(NamedTuple):
    """What a codec keeps of n positions: position i owns ``num_n[i]`` consecutive entries."""

    ids_E: Tensor
    values_E: Tensor
    """Probabilities (float), or counts of draws (integers)."""
    num_n: Tensor
    tail_n: Tensor | None
    """Probability outside the ids; None where the values are unbiased without it."""


class Codec(Protocol):
    """One way to keep a distribution, with its options; a frozen dataclass whose fields are the options."""

    name: ClassVar[str]
    """What a plan or a recipe calls it."""
    coder: ClassVar[type[EntryCoder]]
    """What ``fit`` gives."""

    @classmethod
    def of(cls, options: Options) -> Self:
        """The codec with the options of a plan."""
        ...

    @property
    def draws(self) -> int | None:
        """Draws that the values count, so that a weight is value / draws; None where values are probabilities."""
        ...

    @property
    def summary(self) -> str:
        """Its size for people: ``N = 50``."""
        ...

    def read(self, scored: ScoredPositions) -> Kept:
        """What is kept of some positions, on the scores' device."""
        ...

    def fit(self, labels: RaggedLabels, vocab_size: int) -> EntryCoder:
        """A coder fitted to a sample of labels."""
        ...

    def bytes_per_token(self, vocab_size: int) -> float:
        """Bytes per token to expect of a store, everything included."""
        ...


class EntryContext(Protocol):
    """What the entries of some positions say of the columns beside them."""

    @property
    def tail_N(self) -> np.ndarray | None:
        """Probability outside the ids, where labels have a tail."""
        ...

    @property
    def entropy_context_N(self) -> np.ndarray:
        """A number below 256 that the guess of the entropy goes by."""
        ...

    def stored_place(self, place_N: np.ndarray) -> np.ndarray:
        """What is kept of the next token's place (1 + its number, 0 where it is not there) among the entries."""
        ...

    def place(self, stored_N: np.ndarray) -> np.ndarray:
        """The inverse of ``stored_place``."""
        ...

    def gold_context(self, place_N: np.ndarray) -> np.ndarray:
        """A number below 256 that the guess of the next token's log-probability goes by."""
        ...


class EntryCoder(Protocol):
    """The entries of a codec to columns of a record and back, fitted to one store."""

    SYMBOLS: ClassVar[tuple[str, ...]]
    """Columns of byte symbols, for the entropy coder; none of ``entropy``, ``gold``, ``rank``, ``missed``."""
    PLAIN: ClassVar[tuple[str, ...]]
    """Columns of plain bytes."""
    HAS_TAIL: ClassVar[bool]

    @property
    def rankings(self) -> Rankings:
        """The rankings of the vocabulary."""
        ...

    def encode(self, rows: RaggedLabels) -> tuple[RaggedLabels, Columns, EntryContext]:
        """The labels with their entries in the order of the record, their columns, and what is known beside them."""
        ...

    def sizes(self, record: PackedRecords) -> Sequence[np.ndarray]:
        """What says how many ids each position has, the number (N,) of them first; given to ``fill``."""
        ...

    def fill(
        self, record: PackedRecords, sizes: Sequence[np.ndarray], ids_NK: np.ndarray, weights_NK: np.ndarray
    ) -> EntryContext:
        """Writes ids and weights into arrays of zeros."""
        ...

    def to_parts(self) -> dict[str, bytes]:
        """The coder as named parts of the codebook, but for ``rankings``."""
        ...

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes], rankings: Rankings) -> Self:
        """The inverse of ``to_parts``; raises ``LookupError`` or ``ValueError`` for parts that are not its own."""
        ...

    def is_sound(self) -> bool:
        """Whether every table has the size that a reader counts on, so that none is looked up beyond its end."""
        ...


_CODECS: dict[str, type[Codec]] = {}


def register_codec(codec: type[Codec]) -> None:
    """Lets plans and recipes choose a codec by its name."""
    _CODECS[codec.name] = codec


def find_codec(name: object, where: str) -> type[Codec]:
    """The codec of a name; a ``UserError`` that begins with ``where`` lists those that there are."""
    if name not in _CODECS:
        for entry in entries_of("stillroom.codecs").values():
            register_codec(load_entry(entry))
    if name not in _CODECS:
        raise UserError(f"{where}: codec is {name!r}, expected one of {', '.join(sorted(_CODECS))}.")
    return _CODECS[str(name)]


def id_bits(vocab_size: int) -> float:
    """Bits that an id of a small set takes by its kind's ranked vocabulary, about log2(V) - 7.2."""
    return max(2.0, vocab_size.bit_length() - 7.2)
