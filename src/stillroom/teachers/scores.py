"""Scores over the vocabulary, chunk by chunk: of a causal language model, or of a process that knows its truth.

Letters: B sequences, T positions, N = B·T, n positions of a chunk, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.models import hidden_states, logit_softcap, precision, precision_name, unembedding
from stillroom.models.score import capped
from stillroom.types import Batch, UserError

CPU = torch.device("cpu")
HEAD_CHUNK = 256
"""Positions whose scores over the vocabulary exist at one time: a matrix product that keeps the processor busy."""


@dataclass(frozen=True)
class ModelScores:
    """Scores of a causal language model, its head applied chunk by chunk.

    Rows of the unembedding from ``vocab_size`` on (padding that no token of the tokenizer owns) are left out. With
    ``isolate`` packed documents do not see each other, exactly as for a student.
    """

    model: PreTrainedModel
    vocab_size: int
    isolate: bool = True
    precision: str = "auto"

    def __post_init__(self) -> None:
        rows = unembedding(self.model)[0].shape[0]
        if rows < self.vocab_size:
            raise UserError(
                f"teacher: its unembedding has {rows} rows, expected one for each of the tokenizer's {self.vocab_size} "
                "tokens; use the tokenizer that it was trained with, without tokens added since."
            )

    @property
    def device(self) -> torch.device:
        """The device of the unembedding."""
        return unembedding(self.model)[0].device

    @property
    def precision_name(self) -> str:
        """``precision`` with ``auto`` resolved for the device."""
        return precision_name(self.precision, self.device)

    @torch.no_grad()
    def chunks(self, batch: Batch) -> Iterator[Tensor]:
        """See ``Scores``."""
        softcap = logit_softcap(self.model.eval())
        with precision(self.precision, self.device):
            hidden_BTD = hidden_states(self.model, batch.to(self.device), self.isolate)
            weight_VD, bias_V = unembedding(self.model)
            weight_VD = weight_VD[: self.vocab_size]
            dtype = torch.get_autocast_dtype(self.device.type) if torch.is_autocast_enabled(self.device.type) else None
            weight_VD = weight_VD if dtype is None else weight_VD.to(dtype)  # once, not at every chunk
        for hidden_nD in hidden_BTD.flatten(0, 1).split(HEAD_CHUNK):
            scores_nV = (hidden_nD.to(weight_VD.dtype) @ weight_VD.T).float()
            scores_nV = scores_nV if bias_V is None else scores_nV + bias_V[: self.vocab_size].float()
            yield capped(scores_nV, softcap)


@dataclass(frozen=True)
class ExactScores:
    """Scores of a process whose next-token distribution is known: ``log_probs(batch)`` gives them, (B, T, V)."""

    log_probs: Callable[[Batch], Tensor]
    device: torch.device = CPU
    isolate: bool = True
    precision_name: str = "fp32"

    def chunks(self, batch: Batch) -> Iterator[Tensor]:
        """See ``Scores``."""
        flat_NV = self.log_probs(batch.to(self.device)).flatten(0, 1)
        for chunk_nV in flat_NV.split(HEAD_CHUNK):
            yield chunk_nV.float().clone()  # whoever reads a chunk may overwrite it
