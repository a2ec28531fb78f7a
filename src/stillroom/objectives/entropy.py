"""Entropy and gold log-probability of every position, from a pass without gradient.

This is what routing needs before the weights of the loss are known: of the student (SE-KD), or of a live teacher. It
costs one matmul over the vocabulary, a third of what the loss itself costs; stored labels hold the teacher's already.
Letters: N positions, n of a chunk, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from stillroom.objectives.head._blocks import LOWEST, finish_, picked, softmax_
from stillroom.objectives.head._chunks import Settings, block_rows, logits_of, spans
from stillroom.objectives.head._shards import Shard
from stillroom.objectives.head.fused import teacher_matmul_dtype
from stillroom.objectives.targets import SparseTarget, TeacherLogits, hard_target


@dataclass(frozen=True)
class RowStatistics:
    """Nats per position of a model's next-token distribution; ``gold_logprob_N`` is 0 where there is no target."""

    entropy_N: Tensor
    gold_logprob_N: Tensor


@torch.no_grad()
def row_statistics(
    model: TeacherLogits,
    targets_N: Tensor,
    *,
    temperature: float = 1.0,
    chunk_size: int | None = None,
    group: dist.ProcessGroup | None = None,
) -> RowStatistics:
    """Entropy and log-probability of the target, in nats, without ever holding N·V logits.

    Arguments:
        model: hidden states and unembedding, or ready logits; a student's as well as a teacher's.
        targets_N: the next tokens, ``IGNORE_INDEX`` where there is none.
        temperature: of the softmax.
        chunk_size: positions whose logits are held at once; None picks what suits the device.
        group: ranks that hold the vocabulary in parts.
    """
    dtype = teacher_matmul_dtype(model)
    settings = Settings(dtype, dtype, temperature=temperature, chunk_size=chunk_size)
    shard = Shard.of(model.vocab_size, group, model.hidden_NE.device)
    model, gold = model.to(dtype), hard_target(targets_N)
    num = targets_N.shape[0]
    rows = min(settings.rows(shard.size, model.hidden_NE.device), max(num, 1))
    buffer = model.hidden_NE.new_empty(rows, shard.size, dtype=dtype)
    out = RowStatistics(*model.hidden_NE.new_zeros(2, num, dtype=settings.precise))
    with torch.autocast(model.hidden_NE.device.type, enabled=False):
        for chunk in spans(num, rows):
            logits = logits_of(model.rows(chunk), buffer[: chunk.stop - chunk.start])
            for local in spans(logits.shape[0], block_rows(logits, settings.precise, shard)):
                where = slice(chunk.start + local.start, chunk.start + local.stop)
                values = logits[local].to(settings.precise)
                finish_(values, model.bias_V, model.softcap)
                _block(values.div_(temperature), gold.rows(where), shard, out, where)
    return out


def _block(logits_nV: Tensor, gold: SparseTarget, shard: Shard, out: RowStatistics, where: slice) -> None:
    logits_nV.clamp_(min=LOWEST)
    chosen_n = picked(logits_nV, gold, shard)[:, 0]
    probabilities = torch.empty_like(logits_nV)
    softmax = softmax_(logits_nV, shard, out=probabilities)
    mean_n = torch.linalg.vecdot(probabilities, logits_nV)
    mean_n = mean_n if softmax.share_n is None else shard.sum_(mean_n * softmax.share_n)
    out.entropy_N[where] = softmax.lse_n - mean_n
    out.gold_logprob_N[where] = (chosen_n - softmax.lse_n) * gold.active_N
