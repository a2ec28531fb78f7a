"""Liger's fused linear divergence, in plain PyTorch: ``LigerFusedLinearJSDLoss``.

cd examples/conformance && pytest --distillation-adapter liger_adapters:adapter
"""

from __future__ import annotations

from torch import Tensor

from stillroom.conformance import Adapter, LossCase


def _loss(case: LossCase) -> Tensor:
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

    head = LigerFusedLinearJSDLoss(
        weight_hard_loss=1 - case.alpha,
        weight_soft_loss=case.alpha,
        beta={"forward-kl": 0.0, "reverse-kl": 1.0}.get(case.divergence, case.beta),
        temperature=case.temperature,
        compiled=False,
    )
    student, teacher = case.hidden_BTD.flatten(0, 1), case.teacher_hidden_BTE.flatten(0, 1)
    return head(student, case.weight_VD, teacher, case.teacher_weight_WE, case.targets_BT.flatten())


adapter = Adapter(
    "Liger LigerFusedLinearJSDLoss",
    _loss,
    ("forward-kl", "reverse-kl", "jensen-shannon"),
    masked=True,
    hard=True,
    temperature="plain",
    padding=True,
    fused=True,
)
