"""A teacher that is asked at every step: frozen, in its own precision, sharded like the student where there are ranks.

Letters: N positions, E width of the teacher, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillroom.models import ModelPlan, hidden_states, logit_softcap, precision, readout, unembedding
from stillroom.objectives import TeacherLogits
from stillroom.types import Batch


class LiveTeacher(nn.Module):
    """A model whose distribution is computed for every batch; the head multiplies its logits out chunk by chunk."""

    def __init__(self, model: PreTrainedModel | ModelPlan, precision_name: str = "fp32") -> None:
        super().__init__()
        self.plan = model if isinstance(model, ModelPlan) else None
        """Where the weights come from when ranks make the model in its sharded form; None for a model that is there."""
        self.model = (model.model if isinstance(model, ModelPlan) else model).eval().requires_grad_(False)
        readout(self.model)  # measured before the model is sharded
        self.precision_name = precision_name

    def forward(self, batch: Batch, isolate: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Hidden states (N, E), unembedding (V, E) and its bias; gathered here where they are sharded."""
        weight_VE, bias_V = unembedding(self.model)
        return hidden_states(self.model, batch, isolate).flatten(0, 1), weight_VE, bias_V

    @torch.no_grad()
    def logits(self, batch: Batch, isolate: bool) -> TeacherLogits:
        """The teacher's logits for a batch, as factors."""
        with precision(self.precision_name, batch.tokens_BT.device):
            hidden_NE, weight_VE, bias_V = self(batch, isolate)
        return TeacherLogits(hidden_NE, weight_VE, bias_V, logit_softcap(self.model))
