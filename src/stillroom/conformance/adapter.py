"""What somebody's distillation code can do, and the problems that it is given.

Letters: B sequences, T positions, N = B·T, V vocabulary, W vocabulary of the teacher, D and E widths, K listed ids.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from stillroom.objectives.targets import Divergence
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels, UserError

Reduction = Literal["mean", "sum", "step"]
TemperatureForm = Literal["squared", "plain", "teacher"]
Tail = Literal["bucket", "renormalise", "drop"]


@dataclass(frozen=True)
class LossCase:
    """One call of a loss: (1 - alpha)·CE(next token) + alpha·divergence from the teacher, at every counted position.

    Student and teacher are given as final hidden states and unembedding; ``logits_BTV`` and ``teacher_logits_BTW`` are
    for losses that take logits. The gradient is looked at in ``hidden_BTD`` and ``weight_VD``.
    """

    hidden_BTD: Tensor
    weight_VD: Tensor
    teacher_hidden_BTE: Tensor
    teacher_weight_WE: Tensor
    targets_BT: Tensor
    """The token after each position: the shift is done. ``IGNORE_INDEX`` where a position is not counted."""
    divergence: Divergence = "forward-kl"
    beta: float = 0.3
    """Of Jensen-Shannon: β·KL(teacher‖m) + (1-β)·KL(student‖m), m = (1-β)·student + β·teacher."""
    alpha: float = 1.0
    temperature: float = 1.0
    softcap: float | None = None
    """Both models' logits are softcap·tanh(logits / softcap); the properties ``logits`` leave it out."""
    vocab_size: int | None = None
    """Ids from here on are padding, in student and teacher; None: there is none."""
    labels: SoftLabels | None = None
    """Ids (B, T, K), weights and tail to be used in place of the teacher's logits."""
    step_counted: int | None = None
    """Counted positions of the whole optimizer step, where this call is one micro-batch of it."""

    @property
    def logits_BTV(self) -> Tensor:
        """The student's logits, with gradient."""
        return self.hidden_BTD @ self.weight_VD.t()

    @property
    def teacher_logits_BTW(self) -> Tensor:
        """The teacher's logits."""
        return self.teacher_hidden_BTE @ self.teacher_weight_WE.t()

    @property
    def counted(self) -> int:
        """Counted positions of the optimizer step."""
        own = int((self.targets_BT != IGNORE_INDEX).sum())
        return own if self.step_counted is None else self.step_counted

    def leaves(self) -> LossCase:
        """The same case with student tensors of its own, ready for a gradient."""
        hidden, weight = (part.detach().clone().requires_grad_() for part in (self.hidden_BTD, self.weight_VD))
        return replace(self, hidden_BTD=hidden, weight_VD=weight)

    def on_logits(self, change: Callable[[Tensor], Tensor], teacher_change: Callable[[Tensor], Tensor]) -> LossCase:
        """The same case with changed logits, given as hidden states with the identity as unembedding."""
        student, teacher = change(self.logits_BTV), teacher_change(self.teacher_logits_BTW)
        return replace(
            self,
            hidden_BTD=student,
            weight_VD=torch.eye(student.shape[-1], dtype=student.dtype),
            teacher_hidden_BTE=teacher,
            teacher_weight_WE=torch.eye(teacher.shape[-1], dtype=teacher.dtype),
        )


@dataclass(frozen=True)
class TrainingTask:
    """A training that a trainer is to do: ``student`` is changed in place, by the optimizer that ``optimizer`` makes.

    Both models are small Llama models of transformers; a trainer of other models may call them as modules. The
    learning rate is constant and gradients are neither clipped nor decayed.
    """

    student: nn.Module
    teacher: nn.Module
    steps: Sequence[Sequence[Batch]]
    """Optimizer steps, each a list of micro-batches; with ranks, those of this rank."""
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    """Makes the optimizer of the parameters that are trained."""
    alpha: float
    divergence: Divergence
    folder: Path
    """An empty folder for checkpoints, shared by the ranks: the last step of every training is to be kept there."""
    resume: bool = False
    """Whether to go on after the checkpoint in ``folder``; ``steps`` is then still the whole training."""


