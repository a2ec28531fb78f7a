"""TRL 1.16.0: ``GKDTrainer`` divides by the tokens of all ranks, and the ranks' gradients are then averaged once more.

    for ranks in 1 2; do torchrun --nproc_per_node $ranks trl_trainer_adapter_ranks.py; done

Every rank has the same batch, so that the step must be that of one process; with two ranks it is half of it.
"""

import os

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl.experimental.gkd import GKDConfig, GKDTrainer

torch.manual_seed(0)
shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
student, teacher = (LlamaForCausalLM(LlamaConfig(vocab_size=32, **shape)) for _ in range(2))
tokens = torch.arange(12)[None]
batch = {"input_ids": tokens, "attention_mask": tokens * 0 + 1, "labels": tokens, "prompts": tokens[:, :1]}
words = Tokenizer(models.WordLevel({"[PAD]": 0}, "[PAD]"))
options = {"max_steps": 1, "lmbda": 0.0, "max_grad_norm": 0.0, "use_cpu": True, "bf16": False, "save_strategy": "no"}
optimizer, before = torch.optim.SGD(student.parameters(), lr=1.0), student.lm_head.weight.detach().clone()
GKDTrainer(
    student,
    teacher,
    GKDConfig(output_dir="unused", report_to=[], gradient_checkpointing=False, **options),
    data_collator=lambda rows: batch,
    train_dataset=Dataset.from_list([{"input_ids": [0]}] * 16),
    processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]"),
    optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
).train()
change = (student.lm_head.weight - before).norm().item()
print(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: the step changed the unembedding by {change:.5f}")
