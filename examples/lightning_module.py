"""A PyTorch Lightning module that trains a causal model of transformers from a label store.

    pip install lightning
    module = Distilling(model, store, micro_batch=4)
    loader = DataLoader(LabelDataset(store), 32, shuffle=True, collate_fn=LabelCollator(store))
    lightning.Trainer(max_epochs=1).fit(module, loader)

A batch of the loader is what a process reads for one step; the module splits it by itself, so that the mean is over all
targets of the step (Lightning's ``accumulate_grad_batches`` would take a mean of means). The teacher's labels are no
parameters, so that neither the optimizer nor a checkpoint holds anything of it.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from transformers import PreTrainedModel

from stillroom.integrations import student_losses
from stillroom.labels import LabelStore, batch_of, soft_labels_of
from stillroom.objectives import Objective


class Distilling(lightning.LightningModule):
    """loss = (1 - alpha)·CE(true token) + alpha·CE(teacher's label), in nats per target of the global step."""

    def __init__(self, model: PreTrainedModel, store: LabelStore, *, micro_batch: int = 4, alpha: float = 0.9) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.micro_batch = model, micro_batch
        self.objective, self.temperature = Objective(alpha=alpha), store.manifest.settings.temperature

    def training_step(self, fields: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        """Leaves the gradient of the step, and makes it."""
        optimizer: Any = self.optimizers()
        count = self.all_gather((fields["labels"][:, 1:] >= 0).sum()).sum()
        pieces = zip(*(values.split(self.micro_batch) for values in fields.values()), strict=True)
        optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for part in (dict(zip(fields, piece, strict=True)) for piece in pieces):
            soft, options = soft_labels_of(part), {"label_temperature": self.temperature, "seed": self.global_step}
            losses = student_losses(self.model, batch_of(part), self.objective, soft, **options)
            loss = losses.loss_N.sum() / count * self.trainer.world_size  # DDP takes the mean over processes
            self.manual_backward(loss)
            total += loss.detach()
        optimizer.step()
        self.log("loss", total, sync_dist=True)
        return total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of the student alone."""
        return torch.optim.AdamW(self.model.parameters(), lr=1e-3)
