"""Trains a student with Hugging Face's ``Trainer`` from a label store alone: tokens and labels both come from it.

    pip install 'stillroom[trainer]'
    python examples/hf_trainer_from_store.py STORE OUT

loss = (1 - alpha)·CE(true token) + alpha·CE(teacher's label), in nats per target, whatever the micro-batches are.
A teacher that runs beside the student is ``teacher=AutoModelForCausalLM.from_pretrained(...)`` instead of the store.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, TrainingArguments

from stillroom.integrations import DistillationTrainer
from stillroom.labels import LabelStore
from stillroom.objectives import Objective

ALPHA = 0.9


def trainer_of(store: LabelStore, model: PreTrainedModel, folder: Path, **settings: Any) -> DistillationTrainer:
    """Trains ``model`` on every sequence of the store; ``settings`` are those of ``TrainingArguments``."""
    arguments = TrainingArguments(output_dir=str(folder), report_to=[], **settings)
    return DistillationTrainer(model, arguments, objective=Objective(alpha=ALPHA), teacher=store)


def main() -> None:
    """Opens the store, trains a small student and saves it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", metavar="STORE", help="a label store: a folder or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the student is saved")
    asked = parser.parse_args()
    store = LabelStore.open(asked.store)
    config = LlamaConfig(
        vocab_size=store.manifest.vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=store.manifest.sequence_length,
        tie_word_embeddings=True,
    )
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 16}
    trainer = trainer_of(store, LlamaForCausalLM(config), asked.out, **settings)
    trainer.train()
    trainer.save_model(str(asked.out))


if __name__ == "__main__":
    main()
