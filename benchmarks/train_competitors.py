"""What ``train.py`` times: runs of a few steps by stillroom, a plain loop, Hugging Face's Trainer, TRL's GKDTrainer.

Every run yields the seconds of its steady steps. Models, token batches and precision are the same for all; documents
are not isolated, since the peers' trainers do not do it.
Letters: V vocabulary, T positions, B sequences.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from stillroom.config import ModelConfig, ObjectiveConfig, ParallelConfig, TrainingConfig
from stillroom.corpora.corpus import make_batch
from stillroom.costs import flops_per_token
from stillroom.models import build_model
from stillroom.recipes import llama_1b_from_8b, sandbox_120m
from stillroom.teachers import LiveTeacher
from stillroom.training import Hooks, TrainingData, join, train
from stillroom.training.distributed import own_device
from stillroom.types import Batch, SoftLabels

VOCAB, LENGTH = 2048, 128
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""``cpu`` counts what this process computed, all threads together: for machines that are busy with other things."""
WARM, STEADY = 2, 6
SIZES = {
    "1M": ModelConfig(hidden_size=128, intermediate_size=384, num_layers=4, num_heads=4),
    "5M": ModelConfig(hidden_size=256, intermediate_size=768, num_layers=5, num_heads=8),
    "16M": ModelConfig(hidden_size=384, intermediate_size=1152, num_layers=8, num_heads=8),
    "120M": sandbox_120m.STUDENT,
    "1B": llama_1b_from_8b.STUDENT,
}
ON_GPU = {
    "120M": {"vocab": 8192, "length": 1024, "batch": 64},
    "1B": {"vocab": llama_1b_from_8b.VOCABULARY, "length": 2048, "batch": 8},
}
"""Text and batches of the sizes that are for a GPU."""


@dataclass(frozen=True)
class Rows:
    """Sequences held as an array."""

    tokens: NDArray[np.int64]

    @property
    def sequence_length(self) -> int:
        """T, in tokens."""
        return self.tokens.shape[1]

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The sequences with these numbers."""
        return make_batch(torch.from_numpy(self.tokens[list(indices)]), 0)


@dataclass(frozen=True)
class Task:
    """The student's size, the batch, and the precision that all share."""

    size: str = "1M"
    batch: int = 16
    precision: str = "bf16"
    clock: str = "wall"
    vocab: int = VOCAB
    length: int = LENGTH

    @property
    def tokens(self) -> int:
        """Of a batch."""
        return self.batch * self.length

    @property
    def flops(self) -> float:
        """Model FLOPs of a step."""
        return flops_per_token(SIZES[self.size], self.vocab, self.length, backward=True) * self.tokens

    def model(self) -> Any:
        """A fresh student."""
        return build_model(SIZES[self.size], self.vocab, 0)

    def teacher(self) -> Any:
        """A teacher of 5M parameters."""
        return build_model(SIZES["5M"], self.vocab, 1)

    def sequences(self, num: int = 512) -> Rows:
        """Random tokens: speed does not depend on what they say."""
        tokens = np.random.default_rng(0).integers(3, self.vocab, (num, self.length), dtype=np.int64)
        return Rows(tokens)


class FixedLabels:
    """As many ids per position as 50 samples leave, ready in memory: the student's side of a stored label alone."""

    def labels(self, batch: Batch) -> SoftLabels:
        """Twelve ids that depend on the token."""
        tokens_BT = batch.tokens_BT.cpu()
        shape = tokens_BT.shape
        ids = (tokens_BT[..., None] * 31 + torch.arange(12) * 97) % VOCAB
        return SoftLabels(
            ids=ids,
            weights=torch.full((*shape, 12), 1 / 12),
            entropy=torch.full(shape, 2.5),
            gold_logprob=torch.full(shape, -3.0),
            gold_rank=torch.zeros(shape, dtype=torch.int32),
        ).to(batch.tokens_BT.device)


@contextlib.contextmanager
def run_folder() -> Iterator[str]:
    """A folder for a run; ranks that torchrun started share one."""
    if "MASTER_PORT" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
        return
    shared = Path(tempfile.gettempdir()) / f"stillroom-train-{os.environ['MASTER_PORT']}"
    try:
        yield str(shared)
    finally:
        if os.environ["RANK"] == "0":
            time.sleep(1.0)  # the others still read it
            shutil.rmtree(shared, ignore_errors=True)


