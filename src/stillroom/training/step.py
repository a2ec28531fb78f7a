"""One optimizer step over a global batch, and the one place where per-token nats are reduced.

Letters: B sequences, T positions, N = B·T, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from stillroom.models import hidden_states, logit_softcap, precision, readout, unembedding
from stillroom.objectives import TeacherLogits, TokenLosses, token_losses
from stillroom.objectives.objective_config import ObjectiveConfig
from stillroom.teachers import LabelSource
from stillroom.training.distributed import ALONE, Ranks
from stillroom.training.mtp_heads import FurtherHeads
from stillroom.types import IGNORE_INDEX, Batch, Sequences, SoftLabels

if TYPE_CHECKING:
    from stillroom.objectives.objective import AnyObjective


class StepSums:
    """Sums over a global step, per term: of weighted nats and of weights. Means are taken once, at the end.

    Sums stay tensors until ``means``, so that an accelerator is not waited for at every micro-batch.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor, weight: Tensor) -> None:
        """Adds Σ weight·values and Σ weight of some positions, in float64."""
        self.merge({name: weighted_sums(values, weight)})

    def merge(self, sums: dict[str, Tensor]) -> None:
        """Adds pairs made by ``weighted_sums``."""
        for name, pair in sums.items():
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def totals(self, ranks: Ranks = ALONE) -> dict[str, tuple[float, float]]:
        """(Σ weight·nats, Σ weight) over all ranks, per term."""
        return self.begin_totals(ranks)()

    def begin_totals(self, ranks: Ranks) -> Callable[[], dict[str, tuple[float, float]]]:
        """Sends the sums off to the other ranks; the function that it returns waits for the ``totals``."""
        if not self._sums:
            return dict
        names = list(self._sums)
        finish = ranks.begin_sum(torch.stack(list(self._sums.values())))
        return lambda: {name: (nats, weight) for name, (nats, weight) in zip(names, finish().tolist(), strict=True)}

    def means(self, ranks: Ranks = ALONE) -> dict[str, float]:
        """Σ weight·nats / Σ weight over all ranks, for every term that received a position."""
        return {name: nats / weight for name, (nats, weight) in self.totals(ranks).items() if weight > 0}


def weighted_sums(values: Tensor, weight: Tensor) -> Tensor:
    """(Σ weight·values, Σ weight) in float64."""
    weight = weight.double()
    return torch.stack(((values.double() * weight).sum(), weight.sum()))


