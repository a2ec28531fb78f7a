"""Teachers that answer while a student trains, behind the same interface as a store.

Letters: B sequences, T positions, N = B·T, n positions of a chunk, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from stillroom.labels.codecs.systematic import offsets
from stillroom.labels.format.layout import key_halves, record_keys
from stillroom.labels.ragged import padded
from stillroom.labels.reading import Scores, capture
from stillroom.labels.settings import SaysSettings, settings_of
from stillroom.models import readout
from stillroom.teachers.model_scores import HEAD_CHUNK, ModelScores
from stillroom.types import Batch, SoftLabels

CPU = torch.device("cpu")


class LabelSource(Protocol):
    """What a trainer needs of a teacher, stored or live."""

    def labels(self, batch: Batch) -> SoftLabels:
        """Soft labels (B, T, K) of a batch, on the batch's device."""
        ...


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


class Answering:
    """Reads labels off scores, for the same sequence always the same ones, and the ones that a store would hold."""

    def __init__(self, scores: Scores, config: SaysSettings):
        self.scores, self.settings = scores, settings_of(config)

    def labels(self, batch: Batch) -> SoftLabels:
        """See ``LabelSource``; the entries of a position are in no particular order."""
        halves_B2 = key_halves(record_keys(batch.tokens_BT.cpu().numpy()))
        offset_N = offsets(halves_B2, batch.tokens_BT.shape[1], self.settings.seed)
        rows = capture(self.scores, batch, offset_N, self.settings)
        return (
            padded(rows, 1.0 / (self.settings.codec.draws or 1))
            .tensors(len(batch.tokens_BT))
            .to(batch.tokens_BT.device)
        )


class LiveTeacher(Answering):
    """A causal language model that labels batches as they come.

    The model may be on the batch's device, on another, or sharded (``shard_teacher``). It is put into evaluation mode
    before every answer and its parameters need no gradient; being no module, a teacher that a student holds is not
    among the student's parameters, so no optimizer finds it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: SaysSettings,
        vocab_size: int,
        *,
        isolate: bool = True,
        precision: str = "auto",
    ):
        self.model = model.requires_grad_(False)
        super().__init__(ModelScores(model, vocab_size, isolate, precision), config)

    def labels(self, batch: Batch) -> SoftLabels:
        """See ``LabelSource``."""
        self.model.eval()
        return super().labels(batch)


class WorldTeacher(Answering):
    """The exact teacher of a process whose next-token distribution is known."""

    def __init__(self, log_probs: Callable[[Batch], Tensor], config: SaysSettings):
        super().__init__(ExactScores(log_probs), config)


def shard_teacher(model: PreTrainedModel, mesh: DeviceMesh) -> PreTrainedModel:
    """The model with its blocks and the rest sharded over ``mesh`` (FSDP2); its head is gathered when it is applied."""
    model.eval().requires_grad_(False)
    readout(model)  # measured while its parts are whole
    for block in cast(torch.nn.ModuleList, model.base_model.layers):
        fully_shard(block, mesh=mesh)
    fully_shard(model.base_model, mesh=mesh)
    return model