def ours(
    task: Task,
    labels: Any = None,
    steps: int = WARM + STEADY,
    pause: Callable[[float], None] = lambda seconds: None,
    **changes: Any,
) -> list[float]:
    """Seconds per step of ``stillroom.training.train`` without its first steps and its last (which validates).

    ``pause`` is called with the seconds of every step after it; what it takes is not counted.
    """
    parallel = ParallelConfig(**changes.pop("parallel", {}))
    config = TrainingConfig(
        batch_sequences=task.batch, steps=steps + 1, checkpoint_seconds=1e9, validate_every=0, parallel=parallel,
        **changes,
    )  # fmt: skip
    data = TrainingData(task.sequences(), task.sequences(8), labels, isolate=False)
    objective = ObjectiveConfig(alpha=0.0 if labels is None else 0.9)
    clock = CLOCKS[task.clock]
    seconds: list[float] = []
    begin = clock()

    def progress(done: int, total: int) -> None:
        nonlocal begin
        seconds.append(clock() - begin)
        pause(seconds[-1])
        begin = clock()

    model = task.model()
    with run_folder() as folder:
        train(
            model, data, config, objective, Path(folder), precision_name=task.precision,
            hooks=Hooks(progress), ranks=join(parallel, 16.0 * model.num_parameters()),
        )  # fmt: skip
    return seconds[WARM:-1]


def _callback(clock: Callable[[], float]) -> tuple[Any, list[float]]:
    from transformers import TrainerCallback

    times: list[float] = []

    class Steps(TrainerCallback):
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            times.append(clock())

    return Steps(), times


def _arguments(task: Task, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder, "per_device_train_batch_size": task.batch, "max_steps": WARM + STEADY,
        "use_cpu": own_device().type == "cpu",
        "bf16": task.precision == "bf16", "learning_rate": 3e-3, "weight_decay": 0.1, "adam_beta2": 0.95,
        "max_grad_norm": 1.0, "lr_scheduler_type": "cosine", "optim": "adamw_torch_fused", "save_strategy": "no",
        "report_to": [], "logging_steps": 1, "disable_tqdm": True, "dataloader_num_workers": 0,
    }  # fmt: skip


def plain_loop(task: Task, *, compiled: bool = False) -> list[float]:
    """Seconds per step of what a few lines of PyTorch do: whole logits, autocast, fused AdamW; documents unknown."""
    device = own_device()
    model = task.model().to(device).train()
    if compiled:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    rows, clock, times = torch.from_numpy(task.sequences().tokens), CLOCKS[task.clock], []
    for step in range(WARM + STEADY):
        begin = clock()
        start = step * task.batch % len(rows)
        tokens_BT = rows[start : start + task.batch].to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=task.precision == "bf16"):
            logits_BTV = model(input_ids=tokens_BT).logits
        cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), tokens_BT[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - begin)
    return times[WARM:]


def hugging_face_trainer(task: Task) -> list[float]:
    """Seconds per step of ``transformers.Trainer`` with its own causal loss; it logs every step, as stillroom does."""
    import datasets
    from transformers import Trainer, TrainingArguments

    tokens = task.sequences().tokens.tolist()
    data = datasets.Dataset.from_dict({"input_ids": tokens, "labels": tokens}).with_format("torch")
    callback, times = _callback(CLOCKS[task.clock])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(**_arguments(task, folder))
        Trainer(model=task.model(), args=arguments, train_dataset=data, callbacks=[callback]).train()
    return list(np.diff(times)[WARM - 1 :])


def gkd_trainer(task: Task) -> list[float]:
    """Seconds per step of TRL's ``GKDTrainer`` off-policy (``lmbda=0``) with forward KL (``beta=0``)."""
    import datasets
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    tokens = task.sequences().tokens.tolist()
    data = datasets.Dataset.from_dict({"input_ids": tokens})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>")), pad_token="<pad>",
        eos_token="<pad>",
    )  # fmt: skip

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids = torch.tensor([row["input_ids"] for row in rows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids, "prompts": ids[:, :1]}

    callback, times = _callback(CLOCKS[task.clock])
    with tempfile.TemporaryDirectory() as folder:
        arguments = GKDConfig(**_arguments(task, folder), lmbda=0.0, beta=0.0, seq_kd=False)
        GKDTrainer(
            model=task.model(), teacher_model=task.teacher(), args=arguments, data_collator=collate,
            train_dataset=data, processing_class=tokenizer, callbacks=[callback],
        ).train()  # fmt: skip
    return list(np.diff(times)[WARM - 1 :])


def competitors(task: Task, measure: str, compiled: bool = False) -> dict[str, Callable[[], list[float]]]:
    """Name → a run that returns the seconds of its steps."""
    if measure == "trainer":
        runs = {"stillroom": lambda: ours(task), "transformers Trainer": lambda: hugging_face_trainer(task)}
        if compiled:
            runs["stillroom, compiled blocks"] = lambda: ours(task, parallel={"compile": True})
        return runs
    if measure == "peak":
        runs = {"stillroom": lambda: ours(task), "plain loop": lambda: plain_loop(task)}
        if compiled:
            runs["stillroom, compiled blocks"] = lambda: ours(task, parallel={"compile": True})
            runs["plain loop, compiled"] = lambda: plain_loop(task, compiled=True)
        return runs
    return {
        "stillroom, live teacher": lambda: ours(task, LiveTeacher(task.teacher(), task.precision, isolate=False)),
        "stillroom, stored labels": lambda: ours(task, FixedLabels()),
        "trl GKDTrainer": lambda: gkd_trainer(task),
    }
