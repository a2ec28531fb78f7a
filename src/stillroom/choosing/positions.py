"""What every candidate says at the same held-out positions: one forward pass, kept as a few numbers per position.

Letters: S sequences, T positions, N counted positions (those with a target), P sampled ones, I documents, V vocabulary.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from stillroom.corpora import Corpus
from stillroom.files import write_bytes
from stillroom.labels.reading import refuse_non_finite
from stillroom.objectives.routing import copyable
from stillroom.objectives.routing_rules import lowest_share
from stillroom.teachers import ModelScores
from stillroom.types import IGNORE_INDEX, Batch, OnProgress

_SAMPLED_NUMBERS = 1 << 23
"""Probabilities kept per candidate for its divergence from the others."""
_MOST_SAMPLED = 4096
_FORWARD_TOKENS = 4096


@dataclass(frozen=True)
class HeldOut:
    """The held-out positions on which candidates are compared; the same for all of them."""

    corpus: Corpus
    num_sequences: int

    @cached_property
    def batch(self) -> Batch:
        """All sequences (S, T)."""
        return self.corpus.heldout.batch(range(self.num_sequences))

    @cached_property
    def counted_ST(self) -> torch.Tensor:
        """Positions that have a target."""
        return self.batch.targets_BT != IGNORE_INDEX

    @cached_property
    def copyable_N(self) -> NDArray[np.bool_]:
        """Whether the gold token followed the last earlier occurrence of the current token in its document."""
        return copyable(self.batch)[self.counted_ST].numpy()

    @cached_property
    def _documents(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Document of every sequence (S,), counted from 0, and source (I,) of every document."""
        heldout = self.corpus.heldout
        codes = heldout.source[: self.num_sequences].astype(np.int64)
        texts_S = heldout.texts[: self.num_sequences]
        _, first_I, place_S = np.unique(texts_S, return_index=True, return_inverse=True)
        return place_S.astype(np.int64), codes[first_I]

    @cached_property
    def item_N(self) -> NDArray[np.int64]:
        """The independent item of every counted position: sequences of one document are one item."""
        return np.repeat(self._documents[0], self.counted_ST.sum(1).numpy())

    @property
    def strata_I(self) -> NDArray[np.int64]:
        """The source of every item: how much of each there is was decided, not drawn."""
        return self._documents[1]

    @property
    def num_items(self) -> int:
        """I."""
        return len(self.strata_I)

    @cached_property
    def source_N(self) -> NDArray[np.int64]:
        """The source of every counted position, as a code."""
        return self.strata_I[self.item_N]

    @cached_property
    def sampled_P(self) -> NDArray[np.int64]:
        """Counted positions, evenly spaced, at which whole distributions are compared."""
        total = len(self.item_N)
        count = max(1, min(_MOST_SAMPLED, _SAMPLED_NUMBERS // self.corpus.vocab_size, total))
        return np.linspace(0, total - 1, count).round().astype(np.int64)

    def per_item(self, values_N: NDArray[np.float64], inside_N: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Sums (I,) of one value per counted position, over those inside a mask."""
        weights_N = values_N if inside_N is None else values_N * inside_N
        return np.bincount(self.item_N, weights=weights_N, minlength=self.num_items).astype(np.float64)

    def lowest(self, score_N: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
        """The share of each sequence's counted positions with the lowest score, as low-entropy routing takes them."""
        score_ST = torch.zeros(self.counted_ST.shape)
        score_ST[self.counted_ST] = torch.from_numpy(score_N).float()
        count_S = (self.counted_ST.sum(1) * share).round().long()
        return lowest_share(score_ST, self.counted_ST, count_S)[self.counted_ST].numpy()


@dataclass(frozen=True)
class Positions:
    """A candidate's numbers at the held-out positions."""

    gold_logprob_N: NDArray[np.float32]
    """Nats."""
    entropy_N: NDArray[np.float32]
    """Nats."""
    confidence_N: NDArray[np.float32]
    """Probability of the first choice."""
    first_N: NDArray[np.int32]
    """The first choice."""
    hit_N: NDArray[np.bool_]
    """Whether the first choice is the gold token."""
    logprob_PV: NDArray[np.float32]
    """Whole distributions at ``HeldOut.sampled_P``."""
    tokens_per_second: NDArray[np.float64]
    """Speed of the forward pass, one number."""

    @property
    def nats_N(self) -> NDArray[np.float64]:
        """Loss of every position."""
        return -self.gold_logprob_N.astype(np.float64)

    def save(self, path: Path) -> None:
        """Writes the numbers as one file, complete or not at all."""
        stream = io.BytesIO()
        np.savez(stream, **{field.name: getattr(self, field.name) for field in fields(self)})
        write_bytes(path, stream.getvalue())

    @classmethod
    def load(cls, path: Path) -> Positions:
        """The numbers that ``save`` wrote."""
        with np.load(path, allow_pickle=False) as found:
            return cls(**{field.name: found[field.name] for field in fields(cls)})


@torch.no_grad()
def read_positions(model: PreTrainedModel, heldout: HeldOut, progress: OnProgress | None = None) -> Positions:
    """One forward pass over the held-out sequences in fp32, documents isolated as the corpus says."""
    model.eval()
    corpus = heldout.corpus
    scores = ModelScores(model, corpus.vocab_size, corpus.isolate, "fp32")
    wanted_S = torch.zeros(len(heldout.item_N), dtype=torch.bool)
    wanted_S[torch.from_numpy(heldout.sampled_P)] = True
    pieces: list[tuple[torch.Tensor, ...]] = []
    sampled: list[torch.Tensor] = []
    seconds, read = 0.0, 0
    per_batch = max(1, _FORWARD_TOKENS // corpus.heldout.sequence_length)
    for start in range(0, heldout.num_sequences, per_batch):
        batch = corpus.heldout.batch(range(start, min(start + per_batch, heldout.num_sequences)))
        targets_n = batch.targets_BT.flatten()
        begin, place = time.perf_counter(), 0
        for scores_nV in scores.chunks(batch):
            refuse_non_finite(scores_nV)
            of_chunk = targets_n[place : place + len(scores_nV)].to(scores_nV.device)
            place += len(scores_nV)
            logprob_nV = scores_nV[of_chunk != IGNORE_INDEX].log_softmax(-1)
            keep = wanted_S[read : read + len(logprob_nV)].to(logprob_nV.device)
            read += len(logprob_nV)
            pieces.append(_numbers(logprob_nV, of_chunk[of_chunk != IGNORE_INDEX]))
            sampled.append(logprob_nV[keep].cpu())
        seconds += time.perf_counter() - begin
        if progress is not None:
            progress(min(start + per_batch, heldout.num_sequences), heldout.num_sequences)
    gold, entropy, confidence, first, hit = (torch.cat(parts).cpu().numpy() for parts in zip(*pieces, strict=True))
    speed = heldout.num_sequences * corpus.heldout.sequence_length / max(seconds, 1e-9)
    return Positions(
        gold, entropy, confidence, first.astype(np.int32), hit, torch.cat(sampled).numpy(), np.asarray(speed)
    )


def _numbers(logprob_nV: torch.Tensor, targets_n: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gold log-probability, entropy, confidence, first choice, and whether it is right; each (n,)."""
    probability_nV = logprob_nV.exp()
    entropy_n = -torch.where(probability_nV > 0, probability_nV * logprob_nV, 0.0).sum(-1)
    best_n, first_n = logprob_nV.max(-1)
    gold_n = logprob_nV.gather(1, targets_n[:, None])[:, 0]
    return gold_n, entropy_n, best_n.exp().clamp(max=1.0), first_n, first_n == targets_n
