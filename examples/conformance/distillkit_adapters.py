"""DistillKit's ``KLDLoss`` on a teacher's logits and on truncated labels, with and without its uniform tail.

It is not on PyPI: this needs its repository on the path.

    cd examples/conformance && pytest --distillation-adapter distillkit_adapters:uniform
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from stillroom.conformance import Adapter, LossCase
from stillroom.types import IGNORE_INDEX


def _loss(case: LossCase, missing: str) -> Tensor:
    from distillkit.lossfuncs.kl import KLDLoss
    from distillkit.missing_probability import MissingProbabilityHandling
    from distillkit.signals import DenseSignal, SparseSignal
    from transformers.modeling_outputs import CausalLMOutput

    vocab = len(case.teacher_weight_WE)
    if case.labels is None:
        signal = DenseSignal(1.0, None, vocab, case.teacher_logits_BTW)
    else:
        signal = SparseSignal(1.0, None, vocab, case.labels.ids, case.labels.weights.log(), log_values=True)
    loss = KLDLoss(case.temperature, MissingProbabilityHandling(missing))
    mask = case.targets_BT != IGNORE_INDEX
    return loss(CausalLMOutput(logits=case.logits_BTV), signal, mask, num_items_in_batch=case.counted)


uniform = Adapter(
    "DistillKit KLDLoss, symmetric_uniform",
    lambda case: _loss(case, "symmetric_uniform"),
    reduction="step",
    masked=True,
    temperature="squared",
    tail="bucket",
)
zero = replace(uniform, name="DistillKit KLDLoss, zero", loss=lambda case: _loss(case, "zero"), tail="renormalise")
