"""Small trainings with known models, and a record of what a trainer did to student, teacher and optimizer.

Letters as in ``adapter``. transformers is imported when the first model is made.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from stillroom.conformance.adapter import Adapter, TrainingTask
from stillroom.conformance.oracle import divergence_nats, next_token_loss
from stillroom.types import IGNORE_INDEX, Batch

VOCAB, LENGTH, RATE = 32, 12, 0.5
Steps = Sequence[Sequence[Batch]]


def random_model(seed: int) -> Any:
    """A small Llama whose weights are large enough for differences to show."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = LlamaConfig(vocab_size=VOCAB, max_position_embeddings=64, use_cache=False, **shape, **ids)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
        for parameter in model.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.25)
    return model


@torch.no_grad()
def context_free(model: Any) -> Any:
    """The same model with layers that add nothing: only the current token counts."""
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    return model


@torch.no_grad()
def counting_teacher() -> Any:
    """A teacher that knows the text: after token v comes v + 1, and it is sure of it."""
    model = context_free(random_model(seed=3))
    tokens = normalize(model.get_input_embeddings().weight, dim=-1)
    model.get_output_embeddings().weight.copy_(6 * tokens.roll(1, 0))
    return model


def batch(seed: int = 0, rows: int = 4, documents: int = 1, *, masked: bool = False) -> Batch:
    """Rows of random tokens, of so many documents each. Where masked, rows differ in how many positions count."""
    g = torch.Generator().manual_seed(seed)
    return packed(torch.randint(VOCAB, (rows * documents, LENGTH // documents), generator=g), rows, masked=masked)


def packed(documents: Tensor, rows: int, *, masked: bool = False) -> Batch:
    """Documents of one length, packed into rows."""
    targets = torch.cat([documents[:, 1:], torch.full_like(documents[:, :1], IGNORE_INDEX)], 1)
    if masked:
        targets[: len(targets) // 2, : LENGTH - 4] = IGNORE_INDEX
    numbers = torch.arange(len(documents)).remainder(len(documents) // rows)[:, None].expand_as(documents)
    return Batch(documents.reshape(rows, -1), targets.reshape(rows, -1), numbers.reshape(rows, -1).int())


def part(whole: Batch, rows: slice) -> Batch:
    """Some rows of a batch, as a micro-batch."""
    return Batch(whole.tokens_BT[rows], whole.targets_BT[rows], whole.document_BT[rows])


@dataclass
class Optimizers:
    """Makes optimizers, and remembers them."""

    made: list[torch.optim.Optimizer] = field(default_factory=list)

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Plain descent with momentum, whose step is proportional to the gradient."""
        self.made.append(torch.optim.SGD(list(parameters), lr=RATE, momentum=0.9))
        return self.made[-1]


@dataclass(frozen=True)
class Lesson:
    """A training that was done."""

    student: nn.Module
    teacher: nn.Module
    """The one that the trainer used."""
    given: nn.Module
    """A copy of the teacher that the task gave, from before."""
    replaced: bool
    """Whether the trainer used another."""
    start: Tensor
    optimizers: Optimizers
    calls: tuple[tuple[bool, bool], ...]
    """Of each call of the task's teacher: whether a part of it was in training mode, whether it recorded a graph."""

    @property
    def change(self) -> Tensor:
        """What the training added to the student's weights, all of them in one row."""
        return flat(self.student) - self.start


def flat(model: nn.Module) -> Tensor:
    """All parameters in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _watched(teacher: nn.Module) -> list[tuple[bool, bool]]:
    calls: list[tuple[bool, bool]] = []

    def see(_: nn.Module, __: object, output: Tensor) -> None:
        calls.append((any(part.training for part in teacher.modules()), output.requires_grad))

    teacher.get_input_embeddings().register_forward_hook(see)  # type: ignore[operator]
    return calls


def lesson(
    adapter: Adapter,
    steps: Steps,
    *,
    student: Any = None,
    teacher: Any = None,
    folder: Path | None = None,
    resume: bool = False,
) -> Lesson:
    """Lets the adapter's trainer train; models that are not given are random ones."""
    assert adapter.train is not None
    student, teacher = student or random_model(seed=1), teacher or random_model(seed=2)
    given, start, optimizers, calls = copy.deepcopy(teacher), flat(student), Optimizers(), _watched(teacher)
    alpha = 0.5 if adapter.hard else 1.0
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task = TrainingTask(student, teacher, steps, optimizers, alpha, adapter.divergences[0], place, resume)
        used = adapter.train(task)
    return Lesson(student, used or teacher, given, used is not None, start, optimizers, tuple(calls))


@lru_cache(maxsize=4)
def first_lesson(adapter: Adapter) -> Lesson:
    """One step on one batch, with a teacher that knows its text."""
    return lesson(adapter, [[batch(masked=adapter.masked)]], teacher=counting_teacher())


def right_change(adapter: Adapter, whole: Batch, teacher: Any, soft_weight: float, hard_weight: float) -> Tensor:
    """What one step on a batch adds to the weights of the random student, from whole logits in float64."""
    student = random_model(seed=1).double()
    log_p = student(input_ids=whole.tokens_BT).logits.log_softmax(-1)
    with torch.no_grad():
        log_q = copy.deepcopy(teacher).double().eval()(input_ids=whole.tokens_BT).logits.log_softmax(-1)
    soft = divergence_nats(log_p, log_q, adapter.divergences[0], 0.3)
    counted = whole.targets_BT != IGNORE_INDEX
    nats = soft_weight * soft + hard_weight * next_token_loss(log_p, whole.targets_BT)
    (nats[counted].sum() / counted.sum()).backward()
    return -RATE * torch.cat([parameter.grad.flatten() for parameter in student.parameters()])


def loss_on(teacher: Any, tokens: Tensor) -> float:
    """Mean nats of the next token."""
    training = teacher.training
    with torch.no_grad():
        log_p = teacher.eval()(input_ids=tokens[:, :-1]).logits.log_softmax(-1)
    teacher.train(training)
    return float(next_token_loss(log_p, tokens[:, 1:]).mean())
