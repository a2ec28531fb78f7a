"""Trains on text with TRL's ``SFTTrainer`` and a live teacher: TRL tokenises and packs, the loss is this package's.

    pip install 'stillroom[rl]'
    python examples/trl_sft_with_teacher.py STUDENT TEACHER TEXTS.jsonl OUT

``TEXTS.jsonl`` has a ``text`` in each line; STUDENT and TEACHER are model folders of one tokenizer. Packed texts do not
see one another, in student and teacher, whatever their attention is; no flash-attention is needed for it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from trl import SFTConfig, SFTTrainer

from stillroom.integrations import DistillationTrainer
from stillroom.objectives import Objective


class DistillingSFTTrainer(DistillationTrainer, SFTTrainer):
    """TRL's trainer with this package's loss: the mean over the targets of a global step, by the fused head."""


def trainer_of(student: PreTrainedModel, teacher: PreTrainedModel, data: Any, folder: Path, **settings: Any) -> Any:
    """A trainer on a dataset of text; ``settings`` are those of ``SFTConfig``, a tokenizer among them."""
    tokenizer = settings.pop("processing_class")
    arguments = SFTConfig(
        output_dir=str(folder), report_to=[], **{"packing": True, "bf16": torch.cuda.is_available(), **settings}
    )
    return DistillingSFTTrainer(
        student,
        arguments,
        objective=Objective(alpha=0.9),
        teacher=teacher,
        train_dataset=data,
        processing_class=tokenizer,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("student", "teacher", "texts", "out"):
        parser.add_argument(name, metavar=name.upper())
    asked = parser.parse_args()
    student, teacher = (AutoModelForCausalLM.from_pretrained(name) for name in (asked.student, asked.teacher))
    data = load_dataset("json", data_files=asked.texts, split="train")
    settings = {"processing_class": AutoTokenizer.from_pretrained(asked.student), "max_length": 1024}
    trainer = trainer_of(student, teacher, data, Path(asked.out), num_train_epochs=1, **settings)
    trainer.train()
    trainer.save_model(asked.out)


if __name__ == "__main__":
    main()
