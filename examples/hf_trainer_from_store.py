"""Trains a student with the Hugging Face ``Trainer`` from a label store alone: tokens and labels both come from it.

    python examples/hf_trainer_from_store.py STORE OUT

loss = (1 - alpha)·CE(true token) + alpha·CE(teacher's label), in nats per token, over the positions with a target.
Needs transformers' own ``accelerate`` (``pip install accelerate``). Letters: B sequences, T positions, V vocabulary,
K stored ids.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Trainer, TrainingArguments

from stillroom.labels import LabelCollator, LabelDataset, LabelStore, batch_of, soft_labels_of
from stillroom.models import packed_inputs

ALPHA = 0.9


def distilled_loss(logits_BTV: Tensor, labels_BT: Tensor, soft: Any, alpha: float = ALPHA) -> Tensor:
    """Mean nats per position with a target; ``labels_BT[b, t]`` is token t itself, as Hugging Face has it."""
    log_p_BTV = torch.log_softmax(logits_BTV.float(), -1)
    teacher_BT = -(soft.weights * log_p_BTV.gather(2, soft.ids)).sum(-1)
    targets_BT = labels_BT[:, 1:]
    has_target_BT = targets_BT >= 0
    hard_BT = -log_p_BTV[:, :-1].gather(2, targets_BT.clamp(min=0)[..., None]).squeeze(2)
    loss_BT = (1 - alpha) * hard_BT + alpha * teacher_BT[:, :-1]
    return loss_BT[has_target_BT].mean()


class DistillingTrainer(Trainer):
    """A ``Trainer`` whose loss mixes hard labels and the teacher's."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """The loss of one batch."""
        soft, packed = soft_labels_of(inputs), packed_inputs(batch_of(inputs), model)
        outputs = model(**packed)  # documents that share a row do not see each other, whatever the model is made of
        loss = distilled_loss(packed.unpacked(outputs.logits), inputs["labels"], soft)
        return (loss, outputs) if return_outputs else loss


def train(store: LabelStore, model: PreTrainedModel, folder: Path, **settings: Any) -> Trainer:
    """Trains ``model`` on every sequence of the store; ``settings`` are those of ``TrainingArguments``."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        remove_unused_columns=False,  # items are numbers of records; the collator reads them
        report_to=[],
        **settings,
    )
    trainer = DistillingTrainer(
        model=model, args=arguments, train_dataset=LabelDataset(store), data_collator=LabelCollator(store)
    )
    trainer.train()
    return trainer


def main() -> None:
    """Opens the store, trains a small student and saves it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", metavar="STORE", help="a label store: a folder or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the student is saved")
    asked = parser.parse_args()
    store, folder = LabelStore.open(asked.store), asked.out
    config = LlamaConfig(
        vocab_size=store.manifest.vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=store.manifest.sequence_length,
        tie_word_embeddings=True,
    )
    trainer = train(store, LlamaForCausalLM(config), folder, num_train_epochs=1, per_device_train_batch_size=16)
    trainer.save_model(str(folder))


if __name__ == "__main__":
    main()
