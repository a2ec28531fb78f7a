"""Every property by its name, and what an adapter's code is found to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from stillroom.conformance import loss_properties as of_loss
from stillroom.conformance import trainer_properties as of_trainer
from stillroom.conformance.adapter import Adapter, load_adapter
from stillroom.conformance.told import Broken, NotDeclared
from stillroom.types import UserError

_LOSS = (
    of_loss.identity, of_loss.gradient, of_loss.temperature, of_loss.ignore_index, of_loss.shift, of_loss.terms,
    of_loss.padded_vocabulary, of_loss.soft_cap, of_loss.top_k, of_loss.sampling, of_loss.micro_batches, of_loss.memory,
)  # fmt: skip
_TRAINER = (
    of_trainer.step, of_trainer.accumulation, of_trainer.ranks, of_trainer.packing, of_trainer.teacher_packing,
    of_trainer.teacher_loaded, of_trainer.teacher_eval, of_trainer.teacher_gradient, of_trainer.teacher_optimizer,
    of_trainer.resume,
)  # fmt: skip
PROPERTIES: dict[str, Callable[[Adapter], None]] = {one.__name__.replace("_", "-"): one for one in _LOSS + _TRAINER}
"""Name → what raises ``Broken`` or ``NotDeclared``; its docstring says why it must hold."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one property."""

    name: str
    outcome: Literal["holds", "broken", "not declared"]
    sentence: str = ""
    """What is broken, or what is not declared."""


def why(name: str) -> str:
    """Why a property must hold, as one line."""
    return re.sub(r"\s+", " ", PROPERTIES[name].__doc__ or "").strip()


def prove(adapter: Adapter | str, name: str) -> None:
    """Raises ``Broken`` where a property does not hold, ``NotDeclared`` where the adapter does not declare it.

    Arguments:
        adapter: an adapter, or where it is: ``module:name``.
        name: a key of ``PROPERTIES``.

    Raises:
        UserError: There is no such property, or no adapter at that place.
    """
    if name not in PROPERTIES:
        raise UserError(f"property {name!r}: is not one; expected one of {', '.join(PROPERTIES)}.")
    one = load_adapter(adapter) if isinstance(adapter, str) else adapter
    try:
        PROPERTIES[name](one)
    except NotDeclared:
        raise
    except Exception as error:
        found = error if isinstance(error, Broken) else f"expected an answer, found {type(error).__name__}: {error}"
        again = f"from stillroom.conformance import prove; prove({one.place or one.name!r}, {name!r})"
        raise Broken(f"{one.name}, {name}: {found}; to see it again: {again}") from error


def verdict(adapter: Adapter, name: str) -> Verdict:
    """What is found of one property."""
    try:
        prove(adapter, name)
    except Broken as broken:
        return Verdict(name, "broken", str(broken))
    except NotDeclared as missing:
        return Verdict(name, "not declared", str(missing))
    return Verdict(name, "holds")


def all_verdicts(adapter: Adapter, names: Iterable[str] = tuple(PROPERTIES)) -> list[Verdict]:
    """What is found of each property."""
    return [verdict(adapter, name) for name in names]
