"""How labels are made, as a plan says it: a codec with its options, a temperature, shards and a seed.

A recipe says the same by ``LabelsConfig``; here it is read without any of the machinery of configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self

from stillroom.labels.codecs.codec import Codec, find_codec
from stillroom.labels.codecs.sampled import Sampled
from stillroom.types import UserError

_EVERY_PLAN = {"codec": "sampled", "num_samples": 50, "k": 50, "p": 0.95, "value_steps": 199}
"""Options that a plan holds whatever its codec, with the values of those that its codec does not have."""


class SaysSettings(Protocol):
    """Whatever says how labels are made: ``LabelSettings``, or the ``LabelsConfig`` of a recipe."""

    def canonical(self) -> Mapping[str, object]:
        """The fields of ``labels`` in a plan."""
        ...


class Options:
    """The fields of ``labels`` in a plan, each asked for once by name; a ``UserError`` names one that is wrong."""

    def __init__(self, values: Mapping[str, Any], where: str):
        self._values, self._where = values, where
        self.asked: set[str] = set()

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._refused(name, value, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A finite number from ``low`` to ``high``."""
        value = self._value(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise self._refused(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def _value(self, name: str, default: float) -> Any:
        self.asked.add(name)
        return self._values.get(name, default)

    def _refused(self, name: str, value: object, wanted: str) -> UserError:
        return UserError(f"{self._where}: {name} is {value!r}, expected {wanted}.")


@dataclass(frozen=True)
class LabelSettings:
    """How a teacher's distribution is read and kept; see ``LabelsConfig`` for the fields."""

    codec: Codec = field(default_factory=Sampled)
    temperature: float = 1.0
    shard_sequences: int = 512
    seed: int = 0

    @classmethod
    def of(cls, labels: Mapping[str, Any], where: str = "labels") -> Self:
        """From the fields of ``labels`` in a plan; a ``UserError`` that begins with ``where`` names a wrong one."""
        labels = {**labels, **labels.get("options", {})}  # those of another package's codec, as a recipe has them
        labels.pop("options", None)
        options = Options(labels, where)
        settings = cls(
            find_codec(labels.get("codec", "sampled"), where).of(options),
            options.number("temperature", 1.0, 1e-6, 1e6),
            options.whole("shard_sequences", 512, 1, 2**63 - 1),
            options.whole("seed", 0, 0, 2**63 - 1),
        )
        unknown = set(labels) - set(_EVERY_PLAN) - options.asked
        if unknown:
            raise UserError(f"{where}: has {min(unknown)!r}, which codec {settings.codec.name} does not know.")
        return settings

    def canonical(self) -> dict[str, str | int | float]:
        """The fields of ``labels`` in a plan."""
        own = asdict(self)
        codec = own.pop("codec")
        return {**_EVERY_PLAN, "codec": self.codec.name, **codec, **own}


def settings_of(config: SaysSettings) -> LabelSettings:
    """How labels are made, from whatever says it."""
    return config if isinstance(config, LabelSettings) else LabelSettings.of(config.canonical())