@dataclass(frozen=True)
class Adapter:
    """What somebody's code can do. Only ``name`` and one of ``loss`` and ``train`` are needed.

    Every other field declares something, and opens the properties that it names.
    """

    name: str
    loss: Callable[[LossCase], Tensor] | None = None
    """The loss of one call, a scalar with gradient: ``identity``, ``gradient``."""
    divergences: tuple[Divergence, ...] = ("forward-kl",)
    """What the loss and the trainer can be asked for."""
    reduction: Reduction = "mean"
    """Over the counted positions: their mean, their sum, or their sum over those of the step: ``micro-batches``."""
    masked: bool = False
    """Whether positions with ``IGNORE_INDEX`` are left out: ``ignore-index``."""
    hard: bool = False
    """Whether alpha may be below 1: ``shift`` and ``terms``."""
    temperature: TemperatureForm | None = None
    """Both softmaxes and times T², both without the factor, or the teacher's alone: ``temperature``."""
    padding: bool = False
    """Whether student or teacher may be padded beyond the tokenizer: ``padded-vocabulary``."""
    softcap: bool = False
    """Whether the loss caps the logits itself: ``soft-cap``."""
    tail: Tail | None = None
    """What becomes of the mass outside listed ids, where the loss takes truncated labels: ``top-k``."""
    sample: Callable[[Tensor, int, int], SoftLabels] | None = None
    """Sampled labels of logits (N, V), of so many draws, from a seed: ``sampling``."""
    fused: bool = False
    """Whether the loss forms no logits of the whole batch: ``memory``."""
    train: Callable[[TrainingTask], nn.Module | None] | None = None
    """Does a training; returns the teacher where it used another one: ``step``, ``accumulation`` and ``teacher-*``."""
    packs: bool = False
    """Whether documents that share a row are kept apart: ``packing`` and ``teacher-packing``."""
    resumes: bool = False
    """Whether a training can go on from its checkpoint: ``resume``."""
    ranks: bool = False
    """Whether ranks of torch.distributed share a step: ``ranks``."""
    tolerance: float = 1e-4
    """Largest difference, as a share of the largest expected number."""
    place: str | None = None
    """``module:name``, where it was loaded from."""

    def __post_init__(self) -> None:
        one = {"reduction": Reduction, "temperature": TemperatureForm, "tail": Tail}
        asked = [(name, getattr(self, name), kind) for name, kind in one.items()]
        for name, value, kind in [*asked, *(("divergences", one, Divergence) for one in self.divergences)]:
            if value is not None and value not in get_args(kind):
                raise UserError(f"Adapter.{name}: is {value!r}, expected one of {', '.join(get_args(kind))}.")
        if not self.divergences or (self.loss is None and self.train is None):
            raise UserError(f"Adapter {self.name!r}: has nothing to try; give loss or train, and its divergences.")


def load_adapter(place: str) -> Adapter:
    """The adapter at ``module:name``; a bare loss function becomes one. The working folder is looked in too."""
    module, _, name = place.partition(":")
    if not module or not name:
        raise UserError(f"--distillation-adapter: is {place!r}, expected module:name, as in my_package:adapter.")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise UserError(
            f"--distillation-adapter: {place} could not be loaded ({type(error).__name__}: {error}); give the module "
            "and the name in it, as in my_package:adapter."
        ) from error
    if isinstance(found, Adapter):
        return replace(found, place=place)
    if not callable(found):
        raise UserError(f"--distillation-adapter: {place} is a {type(found).__name__}, expected an Adapter or a loss.")
    return Adapter(name=place, loss=found, place=place)  # type: ignore[arg-type]
