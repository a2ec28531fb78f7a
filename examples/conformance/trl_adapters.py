"""TRL's loss ``gkd`` (``GKDTrainer.generalized_jsd_loss``) and its kernel ``chunked`` (``chunked_divergence``).

cd examples/conformance && pytest --distillation-adapter trl_adapters:gkd
"""

from __future__ import annotations

from torch import Tensor

from stillroom.conformance import Adapter, LossCase

WHOLE = ("forward-kl", "reverse-kl", "jensen-shannon")


def _beta(case: LossCase) -> float:
    return {"forward-kl": 0.0, "reverse-kl": 1.0}.get(case.divergence, case.beta)


def _gkd(case: LossCase) -> Tensor:
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    both = case.logits_BTV, case.teacher_logits_BTW
    options = {"beta": _beta(case), "temperature": case.temperature, "num_items_in_batch": case.counted}
    return GKDTrainer.generalized_jsd_loss(*both, case.targets_BT, **options)


def _chunked(case: LossCase) -> Tensor:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    student = case.hidden_BTD.flatten(0, 1), case.weight_VD, None
    teacher = case.teacher_hidden_BTE.flatten(0, 1), case.teacher_weight_WE, None
    loss_N, _ = ChunkedDivergenceFunction.apply(*student, *teacher, _beta(case), case.temperature)
    return loss_N.sum()


gkd = Adapter("TRL generalized_jsd_loss", _gkd, WHOLE, reduction="step", masked=True, temperature="plain")
chunked = Adapter("TRL chunked_divergence", _chunked, WHOLE, reduction="sum", temperature="plain", fused=True)
