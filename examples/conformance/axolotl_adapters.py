"""axolotl's top-k losses: ``fused`` (its kernel on Liger's base) and ``eager``. A distribution is a list of all ids.

    cd examples/conformance && pytest --distillation-adapter axolotl_adapters:fused

Memory is not asked for: a list of all ids is larger than the logits.
"""

from __future__ import annotations

import torch
from peer_files import bare
from torch import Tensor
from torch.nn.functional import pad

from stillroom.conformance import Adapter, LossCase
from stillroom.types import IGNORE_INDEX

for package in ("kernels", "topk_logprob"):
    bare(f"axolotl.integrations.kd.{package}")


def _listed(case: LossCase) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, log-probabilities as its data pipeline prepares them, and the mask of counted positions."""
    if case.labels is not None:
        ids, logprobs = case.labels.ids, case.labels.weights.log().log_softmax(-1)
    else:
        logprobs = (case.teacher_logits_BTW / case.temperature).log_softmax(-1)
        ids = torch.arange(logprobs.shape[-1]).expand(logprobs.shape)
    return ids, logprobs, (case.targets_BT != IGNORE_INDEX)[..., None].expand(ids.shape).long()


def _fused(case: LossCase) -> Tensor:
    from axolotl.integrations.kd.kernels.liger import LigerFusedLinearKLTopKLogprobFunction

    hidden, *listed = (pad(part, (0, 0, 0, 1)) for part in (case.hidden_BTD, *_listed(case)))
    labels = pad(case.targets_BT, (1, 0), value=IGNORE_INDEX)  # it shifts, so there is one position more
    weights = 1 - case.alpha, case.alpha
    of_case = hidden, case.weight_VD, *listed, labels, None, *weights, IGNORE_INDEX, case.temperature
    return LigerFusedLinearKLTopKLogprobFunction.apply(*of_case)


def _eager(case: LossCase) -> Tensor:
    from axolotl.integrations.kd.topk_logprob.forward_kl import loss

    return loss(case.logits_BTV, *_listed(case), case.counted, case.temperature)


fused = Adapter(
    "axolotl fused top-k", _fused, reduction="sum", masked=True, hard=True, temperature="squared", tail="renormalise"
)
eager = Adapter("axolotl eager top-k", _eager, reduction="step", masked=True, temperature="plain", tail="renormalise")