class Student(nn.Module):
    """A model together with its head, as one forward pass from a batch to its summed loss.

    The head is inside, so that where parameters are sharded, the unembedding is gathered when it is used. ``further``
    holds the heads beyond the next token's (see ``FurtherHeads``), where the objective has any.
    """

    def __init__(self, model: PreTrainedModel, further: FurtherHeads | None = None) -> None:
        super().__init__()
        readout(model)  # measured before the model is sharded
        self.model = model
        self.further = further

    def forward(
        self,
        batch: Batch,
        objective: ObjectiveConfig,
        labels: SoftLabels | TeacherLogits | None,
        context: StepContext,
        seed: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Σ nats over the batch's counted positions, and the sums of every term (see ``weighted_sums``)."""
        if self.further is not None and objective.heads > 1:
            hidden_HND = self.further.hidden_states(self.model, batch, context.isolate)
        else:
            hidden_HND = hidden_states(self.model, batch, context.isolate).flatten(0, 1)
        losses = head_losses(
            self.model, hidden_HND, batch, objective, labels, seed=seed, label_temperature=context.label_temperature
        )
        return losses.loss_N.sum(), sums_of(losses)


def head_losses(
    model: PreTrainedModel,
    hidden_HND: Tensor,
    batch: Batch,
    objective: AnyObjective,
    labels: SoftLabels | TeacherLogits | None,
    *,
    seed: int = 0,
    label_temperature: float = 1.0,
) -> TokenLosses:
    """Nats per position of hidden states, (N, D) or of several heads, by the model's own unembedding."""
    weight_VD, bias = unembedding(model)
    scored = labels.vocab_size if isinstance(labels, TeacherLogits) else weight_VD.shape[0]
    return token_losses(
        hidden_HND, weight_VD, batch, objective, labels,
        bias=bias, softcap=logit_softcap(model), seed=seed, label_temperature=label_temperature,
        vocab_size=scored if scored < weight_VD.shape[0] else None,  # the rest of the student's is padding
    )  # fmt: skip


def sums_of(losses: TokenLosses) -> dict[str, Tensor]:
    """Of the loss and of every term: (Σ weight·nats, Σ weight), to be added up over micro-batches and ranks."""
    values = {"loss": (losses.loss_N.detach(), losses.counted_N), **losses.terms}
    return {name: weighted_sums(values_N, weight_N) for name, (values_N, weight_N) in values.items()}


@dataclass(frozen=True)
class StepContext:
    """What every step of a run shares."""

    objective: ObjectiveConfig
    labels: LabelSource | None = None
    isolate: bool = True
    label_temperature: float = 1.0
    """At which stored labels were made."""
    precision_name: str = "fp32"
    ranks: Ranks = ALONE


def split_batch(batch: Batch, size: int) -> list[Batch]:
    """Micro-batches of ``size`` sequences."""
    parts: list[Any] = [
        None if value is None else value.split(size)
        for value in (batch.tokens_BT, batch.targets_BT, batch.document_BT, batch.process_BT)
    ]
    count = len(parts[0] or ())
    return [
        Batch(*(None if part is None else part[index] for part in parts))  # type: ignore[arg-type]
        for index in range(count)
    ]


def global_step(
    student: Student, micro_batches: Sequence[Batch], context: StepContext, objective: ObjectiveConfig, *, seed: int
) -> StepSums:
    """Leaves the gradient of the mean loss of the global step in the parameters and returns its sums.

    The mean is over all counted positions of all micro-batches and ranks, so it does not depend on how the global batch
    was split. ``objective`` is that of the step, with no schedule left in it.
    """
    ranks = context.ranks
    counts = torch.stack([(batch.targets_BT != IGNORE_INDEX).sum() for batch in micro_batches])
    count = ranks.begin_sum(counts.sum().double().to(ranks.device))  # on its way during the first forward pass
    scale: Tensor | None = None
    sums = StepSums()
    for number, batch in enumerate(micro_batches):
        batch = batch.to(ranks.device)
        if isinstance(student, FSDPModule):  # ranks exchange gradients in the last micro-batch alone
            student.set_requires_gradient_sync(number == len(micro_batches) - 1)
        with precision(context.precision_name, ranks.device):
            loss, terms = student(batch, objective, teacher_labels(context, objective, batch), context, seed)
            if scale is None:
                scale = 1.0 / count().clamp(min=1.0)
            (loss * scale.to(loss.dtype)).backward()
        sums.merge(terms)
    if ranks.mesh is not None and not isinstance(student, FSDPModule):
        ranks.sum_in_place([parameter.grad for parameter in student.parameters() if parameter.grad is not None])
    return sums


def teacher_labels(context: StepContext, objective: ObjectiveConfig, batch: Batch) -> SoftLabels | TeacherLogits | None:
    """What the teacher says of a batch: looked up, or computed now."""
    if context.labels is None or objective.alpha == 0:
        return None
    return context.labels.labels(batch)


@torch.no_grad()
def validate(student: Student, sequences: Sequences, context: StepContext, batch_size: int = 64) -> float:
    """Mean cross-entropy of the true next token over held-out sequences, in nats per token, shared by the ranks."""
    plain, ranks = ObjectiveConfig(), context.ranks
    was_training = student.training
    student.eval()
    total = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    per_rank = -(-batch_size // ranks.data_size)
    for start in range(0, len(sequences), per_rank * ranks.data_size):
        first = start + per_rank * ranks.data_rank
        mine = range(min(first, len(sequences)), min(first + per_rank, len(sequences)))
        batch = sequences.batch(list(mine) or [0]).to(ranks.device)  # every rank takes part in every forward pass
        with precision(context.precision_name, ranks.device):
            _, terms = student(batch, plain, None, context, 0)
        if mine:
            total += terms["ce"]
    student.train(was_training)
    for part in student.modules():
        if isinstance(part, FSDPModule):  # without a backward pass, what was gathered would pass for the parameters
            part.reshard()
    nats, weight = ranks.sum(total).tolist()
    return nats / max(weight, 1.0)
