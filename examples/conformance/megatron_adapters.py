"""Megatron-LM's ``topk_kl_div`` with its ghost token, on one rank.

    cd examples/conformance && pytest --distillation-adapter megatron_adapters:adapter

It is no part of megatron-core on PyPI: this needs its repository on the path. The rest of Megatron wants a GPU, so what
the file imports beside torch is replaced by stand-ins, but for its own constants.
"""

from __future__ import annotations

import sys
from unittest.mock import MagicMock

import torch
from peer_files import bare
from torch import Tensor

from stillroom.conformance import Adapter, LossCase
from stillroom.types import IGNORE_INDEX

bare("megatron.training.distillation")
for name in ("core", "core.msc_utils", "core.models.common.language_module.language_module", "training.utils"):
    sys.modules.setdefault(f"megatron.{name}", MagicMock())
sys.modules["megatron.training"].get_args = MagicMock()  # type: ignore[attr-defined]


def _loss(case: LossCase) -> Tensor:
    from megatron.training.distillation.cached_logits_loss import topk_kl_div

    if case.labels is None:
        logprobs = case.teacher_logits_BTW.log_softmax(-1)
        ids = torch.arange(logprobs.shape[-1]).expand(logprobs.shape)
    else:
        logprobs, ids = case.labels.weights.log(), case.labels.ids
    rows = (part.transpose(0, 1) for part in (case.logits_BTV, logprobs, ids))  # its tensors are (T, B, ...)
    kl_BT = topk_kl_div(*rows, 1, 0, None, add_ghost_token=case.labels is not None)
    return (kl_BT * (case.targets_BT != IGNORE_INDEX)).sum()


adapter = Adapter("Megatron-LM topk_kl_div", _loss, reduction="sum", masked=True, tail="bucket")
