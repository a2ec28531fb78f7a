"""Several teachers as one: averaged, the best at each position, or each for the sources that it knows.

A mixture is ``Scores`` like a single model, so it is labelled into a store by the same path, with every codec, or
asked live. Letters: B sequences, T positions, n positions of a chunk, V vocabulary, M members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stillroom.labels.format.layout import record_keys
from stillroom.labels.reading import NotFinite, Scores, refuse_non_finite
from stillroom.types import IGNORE_INDEX, Batch, Sequences, UserError

Rule = Literal["average", "position", "domain"]
MemberOf = Callable[[Tensor], list[int]]
"""From token ids (B, T) to the member that each sequence belongs to."""
_READ_AT_ONCE = 256


@dataclass(frozen=True)
class MixtureScores:
    """Scores of several teachers of one vocabulary, mixed at every position.

    ``average``: log Σ_m w_m·p_m, the weights made to sum to 1. ``position``: the member that gives the gold token the
    highest probability (the lowest teacher cross-entropy), the average where there is no target. ``domain``: the member
    that ``member_of`` names for the sequence; the others do not run on it.

    ``position`` looks at the gold token to choose, so its labels are no forecast: they lean to what came, as a mixture
    with the hard label would.
    """

    members: tuple[Scores, ...]
    rule: Rule = "average"
    weights: tuple[float, ...] | None = None
    """One per member, for ``average``; None means equal ones."""
    member_of: MemberOf | None = None
    """Needed by ``domain``."""

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("a mixture needs at least one member")
        is_weight = [0 < weight < math.inf for weight in self.weights or ()]
        if self.weights is not None and (len(self.weights) != len(self.members) or not all(is_weight)):
            raise ValueError(f"{len(self.members)} members need as many weights above 0, found {self.weights}")
        if self.rule == "domain" and self.member_of is None:
            raise ValueError("rule domain needs member_of, which names the member of a sequence")

    @property
    def device(self) -> torch.device:
        """Where the mixed scores are: the first member's device."""
        return self.members[0].device

    @property
    def isolate(self) -> bool:
        """As for the first member; all members of a mixture read alike."""
        return self.members[0].isolate

    @property
    def precision_name(self) -> str:
        """The first member's."""
        return self.members[0].precision_name

    def chunks(self, batch: Batch) -> Iterator[Tensor]:
        """See ``Scores``; normalised log-probabilities."""
        if self.rule == "domain":
            yield from self._by_domain(batch)
            return
        targets_N, start = batch.targets_BT.flatten(), 0
        for pieces in zip(*(member.chunks(batch) for member in self.members), strict=True):
            stop = start + len(pieces[0])
            logprobs = [self._normalised(number, piece_nV) for number, piece_nV in enumerate(pieces)]
            yield self._mixed(logprobs, targets_N[start:stop].to(self.device))
            start = stop

    def _normalised(self, member: int, piece_nV: Tensor) -> Tensor:
        """A member's log-probabilities; a ``UserError`` names the member whose scores are no distribution."""
        try:
            refuse_non_finite(piece_nV)
        except NotFinite as error:
            raise UserError(
                f"teacher.mixture: member {member} of {len(self.members)} gives {error.found} among its scores, "
                "expected finite numbers; check its weights, or leave it out."
            ) from None
        return piece_nV.to(self.device).log_softmax(-1)

    def _mixed(self, logprobs: list[Tensor], targets_n: Tensor) -> Tensor:
        weights = self.weights or (1.0,) * len(self.members)
        mixed_nV = logprobs[0] + math.log(weights[0] / sum(weights))
        for weight, logprob_nV in zip(weights[1:], logprobs[1:], strict=True):
            mixed_nV = torch.logaddexp(mixed_nV, logprob_nV + math.log(weight / sum(weights)))
        if self.rule == "average":
            return mixed_nV
        gold_n1 = targets_n.clamp(min=0)[:, None]
        gold_Mn = torch.stack([logprob_nV.gather(1, gold_n1)[:, 0] for logprob_nV in logprobs])
        best_n = gold_Mn.argmax(0)
        for number, logprob_nV in enumerate(logprobs):
            chosen_n = (best_n == number) & (targets_n != IGNORE_INDEX)
            mixed_nV[chosen_n] = logprob_nV[chosen_n]
        return mixed_nV

    def _by_domain(self, batch: Batch) -> Iterator[Tensor]:
        """Every member runs once, over its own sequences; their scores come back in the order of the batch."""
        assert self.member_of is not None
        member_B = self.member_of(batch.tokens_BT)
        length = batch.tokens_BT.shape[1]
        parts: dict[int, Iterator[Tensor]] = {}
        for number in sorted(set(member_B)):
            own = _rows(batch, np.flatnonzero(np.equal(member_B, number)))
            parts[number] = _in_pieces(self.members[number].chunks(own), length)
        for number in member_B:
            yield self._normalised(number, next(parts[number]))


def _rows(batch: Batch, rows: np.ndarray) -> Batch:
    index = torch.from_numpy(rows).to(batch.tokens_BT.device)
    process_BT = None if batch.process_BT is None else batch.process_BT[index]
    return Batch(batch.tokens_BT[index], batch.targets_BT[index], batch.document_BT[index], process_BT)


def _in_pieces(chunks: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in pieces of exactly ``size``, holding no more than a chunk beyond one piece."""
    held: list[Tensor] = []
    for chunk_nV in chunks:
        held.append(chunk_nV)
        while sum(len(part) for part in held) >= size:
            together = torch.cat(held)
            yield together[:size]
            held = [together[size:]]


@dataclass(frozen=True)
class Domains:
    """Which member teaches a sequence, by the sequence's content: labels of a store are keyed in the same way.

    Batches carry no source, and a sequence that is shuffled or read in another epoch is still the same sequence.
    """

    number_of: dict[bytes, int]

    @classmethod
    def of(cls, sequences: Sequences, members: Sequence[int]) -> Domains:
        """From the member (one per sequence) of every sequence; of two equal sequences the first one's holds."""
        if len(members) != len(sequences):
            raise ValueError(f"{len(sequences)} sequences but {len(members)} members were given")
        number_of: dict[bytes, int] = {}
        for start in range(0, len(sequences), _READ_AT_ONCE):
            numbers = range(start, min(start + _READ_AT_ONCE, len(sequences)))
            keys = record_keys(sequences.batch(numbers).tokens_BT.cpu().numpy())
            for number, key in zip(numbers, keys, strict=True):
                number_of.setdefault(key.tobytes(), int(members[number]))
        return cls(number_of)

    def __call__(self, tokens_BT: Tensor) -> list[int]:
        """See ``MemberOf``; refuses a sequence whose source is not known."""
        keys = [key.tobytes() for key in record_keys(tokens_BT.cpu().numpy())]
        unknown = sum(key not in self.number_of for key in keys)
        if unknown:
            raise UserError(
                f"teacher.mixture: {unknown} of {len(keys)} sequences are of no known source, expected those of the "
                "corpus; label the corpus that the mixture was made for."
            )
        return [self.number_of[key] for key in keys]
