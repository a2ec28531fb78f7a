"""Knobs of a world: plain values by name become a checked dataclass; and which split an item belongs to.

Imports config (for the hint) and types only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from stillroom.strict import nearest, short
from stillroom.types import UserError
from stillroom.worlds.base import Split

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Options = TypeVar("Options", bound=DataclassInstance)
else:
    Options = TypeVar("Options")

_MOST = 1_000_000_000
HELDOUT_ONE_IN = 8
"""One item in this many is held out, chosen by a hash of the item itself."""


def read_options(kind: type[Options], world: str, values: Mapping[str, Any] | None) -> Options:
    """The world's options from plain values; a ``UserError`` names a knob that is unknown or of the wrong type.

    Every field of ``kind`` has a default, and the type of that default is the type expected: a whole number is taken
    for a fraction, and nothing else is converted. Ranges are checked by ``kind`` itself, which raises ``ValueError``.
    """
    known = {field.name: type(field.default) for field in fields(kind)}
    read: dict[str, Any] = {}
    for name, value in (values or {}).items():
        if name not in known:
            raise UserError(f"options of the {world} world: {name} is not a knob{nearest(name, list(known))}.")
        expected = known[name]
        _check_range(world, name, value)
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise UserError(
                f"options of the {world} world: {name} is {short(value)}, expected a value of type {expected.__name__}."
            )
        read[name] = value
    try:
        return kind(**read)
    except ValueError as error:
        raise UserError(f"options of the {world} world: {error}.") from None


def _check_range(world: str, name: str, value: Any) -> None:
    """Refuses a number that is not finite or that nothing here could be as many as; seeds are as everywhere."""
    low, high = (0, 2**63 - 1) if name == "seed" else (-_MOST, _MOST)
    if isinstance(value, int | float) and not low <= value <= high:
        raise UserError(
            f"options of the {world} world: {name} is {short(value)}, expected a number from {low} to {high}."
        )


def split_of(item: str) -> Split:
    """The split that an item belongs to, whatever the seed: one in ``HELDOUT_ONE_IN`` is held out."""
    digest = hashlib.blake2b(item.encode(), digest_size=8).digest()
    return "heldout" if int.from_bytes(digest, "big") % HELDOUT_ONE_IN == 0 else "train"
