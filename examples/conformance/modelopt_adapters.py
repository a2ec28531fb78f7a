"""Model-Optimizer's ``LogitsDistillationLoss``: ``default`` without options, ``masked`` as ``KDTrainer`` makes it.

cd examples/conformance && pytest --distillation-adapter modelopt_adapters:masked
"""

from __future__ import annotations

from peer_files import bare
from torch import Tensor

from stillroom.conformance import Adapter, LossCase
from stillroom.types import IGNORE_INDEX

bare("modelopt.torch.distill")


def _default(case: LossCase) -> Tensor:
    from modelopt.torch.distill.losses import LogitsDistillationLoss

    loss = LogitsDistillationLoss(case.temperature)
    return loss(case.logits_BTV, case.teacher_logits_BTW)


def _masked(case: LossCase) -> Tensor:
    from modelopt.torch.distill.losses import LogitsDistillationLoss

    loss = LogitsDistillationLoss(case.temperature, reduction="none")
    mask = case.targets_BT != IGNORE_INDEX
    return (loss(case.logits_BTV, case.teacher_logits_BTW) * mask).sum() / mask.sum().clamp(min=1)


default = Adapter("Model-Optimizer LogitsDistillationLoss()", _default, temperature="squared")
masked = Adapter("Model-Optimizer LogitsDistillationLoss, masked", _masked, masked=True, temperature="squared")
