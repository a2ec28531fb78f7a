"""Routing rules by name: each is a file ``NAME_rule.py``, or another package's.

Imports no torch, so that names are checked without it. Letters: B sequences, T positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stillroom.registry import Registry
from stillroom.types import IGNORE_INDEX, Batch, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from stillroom.objectives.objective import AnyRouting


@dataclass(frozen=True)
class RoutingInput:
    """What a rule may look at. A number that was not given is refused when a rule asks for it."""

    routing: AnyRouting
    batch: Batch
    given: dict[str, Tensor | None]
    """Numbers (B, T) by name, as sentences name them."""
    seed: int
    """Changes with the step; the same for all ranks and micro-batches."""

    @property
    def counted_BT(self) -> Tensor:
        """Positions with a target (bool)."""
        return self.batch.targets_BT != IGNORE_INDEX

    @property
    def entropy_BT(self) -> Tensor:
        """The teacher's entropy, nats."""
        return self._needed("entropy")

    @property
    def gold_logprob_BT(self) -> Tensor:
        """The teacher's log-probability of the target, nats."""
        return self._needed("gold log-probability")

    @property
    def student_entropy_BT(self) -> Tensor:
        """The student's entropy, nats; only where the rule is ``of_student``."""
        return self._needed("student entropy")

    def lowest(self, score_BT: Tensor, eligible_BT: Tensor | None = None) -> Tensor:
        """The routed share (bool, B × T) of each sequence's counted positions: the lowest of ``eligible`` ones."""
        counted_BT = self.counted_BT
        count_B = (counted_BT.sum(1) * self.routing.share).round().long()
        return lowest_share(score_BT, counted_BT if eligible_BT is None else eligible_BT, count_B)

    def _needed(self, what: str) -> Tensor:
        value = self.given.get(what)
        if value is None:
            raise UserError(
                f"routing.rule: {self.routing.rule} needs the {what} of every position, found none; give labels that "
                "hold it."
            )
        return value


def lowest_share(score_BT: Tensor, eligible_BT: Tensor, count_B: Tensor) -> Tensor:
    """The ``count`` eligible positions of each sequence with the lowest score (bool, B × T); fewer where fewer are.

    Ties go to the earlier position, so the result does not depend on device or chunking.
    """
    score_BT = score_BT.float().masked_fill(~eligible_BT, float("inf"))
    order_BT = score_BT.argsort(dim=1, stable=True)
    place_BT = order_BT.new_ones(order_BT.shape).cumsum(1) - 1
    rank_BT = place_BT.scatter(1, order_BT, place_BT)
    return (rank_BT < count_B[:, None]) & eligible_BT


@dataclass(frozen=True)
class RoutingRule:
    """Which positions lose their distillation term."""

    choose: Callable[[RoutingInput], Tensor]
    """Positions (bool, B x T) to route; those without a target are left out by the caller."""
    of_student: bool = False
    """Whether it looks at the student's entropy, which costs a second pass over the logits."""


RULES: Registry[RoutingRule] = Registry("stillroom.objectives", Path(__file__).parent, "rule", "stillroom.routing")
"""Every rule by name; a package of someone else's adds one by the entry point ``stillroom.routing``."""
