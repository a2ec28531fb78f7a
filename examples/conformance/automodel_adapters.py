"""NeMo Automodel's ``KDLoss``.

cd examples/conformance && pytest --distillation-adapter automodel_adapters:adapter
"""

from __future__ import annotations

from peer_files import bare
from torch import Tensor

from stillroom.conformance import Adapter, LossCase

bare("nemo_automodel.components.loss")


def _loss(case: LossCase) -> Tensor:
    from nemo_automodel.components.loss.kd_loss import KDLoss

    loss = KDLoss(temperature=case.temperature)
    return loss(case.logits_BTV, case.teacher_logits_BTW, case.targets_BT, num_batch_labels=case.counted)


adapter = Adapter("NeMo Automodel KDLoss", _loss, reduction="step", masked=True, temperature="squared")
