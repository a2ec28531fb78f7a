"""Trains a student in a loop of your own over 🤗 Accelerate, from a label store.

    pip install 'stillroom[trainer]'
    accelerate launch examples/accelerate_loop.py STORE OUT

The loss of a step is the mean over the targets of all its micro-batches and processes: their number is summed up
before the first backward pass, and DDP's own mean over processes is undone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom.integrations import student_losses
from stillroom.labels import LabelCollator, LabelDataset, LabelStore, batch_of, soft_labels_of
from stillroom.objectives import Objective

OBJECTIVE = Objective(alpha=0.9)


def step(accelerator: Accelerator, model: Any, micro_batches: list[dict[str, torch.Tensor]], number: int) -> float:
    """Leaves the gradient of the mean nats per target of a global step in the model; returns that mean."""
    count = accelerator.reduce(torch.stack([(one["labels"][:, 1:] >= 0).sum() for one in micro_batches]).sum(), "sum")
    total = torch.zeros((), device=accelerator.device)
    for place, fields in enumerate(micro_batches):
        last = place == len(micro_batches) - 1
        with accelerator.autocast(), accelerator.no_sync(model) if not last else accelerator.autocast():
            losses = student_losses(model, batch_of(fields), OBJECTIVE, soft_labels_of(fields), seed=number)
            loss = losses.loss_N.sum() / count
            accelerator.backward(loss * accelerator.num_processes)
        total += loss.detach()
    return float(accelerator.reduce(total, "sum"))


def main() -> None:
    """Opens the store, trains a small student and saves it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", metavar="STORE", help="a label store: a folder or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the student is saved")
    asked, accelerator = parser.parse_args(), Accelerator()
    store = LabelStore.open(asked.store)
    model: Any = LlamaForCausalLM(LlamaConfig(store.manifest.vocab_size, 128, 384, num_hidden_layers=4))
    loader = DataLoader(LabelDataset(store), 4, shuffle=True, collate_fn=LabelCollator(store))  # type: ignore[arg-type]
    model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 1e-3), loader)
    batches = list(loader)
    for number, start in enumerate(range(0, len(batches), 4)):  # four micro-batches to a step
        accelerator.print(step(accelerator, model, batches[start : start + 4], number))
        optimizer.step()
        optimizer.zero_grad()
    accelerator.unwrap_model(model).save_pretrained(asked.out)


if __name__ == "__main__":
    main()
