"""Teachers that answer while a student trains, behind the same protocol as a store.

Letters: B sequences, T positions, N = B·T, E width of the teacher, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillroom.labels.codecs.systematic import offsets
from stillroom.labels.format.layout import key_halves, record_keys
from stillroom.labels.ragged import padded
from stillroom.labels.reading import Scores, capture
from stillroom.labels.settings import SaysSettings, settings_of
from stillroom.models import ModelPlan, hidden_states, logit_softcap, precision, readout, unembedding
from stillroom.objectives import TeacherLogits
from stillroom.types import Batch, SoftLabels


class LiveTeacher(nn.Module):
    """A model whose whole distribution is computed for every batch; the head multiplies its logits out chunk by chunk.

    Frozen, in its own precision, sharded like the student where there are ranks.
    """

    def __init__(
        self,
        model: PreTrainedModel | ModelPlan,
        precision_name: str = "fp32",
        *,
        isolate: bool = True,
        vocab_size: int | None = None,
    ) -> None:
        """``vocab_size`` is the tokenizer's: logits beyond it are padding that no token owns, and are left out."""
        super().__init__()
        self.plan = model if isinstance(model, ModelPlan) else None
        """Where the weights come from when ranks make the model in its sharded form; None for a model that is there."""
        self.model = (model.model if isinstance(model, ModelPlan) else model).eval().requires_grad_(False)
        readout(self.model)  # measured before the model is sharded
        self.precision_name, self.isolate, self.vocab_size = precision_name, isolate, vocab_size

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Hidden states (N, E), unembedding (V, E) and its bias; gathered here where they are sharded."""
        weight_VE, bias_V = unembedding(self.model)
        return hidden_states(self.model, batch, self.isolate).flatten(0, 1), weight_VE, bias_V

    @torch.no_grad()
    def labels(self, batch: Batch) -> TeacherLogits:
        """The teacher's logits for a batch, as factors."""
        with precision(self.precision_name, batch.tokens_BT.device):
            hidden_NE, weight_VE, bias_V = self(batch)
        logits = TeacherLogits(hidden_NE, weight_VE, bias_V, logit_softcap(self.model))
        return logits if self.vocab_size is None else logits.cut(self.vocab_size)


class LiveLabels:
    """What a store would hold, read off scores when it is asked for; for the same sequence always the same labels."""

    def __init__(self, scores: Scores, config: SaysSettings):
        self.scores, self.settings = scores, settings_of(config)

    def labels(self, batch: Batch) -> SoftLabels:
        """Soft labels (B, T, K) on the batch's device; the entries of a position are in no particular order."""
        tokens_BT = batch.tokens_BT
        offset_N = offsets(key_halves(record_keys(tokens_BT.cpu().numpy())), tokens_BT.shape[1], self.settings.seed)
        rows = capture(self.scores, batch, offset_N, self.settings)
        return padded(rows, 1.0 / (self.settings.codec.draws or 1)).tensors(len(tokens_BT)).to(tokens_BT.device)
