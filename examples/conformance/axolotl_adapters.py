"""axolotl's top-k losses: ``fused`` (its kernel on Liger's base) and ``eager``. A distribution is a list of all ids.

cd examples/conformance && pytest --distillation-adapter axolotl_adapters:fused
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from peer_files import module_of
from torch import Tensor

from stillroom.conformance import Adapter, LossCase

FOLDER, PACKAGE = "axolotl/integrations/kd", "axolotl.integrations.kd"


def _listed(case: LossCase) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, log-probabilities as its data pipeline prepares them, and a mask of ones."""
    if case.labels is not None:
        return case.labels.ids, case.labels.weights.log().log_softmax(-1), torch.ones_like(case.labels.ids)
    logprobs = (case.teacher_logits_BTW / case.temperature).log_softmax(-1)
    ids = torch.arange(logprobs.shape[-1]).expand(logprobs.shape)
    return ids, logprobs, torch.ones_like(ids)


def _fused(case: LossCase) -> Tensor:
    for name in ("axolotl", "axolotl.integrations", PACKAGE):
        sys.modules.setdefault(name, ModuleType(name))
    module_of("axolotl", f"{FOLDER}/utils.py", f"{PACKAGE}.utils")
    kernel = module_of("axolotl", f"{FOLDER}/kernels/liger.py").LigerFusedLinearKLTopKLogprobFunction
    weights = 1 - case.alpha, case.alpha
    of_case = case.hidden_BTD, case.weight_VD, *_listed(case), case.targets_BT, None
    return kernel.apply(*of_case, *weights, -100, case.temperature)


def _eager(case: LossCase) -> Tensor:
    loss = module_of("axolotl", f"{FOLDER}/topk_logprob/forward_kl.py").loss
    return loss(case.logits_BTV, *_listed(case), kd_temperature=case.temperature)


fused = Adapter(
    "axolotl fused top-k", _fused, reduction="sum", hard=True, temperature="squared", tail="renormalise", fused=True
)
eager = Adapter("axolotl eager top-k", _eager, tail="renormalise")
