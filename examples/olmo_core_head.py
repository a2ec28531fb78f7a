"""OLMo-core's language-model head with a distilled loss: ``distil(model, store)`` before the train module is built.

    pip install ai2-olmo-core
    model = TransformerConfig.olmo2_190M(vocab_size=...).build()
    distil(model, LabelStore.open("labels"))

The head keeps its weights, its names in checkpoints and its interface: OLMo-core's train module goes on to give labels,
a reduction and the number by which the sum over a step is divided, and gets an ``LMOutputWithLoss``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from olmo_core.nn.lm_head import LMHead, LMOutputWithLoss

from stillroom.labels import LabelStore
from stillroom.objectives import Objective, token_losses
from stillroom.types import Batch


class DistillationHead(LMHead):
    """A head that finds the teacher's labels by the tokens that the model was last called with."""

    store: LabelStore
    objective: Objective
    tokens_BT: torch.Tensor

    def forward(self, x: torch.Tensor, *, labels: torch.Tensor | None = None, **options: Any) -> Any:
        """That of ``LMHead`` for hidden states (B, T, D); distilled where labels are given while training."""
        if labels is None or not self.training:
            return super().forward(x, labels=labels, **options)
        hidden = self.norm(x) if self.norm is not None else x
        targets = labels.masked_fill(labels == options.get("ignore_index", -100), -100)
        batch = Batch(self.tokens_BT, targets, torch.zeros_like(targets, dtype=torch.int32))
        objective = replace(self.objective, z_loss=options.get("z_loss_multiplier") or 0.0)
        weight, bias = self.w_out.weight, self.w_out.bias
        soft = self.store.labels(batch)
        losses = token_losses(hidden.flatten(0, 1), weight, batch, objective, soft, bias=bias)
        loss, (ce, counted) = losses.loss_N, losses.terms["ce"]
        reduction = options.get("loss_reduction", "mean")
        divide = losses.counted_N.sum() if reduction == "mean" else 1
        divide = divide * (1 if options.get("loss_div_factor") is None else options["loss_div_factor"])
        if reduction == "none":
            return LMOutputWithLoss(None, loss.view_as(labels) / divide, (ce * counted).view_as(labels) / divide, None)
        return LMOutputWithLoss(None, loss.sum() / divide, (ce * counted).sum() / divide, None)


def distil(model: Any, store: LabelStore, objective: Objective | None = None) -> None:
    """Gives a transformer of OLMo-core, in place, a head that learns from the store's labels."""
    head = model.lm_head
    head.__class__ = DistillationHead
    head.store, head.objective = store, objective or Objective(alpha=0.9)
    model.register_forward_pre_hook(lambda _, given: setattr(head, "tokens_BT", given[0]))
