"""TRL's ``GKDTrainer`` on plain token blocks, with ``lmbda=0``: no text is generated.

cd examples/conformance && pytest --distillation-adapter trl_trainer_adapter:adapter
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from stillroom.conformance import Adapter, TrainingTask
from stillroom.types import IGNORE_INDEX, Batch


def _inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """Labels are the tokens themselves here; the trainer shifts."""
    ignored = torch.full_like(batch.targets_BT[:, :1], IGNORE_INDEX)
    labels = torch.cat([ignored, batch.targets_BT[:, :-1]], 1)
    mask = torch.ones_like(batch.tokens_BT)
    return {"input_ids": batch.tokens_BT, "attention_mask": mask, "labels": labels, "prompts": batch.tokens_BT[:, :1]}


def _train(task: TrainingTask) -> None:
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    class InOrder(GKDTrainer):
        """Takes the task's micro-batches as they come."""

        def get_train_dataloader(self) -> Any:
            given = [_inputs(batch) for step in task.steps for batch in step]
            return DataLoader(given, batch_size=1, collate_fn=lambda one: one[0])  # type: ignore[arg-type]

    words = Tokenizer(models.WordLevel({"[PAD]": 0}, "[PAD]"))
    config = GKDConfig(
        output_dir=str(task.folder),
        max_steps=len(task.steps),
        gradient_accumulation_steps=len(task.steps[0]),
        save_steps=len(task.steps),
        lmbda=0.0,
        beta={"forward-kl": 0.0, "reverse-kl": 1.0}[task.divergence],
        temperature=1.0,
        max_grad_norm=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
    optimizer = task.optimizer(task.student.parameters())
    trainer = InOrder(
        task.student,
        task.teacher,
        config,
        data_collator=lambda rows: rows,
        train_dataset=Dataset.from_list([{"input_ids": [0]}]),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]"),
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
    )
    trainer.train(resume_from_checkpoint=task.resume)


adapter = Adapter("TRL GKDTrainer", train=_train, masked=True, resumes=True, ranks=True)
