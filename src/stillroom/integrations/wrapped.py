"""The loss of a model that a trainer has wrapped: run through its wrapper, logits never whole.

A wrapper (DDP, FSDP) prepares the exchange of gradients when *its* forward pass is called, so a loss that went around
it would leave each rank with gradients of its own. Letters: B sequences, T positions, N = B·T, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from stillroom.models import hidden_states, readout
from stillroom.models.output_layer import forward_is, output_layer_gives
from stillroom.models.own_loops import kept_apart, unwrapped
from stillroom.objectives import TeacherLogits, TokenLosses
from stillroom.training.step import head_losses
from stillroom.types import Batch, SoftLabels

if TYPE_CHECKING:
    from stillroom.objectives.objective import AnyObjective


def student_losses(
    model: nn.Module,
    batch: Batch,
    objective: AnyObjective,
    labels: SoftLabels | TeacherLogits | None = None,
    *,
    isolate: bool = True,
    label_temperature: float = 1.0,
    seed: int = 0,
) -> TokenLosses:
    """Nats per position (N,) of a causal model of transformers, wrapped (DDP, FSDP, PEFT) or not, by the fused head.

    N is the number of positions, B·T. Who reduces divides the sum by the number of targets of the whole global step.
    Arguments: ``labels`` the teacher's, where the objective's alpha is above 0; ``isolate`` keeps packed documents
    apart; ``seed`` changes with the step. Raises ``UserError`` where documents cannot be kept apart, or the labels
    cannot serve the objective.
    """
    plain = kept_apart(model) if isolate else unwrapped(model)
    readout(plain)  # measured outside of the wrapper's forward pass
    own = plain.forward

    def forward(*_: Any, **__: Any) -> dict[str, object]:
        with forward_is(plain, own):
            hidden_ND = hidden_states(plain, batch, isolate).flatten(0, 1)
        losses = head_losses(plain, hidden_ND, batch, objective, labels, seed=seed, label_temperature=label_temperature)
        return dict(vars(losses))  # a dictionary, in which wrappers find the tensors

    with forward_is(plain, forward):
        return TokenLosses(**model(input_ids=batch.tokens_BT))


@contextlib.contextmanager
def hidden_before(head: nn.Module) -> Iterator[list[Tensor]]:
    """What a model of any kind gives its unembedding ``head`` inside the block, (B, T, D) for each forward pass.

    The head itself answers with a single logit, so that none are formed: ``token_losses`` takes its weight instead.
    """
    seen: list[Tensor] = []
    with output_layer_gives(head, None, seen):
        yield seen
