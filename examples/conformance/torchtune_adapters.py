"""torchtune's distillation losses: ``forward``, ``reverse`` and the ``chunked`` form of the first.

cd examples/conformance && pytest --distillation-adapter torchtune_adapters:forward
"""

from __future__ import annotations

from peer_files import bare
from torch import Tensor

from stillroom.conformance import Adapter, LossCase

bare("torchtune.modules.loss")


def _forward(case: LossCase) -> Tensor:
    from torchtune.modules.loss.kd_losses import ForwardKLLoss

    return ForwardKLLoss()(case.logits_BTV, case.teacher_logits_BTW, case.targets_BT)


def _reverse(case: LossCase) -> Tensor:
    from torchtune.modules.loss.kd_losses import ReverseKLLoss

    return ReverseKLLoss()(case.logits_BTV, case.teacher_logits_BTW, case.targets_BT)


def _chunked(case: LossCase) -> Tensor:
    from torchtune.modules.loss.kd_losses import ForwardKLWithChunkedOutputLoss

    loss = ForwardKLWithChunkedOutputLoss(num_output_chunks=2)
    student, teacher = (list(one.chunk(2, dim=1)) for one in (case.logits_BTV, case.teacher_logits_BTW))
    return loss(student, teacher, case.targets_BT)


forward = Adapter("torchtune ForwardKLLoss", _forward, masked=True)
reverse = Adapter("torchtune ReverseKLLoss", _reverse, ("reverse-kl",), masked=True)
chunked = Adapter("torchtune ForwardKLWithChunkedOutputLoss", _chunked, masked=True)
