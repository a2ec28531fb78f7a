"""Model-Optimizer's ``LogitsDistillationLoss``, with its default reduction (``default``) and with ``batchmean``.

cd examples/conformance && pytest --distillation-adapter modelopt_adapters:batchmean
"""

from __future__ import annotations

from peer_files import module_of
from torch import Tensor

from stillroom.conformance import Adapter, LossCase

FILE = "modelopt/torch/distill/losses.py"


def _default(case: LossCase) -> Tensor:
    loss = module_of("nvidia-modelopt", FILE).LogitsDistillationLoss(case.temperature)
    return loss(case.logits_BTV, case.teacher_logits_BTW)


def _batchmean(case: LossCase) -> Tensor:
    loss = module_of("nvidia-modelopt", FILE).LogitsDistillationLoss(case.temperature, reduction="batchmean")
    return loss(case.logits_BTV, case.teacher_logits_BTW)


default = Adapter("Model-Optimizer LogitsDistillationLoss", _default, temperature="squared")
batchmean = Adapter("Model-Optimizer LogitsDistillationLoss(batchmean)", _batchmean, temperature="squared")
