"""One pass over positions, chunk by chunk: matmuls around the element-wise blocks, gradients taken on the way.

The logits of a chunk live in one buffer that becomes the probabilities and then the gradient. Matmuls run over chunks,
large enough for matmul speed; element-wise work runs over blocks of rows that stay in the cache, in float32 whatever
the precision of the matmuls. Letters: N positions, n of a chunk, V vocabulary, K listed ids, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillroom.objectives.head._blocks import Softmax, dense_block_, finish_, gradient_, picked, softmax_, sparse_block
from stillroom.objectives.head._shards import Shard
from stillroom.objectives.targets import DenseTarget, Target, TeacherLogits

BLOCK_BYTES = 4 << 20  # fits the last-level cache several times over: logits, teacher and scratch
CHUNK_LOGITS = 16 << 20  # held at once on a CPU: enough rows for the weight gradient to run at matmul speed
CHUNK_LOGITS_GPU = 256 << 20
SLICE_ROWS = 8192  # of the weight's gradient, where it is rounded before it is added: the part stays in the cache

Needs = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Settings:
    """What the head computes with: matmul dtypes, and the knobs of the loss."""

    dtype: torch.dtype
    teacher_dtype: torch.dtype
    softcap: float | None = None
    temperature: float = 1.0
    z_loss: float = 0.0
    chunk_size: int | None = None

    @property
    def precise(self) -> torch.dtype:
        """The dtype of every element-wise step and of the accumulated gradient."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def rows(self, vocab_size: int, device: torch.device) -> int:
        """Positions per chunk."""
        if self.chunk_size is not None:
            return self.chunk_size
        return max((CHUNK_LOGITS if device.type == "cpu" else CHUNK_LOGITS_GPU) // vocab_size, 16)


@dataclass(frozen=True)
class Values:
    """Per-position results in nats; the last three are empty without a dense target, ``tail_nll_N`` without a tail."""

    loss_N: Tensor
    nll_NK: Tensor
    lse_N: Tensor
    tail_nll_N: Tensor
    divergence_N: Tensor
    teacher_ce_N: Tensor
    teacher_entropy_N: Tensor

    @classmethod
    def zeros(cls, num: int, target: Target, like: Tensor, dtype: torch.dtype) -> Values:
        """Room for ``num`` positions."""
        dense = isinstance(target, DenseTarget)
        sparse = target.hard_or_none() if isinstance(target, DenseTarget) else target
        tail, soft = num if sparse.tail_N is not None else 0, num if dense else 0
        shapes = [(num,), (num, sparse.ids_NK.shape[1]), (num,), (tail,), (soft,), (soft,), (soft,)]
        return cls(*(like.new_zeros(shape, dtype=dtype) for shape in shapes))

    def tensors(self) -> tuple[Tensor, ...]:
        """The fields in order."""
        return tuple(vars(self).values())

    def spread(self, index: Tensor | None, num: int) -> Values:
        """Results of the positions ``index`` put in their places among ``num``, 0 elsewhere."""
        return self if index is None else Values(*(spread(part, index, num) for part in self.tensors()))


def spread(part: Tensor, index: Tensor, num: int) -> Tensor:
    """Rows put in their places among ``num`` rows of zeros; an empty tensor stays empty."""
    if part.shape[0] == 0 and index.numel():
        return part
    return part.new_zeros(num, *part.shape[1:]).index_copy_(0, index, part)


def spans(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` that cover ``range(total)``."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


class Gradients:
    """Accumulators for the gradients that are wanted: None where they are not."""

    def __init__(self, hidden_ND: Tensor, weight_VD: Tensor, needs: Needs, precise: torch.dtype):
        self.hidden_ND = torch.empty_like(hidden_ND) if needs[0] else None
        self.weight_VD = torch.zeros_like(weight_VD, dtype=precise) if needs[1] else None
        self.bias_V = weight_VD.new_zeros(weight_VD.shape[0], dtype=precise) if needs[2] else None

    def tensors(self) -> list[Tensor | None]:
        """For hidden states, weight and bias."""
        return [self.hidden_ND, self.weight_VD, self.bias_V]

    @property
    def wanted(self) -> bool:
        """Whether there is anything to accumulate."""
        return self.hidden_ND is not None or self.weight_VD is not None or self.bias_V is not None

    def add(self, where: slice, gradient_nV: Tensor, hidden_nD: Tensor, weight_VD: Tensor) -> None:
        """Takes the gradient of a chunk's logits on to hidden states and weight."""
        if self.hidden_ND is not None:
            self.hidden_ND[where] = gradient_nV @ weight_VD
        if self.weight_VD is None:
            return
        if gradient_nV.dtype == self.weight_VD.dtype:
            self.weight_VD.addmm_(gradient_nV.t(), hidden_nD)
            return
        for part in spans(self.weight_VD.shape[0], SLICE_ROWS):
            self.weight_VD[part] += gradient_nV[:, part].t() @ hidden_nD


@dataclass(frozen=True)
class Job:
    """One pass: what does not change from chunk to chunk. ``hidden`` and ``weight`` are in the matmul dtype."""

    hidden_ND: Tensor
    weight_VD: Tensor
    bias_V: Tensor | None
    target: Target
    settings: Settings
    shard: Shard
    values: Values
    gradients: Gradients
    scale_N: Tensor | None

    @property
    def teacher(self) -> TeacherLogits | None:
        """The live teacher, where there is one."""
        return self.target.teacher if isinstance(self.target, DenseTarget) else None


def one_pass(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    target: Target,
    settings: Settings,
    shard: Shard,
    needs: Needs,
    scale_N: Tensor | None = None,
) -> tuple[Values, Gradients]:
    """Values per position, and the gradient of Σ_n scale_n · loss_n for (hidden, weight, bias) as ``needs`` says."""
    num = hidden_ND.shape[0]
    hidden, weight = hidden_ND.to(settings.dtype), weight_VD.to(settings.dtype)
    if isinstance(target, DenseTarget):
        target = replace(target, teacher=target.teacher.to(settings.teacher_dtype))
    values = Values.zeros(num, target, hidden, settings.precise)
    gradients = Gradients(hidden_ND, weight_VD, needs, settings.precise)
    job = Job(hidden, weight, bias_V, target, settings, shard, values, gradients, scale_N)
    rows = min(settings.rows(shard.size, hidden.device), max(num, 1))
    buffer = hidden.new_empty(rows, shard.size)
    spare = None if job.teacher is None else hidden.new_empty(rows, shard.size, dtype=settings.teacher_dtype)
    for chunk in spans(num, rows):
        _chunk(job, chunk, buffer[: chunk.stop - chunk.start], spare)
    if gradients.hidden_ND is not None:
        shard.sum_(gradients.hidden_ND)
    return values, gradients


def _chunk(job: Job, chunk: slice, logits_nV: Tensor, spare_nV: Tensor | None) -> None:
    torch.mm(job.hidden_ND[chunk], job.weight_VD.t(), out=logits_nV)
    teacher_nV = None
    if job.teacher is not None and spare_nV is not None:
        teacher_nV = logits_of(job.teacher.rows(chunk), spare_nV[: logits_nV.shape[0]])
    for local in spans(logits_nV.shape[0], block_rows(logits_nV, job.settings.precise, job.shard)):
        student = logits_nV[local].to(job.settings.precise)  # the buffer itself where it is precise already
        teacher = None if teacher_nV is None else teacher_nV[local].to(job.settings.precise)
        _block(job, slice(chunk.start + local.start, chunk.start + local.stop), student, teacher)
        if job.gradients.wanted and student.dtype != logits_nV.dtype:
            logits_nV[local] = student
    if job.gradients.wanted:
        job.gradients.add(chunk, logits_nV, job.hidden_ND[chunk], job.weight_VD)


def block_rows(logits_nV: Tensor, precise: torch.dtype, shard: Shard) -> int:
    """Rows whose element-wise work fits the cache; all of a chunk on a GPU, and where a block would cost a message."""
    if logits_nV.device.type != "cpu" or shard.group is not None:
        return logits_nV.shape[0]
    return max(BLOCK_BYTES // (logits_nV.shape[1] * precise.itemsize), 1)


def logits_of(teacher: TeacherLogits, out_nV: Tensor) -> Tensor:
    """Logits before bias and cap, written to a buffer."""
    if teacher.weight_VE is None:
        return out_nV.copy_(teacher.hidden_NE)
    return torch.mm(teacher.hidden_NE, teacher.weight_VE.t(), out=out_nV)


def _block(job: Job, where: slice, student_nV: Tensor, teacher_nV: Tensor | None) -> None:
    """Values of a block of rows; leaves the gradient for its logits in their place."""
    target, shard, values = job.target.rows(where), job.shard, job.values
    sparse = target.hard_or_none() if isinstance(target, DenseTarget) else target
    slope_nV = finish_(student_nV, job.bias_V, job.settings.softcap)
    if job.settings.temperature != 1.0:
        student_nV /= job.settings.temperature
    chosen = picked(student_nV, sparse, shard)
    scale = None if job.scale_N is None else job.scale_N[where].to(student_nV.dtype)
    if isinstance(target, DenseTarget) and teacher_nV is not None:
        softmax = _soft(job, where, target, student_nV, teacher_nV, scale)
    else:
        softmax = softmax_(student_nV, shard)
    values.lse_N[where] = softmax.lse_n
    block = sparse_block(student_nV, chosen, softmax, sparse, shard)
    z_loss = target.active_N.to(student_nV.dtype) * job.settings.z_loss
    values.loss_N[where] += block.loss_n + z_loss * softmax.lse_n.square()
    values.nll_NK[where] = block.nll_nK
    if block.tail_nll_n is not None:
        values.tail_nll_N[where] = block.tail_nll_n
    if not job.gradients.wanted:
        return
    coefficient_n = block.coefficient_n + 2 * z_loss * softmax.lse_n
    gradient_(student_nV, coefficient_n, block.additions_nK, sparse, softmax, scale, shard)
    if teacher_nV is not None:
        student_nV += teacher_nV
    if slope_nV is not None:
        student_nV *= slope_nV
    if job.settings.temperature != 1.0:
        student_nV /= job.settings.temperature
    if job.gradients.bias_V is not None:
        job.gradients.bias_V += student_nV.sum(0)


def _soft(
    job: Job, where: slice, target: DenseTarget, student_nV: Tensor, teacher_nV: Tensor, scale: Tensor | None
) -> Softmax:
    """The teacher's part of a block: student logits become probabilities, teacher logits the weighted gradient."""
    finish_(teacher_nV, target.teacher.bias_V, target.teacher.softcap)
    soft = dense_block_(student_nV, teacher_nV, target, job.shard, job.gradients.wanted)
    weight_n, values = target.weight_N.to(student_nV.dtype), job.values
    values.loss_N[where], values.divergence_N[where] = weight_n * soft.loss_n, soft.loss_n
    values.teacher_ce_N[where], values.teacher_entropy_N[where] = soft.teacher_ce_n, soft.entropy_n
    if job.gradients.wanted:
        teacher_nV.mul_((weight_n if scale is None else weight_n * scale)[:, None])
    return Softmax(soft.lse_n, None)  # the probabilities are of the whole vocabulary already
