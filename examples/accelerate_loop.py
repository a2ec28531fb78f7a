"""Trains a student in a loop of your own over Hugging Face's Accelerate, from a label store.

    pip install 'stillroom[trainer]'
    accelerate launch examples/accelerate_loop.py STORE OUT

A step's loss is the mean over the targets of all its micro-batches and processes, which are counted before it.
"""

from __future__ import annotations

import argparse
import contextlib
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
    count: Any = accelerator.reduce(sum((fields["labels"][:, 1:] >= 0).sum() for fields in micro_batches), "sum")
    total = torch.zeros((), device=accelerator.device)
    for fields in micro_batches:
        is_last = fields is micro_batches[-1]  # processes exchange gradients once
        with contextlib.nullcontext() if is_last else accelerator.no_sync(model), accelerator.autocast():
            soft = soft_labels_of(fields)
            loss = student_losses(model, batch_of(fields), OBJECTIVE, soft, seed=number).loss_N.sum() / count
            accelerator.backward(loss * accelerator.num_processes)  # DDP takes the mean over processes
        total += loss.detach()
    return float(accelerator.reduce(total, "sum"))  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", metavar="STORE", help="a label store: a folder or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the student is saved")
    asked, accelerator = parser.parse_args(), Accelerator()
    store = LabelStore.open(asked.store)
    shape = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4}
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=store.manifest.vocab_size, **shape))
    loader: Any = DataLoader(LabelDataset(store), 4, shuffle=True, collate_fn=LabelCollator(store))
    model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 1e-3), loader)
    for number, fields in enumerate(loader):
        accelerator.print(step(accelerator, model, [fields], number))
        optimizer.step()
        optimizer.zero_grad()
    accelerator.unwrap_model(model).save_pretrained(asked.out)


if __name__ == "__main__":
    main()
