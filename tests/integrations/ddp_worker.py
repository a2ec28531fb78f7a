"""One of two processes that take a step together: torchrun ddp_worker.py STORE FOLDER."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, TrainingArguments

from stillroom.integrations import DistillationTrainer
from stillroom.labels import LabelStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    arguments = TrainingArguments(
        output_dir=str(asked.folder / "out"), max_steps=1, per_device_train_batch_size=1, gradient_accumulation_steps=4,
        learning_rate=1.0, optim="sgd", max_grad_norm=0.0, lr_scheduler_type="constant", use_cpu=True,
        save_strategy="no", report_to=[], disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(asked.folder / "student")
    trainer = DistillationTrainer(model, arguments, teacher=LabelStore.open(asked.store))
    trainer.train()
    assert "forward_kl" in trainer.state.log_history[0]
    if trainer.args.process_index == 0:
        flat = torch.cat([one.detach().flatten() for one in model.parameters()])
        save_file({"flat": flat}, asked.folder / "after.safetensors")


if __name__ == "__main__":
    main()
