"""What ``head.py`` times against each other: this head, eager PyTorch, TRL, Liger, and a training step with it.

Letters: N positions, V vocabulary, D width, K ids per label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, kl_div, linear

from stillroom.config import ObjectiveConfig
from stillroom.objectives import (
    DenseTarget,
    SparseTarget,
    TeacherLogits,
    fused_linear_cross_entropy,
    hard_target,
    mix,
    token_losses,
)
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels

Step = Callable[[], None]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Sizes:
    """What is multiplied."""

    positions: int = 4096
    vocab: int = 32_768
    width: int = 512
    ids: int = 50


@dataclass
class Inputs:
    """Tensors that every competitor gets: float32 under autocast on a CPU, as in training."""

    hidden: torch.Tensor
    weight: torch.Tensor
    gold: torch.Tensor
    labels: SparseTarget
    teacher: TeacherLogits

    def clear(self) -> None:
        """Drops the gradients, as ``zero_grad(set_to_none=True)`` does."""
        self.hidden.grad = self.weight.grad = None


def make_inputs(sizes: Sizes, device: str, dtype: torch.dtype) -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, scale: float) -> torch.Tensor:
        return (torch.randn(rows, sizes.width, generator=generator) * scale).to(device, dtype)

    scale = sizes.width**-0.5
    gold = torch.randint(0, sizes.vocab, (sizes.positions,), generator=generator).to(device)
    ids = torch.randint(0, sizes.vocab, (sizes.positions, sizes.ids), generator=generator).to(device)
    weights = torch.rand(sizes.positions, sizes.ids, generator=generator).to(device)
    return Inputs(
        normal(sizes.positions, 1.0).requires_grad_(),
        normal(sizes.vocab, 2 * scale).requires_grad_(),
        gold,
        SparseTarget(ids, weights / weights.sum(-1, keepdim=True)),
        TeacherLogits(normal(sizes.positions, 1.0), normal(sizes.vocab, 2 * scale)),
    )


def fused_hard(x: Inputs) -> Step:
    return lambda: fused_linear_cross_entropy(x.hidden, x.weight, hard_target(x.gold)).total.backward()


def fused_labels(x: Inputs) -> Step:
    def step() -> None:
        soft = x.labels.scaled(torch.full_like(x.gold, 0.9, dtype=torch.float32))
        target = mix(x.gold, torch.full_like(x.gold, 0.1, dtype=torch.float32), soft)
        fused_linear_cross_entropy(x.hidden, x.weight, target).total.backward()

    return step


def fused_dense(x: Inputs, hard: bool = True) -> Step:
    def step() -> None:
        gold = hard_target(x.gold, 0.1) if hard else None
        weight = torch.full_like(x.gold, 0.9 if hard else 1.0, dtype=torch.float32)
        target = DenseTarget(x.teacher, weight, gold, divergence="forward-kl")
        fused_linear_cross_entropy(x.hidden, x.weight, target).total.backward()

    return step


def eager_hard(x: Inputs) -> Step:
    return lambda: cross_entropy(linear(x.hidden, x.weight).float(), x.gold, reduction="sum").backward()


def eager_dense(x: Inputs) -> Step:
    def step() -> None:
        log_p = linear(x.hidden, x.weight).float().log_softmax(-1)
        with torch.no_grad():
            log_q = linear(x.teacher.hidden_NE, x.teacher.weight_VE).float().log_softmax(-1)
        soft = kl_div(log_p, log_q, log_target=True, reduction="sum")
        hard = torch.nn.functional.nll_loss(log_p, x.gold, reduction="sum")
        (0.9 * soft + 0.1 * hard).backward()

    return step


def trl_dense(x: Inputs) -> Step:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def step() -> None:
        teacher = (x.teacher.hidden_NE, x.teacher.weight_VE, None)
        ChunkedDivergenceFunction.apply(x.hidden, x.weight, None, *teacher, 0.0)[0].sum().backward()

    return step


def liger_dense(x: Inputs) -> Step:
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.1, weight_soft_loss=0.9, beta=0.0, compiled=False)
    return lambda: loss(x.hidden, x.weight, x.teacher.hidden_NE, x.teacher.weight_VE, x.gold).backward()


def cut_hard(x: Inputs) -> Step:
    from cut_cross_entropy import linear_cross_entropy  # pyright: ignore[reportMissingImports]

    if x.hidden.dtype == torch.float32:
        raise RuntimeError("its kernel takes half precision alone")
    return lambda: linear_cross_entropy(x.hidden, x.weight, x.gold, reduction="sum").backward()


def liger_hard(x: Inputs) -> Step:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return lambda: loss(x.weight, x.hidden, x.gold).backward()


COMPETITORS: dict[str, dict[str, Callable[[Inputs], Step]]] = {
    "hard": {
        "fused, hard labels": fused_hard,
        "fused, stored labels": fused_labels,
        "eager, hard labels": eager_hard,
        "liger fused_linear_cross_entropy": liger_hard,
        "cut-cross-entropy": cut_hard,
    },
    "dense": {
        "fused, live teacher": fused_dense,
        "fused, live teacher alone": lambda x: fused_dense(x, hard=False),
        "eager, live teacher": eager_dense,
        "trl chunked_divergence": trl_dense,
        "liger chunked_loss": liger_dense,
    },
}


def training_steps(precision: str, device: str, vocab: int) -> dict[str, Step]:
    """The same training step (5M parameters, AdamW) with hard labels and with N = 50 sampled labels."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(0, vocab, (16, 128), device=device)
    targets = torch.cat([tokens[:, 1:], torch.full_like(tokens[:, :1], IGNORE_INDEX)], 1)
    batch = Batch(tokens, targets, torch.zeros_like(tokens, dtype=torch.int32))
    counts = torch.multinomial(torch.arange(1, 201).float().reciprocal(), 50 * tokens.numel(), replacement=True)
    ids = counts.view(*tokens.shape, 50).to(device) * 97 % vocab  # repeats within a row add up, as counts would
    flat = torch.zeros(tokens.shape, device=device)
    labels = SoftLabels(ids, torch.full(ids.shape, 1 / 50, device=device), flat, flat, flat.int())

    def step(objective: ObjectiveConfig, soft: SoftLabels | None) -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            hidden = model.model(input_ids=tokens).last_hidden_state
            losses = token_losses(hidden.flatten(0, 1), model.lm_head.weight, batch, objective, soft)
        (losses.loss_N.sum() / losses.counted_N.sum()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {
        "step, hard labels": lambda: step(ObjectiveConfig(), None),
        "step, stored labels": lambda: step(ObjectiveConfig(alpha=0.9), labels),
    }


def matmul_step(x: Inputs, dtype: torch.dtype) -> Step:
    """The three matmuls that any head must do, with nothing else, in one piece of at most 1,024 positions."""
    hidden, weight = x.hidden.detach()[:1024].to(dtype), x.weight.detach().to(dtype)
    logits = torch.empty(len(hidden), len(weight), dtype=dtype, device=hidden.device)

    def step() -> None:
        for _ in range(max(len(x.hidden) // len(hidden), 1)):
            torch.mm(hidden, weight.t(), out=logits)
            logits @ weight
            logits.t() @ hidden

    return step
