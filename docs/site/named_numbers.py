"""Numbers by name: prose writes ``{{030.gain_half.text.nats}}``, and the frozen number with its interval is put there.

A name begins with a study's three digits, or with ``benchmarks.FILE``, and goes on with the keys of its frozen JSON
files down to a number or an estimate. ``results`` and the keys in ``UNSAID`` may be left out, and ``SPOKEN`` gives
measures their short names. Behind the name, after a space, may stand how it is shown:

- ``2``: so many decimals (3 for differences); ``%``: in per cent; ``+`` with its sign; ``abs`` without;
- ``ci``: with the interval behind it. A difference that is alone in parentheses and not a clear one has it anyway.

A worth outside its ladder, or an end of its interval, is "over" or "under" the ladder's end.

A name that is not frozen, or that could mean two numbers, is refused. Imports the standard library alone.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
UNSAID = ("contrasts", "abilities")
SPOKEN = (
    (r"lm:nats_per_token", "text.nats", "held-out nats per token"),
    (r"lm:bits_per_byte", "text.bits", "held-out bits per byte"),
    (r"lm:by_source:(\w+):nats_per_token", r"\1.nats", r"nats per token on \1"),
    (r"lm:by_source:(\w+):bits_per_byte", r"\1.bits", r"bits per byte on \1"),
    (r"tts:1:pass_at:(\d+)", r"pass@\1", r"pass@\1"),
    (r"tts:([\d.]+):pass_at:(\d+)", r"pass@\2.at_\1", r"pass@\2 at temperature \1"),
    (r"tts:1:(\w+)", r"\1", r"\1"),
    (r"tts:([\d.]+):(\w+)", r"\2.at_\1", r"\2 at temperature \1"),
    (r"tts:frontier:pass_at_16", "frontier", "pass@16 at equal pass@1"),
    (r"copying:accuracy_repeat", "copying", "share of repeated tokens copied"),
    (r"counterfactual:follows_context", "follows_context", "share of items where the context is followed"),
    (r"(\w+):accuracy", r"\1", r"accuracy in \1"),
    (r"copy_accuracy", "copy_accuracy", "copy accuracy"),
    (r"tv_high", "tv_high", "total variation from the truth on uncertain rows"),
    (r"tv_low", "tv_low", "total variation from the truth on certain rows"),
    (r"log2_tokens_80", "log2_tokens_80", "doublings of tokens until four copies in five are right"),
)
"""Key of a measure, how a name says it, and its words."""
NAME = re.compile(r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)|`[^`\n]+`)|\{\{(?P<name>[^{}]+)\}\}", re.M | re.S)


_BEYOND = {"": "", "above": "over ", "below": "under "}


class UnknownName(ValueError):
    """A name that no frozen number has."""


@dataclass(frozen=True)
class Number:
    """A frozen number: where it stands, and its 95 % interval where it has one."""

    name: str
    value: float
    low: float | None
    high: float | None
    file: Path
    place: tuple[str, ...]
    reach: tuple[float, float] | None = None
    """Ends of the ladder that a worth is read off; its interval may be open at either."""
    beyond: str = ""
    """``above`` or ``below`` where the value lies outside the ladder, and is its end."""

    @property
    def is_difference(self) -> bool:
        return "contrasts" in self.place or self.file.name == "paired.json"

    @property
    def level(self) -> float:
        """What it is where there is no effect: 1 for a worth, 0 for a difference."""
        return 0.0 if self.reach is None else 1.0

    @property
    def holds_zero(self) -> bool:
        """Whether it is a difference that is not a clear one."""
        known = self.low is not None and self.high is not None
        return self.is_difference and known and self.low <= 0 <= self.high

    @property
    def words(self) -> str:
        """Which comparison and measure it is, for the small print."""
        said = [measure_words(key) for key in self.place if key not in UNSAID]
        return ", ".join([self.file.parent.name, *(word.replace("_", " ") for word in said)])

    def written(self, how: Shown, value: float) -> str:
        """A value of this number as text, with a true minus sign."""
        value = abs(value) if how.unsigned else value
        decimals = self.decimals if how.decimals is None else how.decimals
        signed = (self.is_difference or how.signed) and not how.unsigned
        text = f"{value * (100 if how.per_cent else 1):{'+' if signed else ''},.{decimals}f}"
        return text.replace("-", "−") + (" %" if how.per_cent else "")

    @property
    def decimals(self) -> int:
        """As many as the interval needs, so that an end that is not 0 does not read as 0."""
        if not self.is_difference:
            return 0 if isinstance(self.value, int) else 2
        return 4 if any(end and round(end, 3) == 0 for end in (self.low, self.high)) else 3

    def interval(self, how: Shown) -> str:
        """``−0.110 to −0.085``; empty where there is none, or where it is a point."""
        if self.reach is not None:
            low, high = (
                self.written(how, end) if end is not None else f"{word} {self.written(how, limit)}"
                for end, word, limit in zip((self.low, self.high), ("under", "over"), self.reach, strict=True)
            )
            return f"{low} to {high}"
        if self.low is None or self.high is None:
            return ""
        ends = sorted([self.low, self.high], key=abs) if how.unsigned and self.low * self.high > 0 else None
        low, high = (self.written(how if ends else how.with_sign, end) for end in ends or (self.low, self.high))
        return f"{low} to {high}" if low != high else ""

    def plain(self, how: Shown) -> str:
        """The value, and behind it the interval where that is asked for."""
        value, interval = _BEYOND[self.beyond] + self.written(how, self.value), self.interval(how)
        if not (how.with_interval and interval):
            return value
        return f"{value}, {interval}" if how.in_parentheses else f"{value} ({interval})"


@dataclass(frozen=True)
class Shown:
    """How a number is written."""

    decimals: int | None = None
    per_cent: bool = False
    signed: bool = False
    unsigned: bool = False
    with_interval: bool = False
    in_parentheses: bool = False
    """So that the interval gets none of its own."""

    @property
    def with_sign(self) -> Shown:
        return replace(self, unsigned=False)


def how_shown(words: list[str]) -> Shown:
    """Reads what stands behind a name."""
    digits = [word for word in words if word.isdigit()]
    if unknown := [word for word in words if word not in ("%", "+", "abs", "ci", *digits)]:
        raise UnknownName(f"{unknown[0]!r}: expected a number of decimals, %, +, abs or ci behind a name")
    return Shown(int(digits[0]) if digits else None, "%" in words, "+" in words, "abs" in words, "ci" in words)


@functools.cache
def spoken(key: str) -> str:
    """How a name says a key."""
    return next((m.expand(said) for at, said, _ in SPOKEN if (m := re.fullmatch(at, key))), key.replace(":", "."))


def measure_words(key: str) -> str:
    """What a key is in words."""
    return next((m.expand(words) for at, _, words in SPOKEN if (m := re.fullmatch(at, key))), key.replace(":", ", "))


@functools.cache
def frozen(name: str) -> Number:
    """The number of a name; ``UnknownName`` where none or several have it."""
    study, _, rest = name.partition(".")
    folders = [ROOT / "benchmarks" / "results"] if study == "benchmarks" else sorted(_folders(study))
    found = [number for folder in folders for file in _files(folder) for number in _of_file(name, rest, file)]
    if len(found) != 1:
        several = f"names several numbers: {', '.join('/'.join(one.place) for one in found)}"
        raise UnknownName(f"{{{{{name}}}}} {several if found else 'is no frozen number'}")
    return found[0]


def _folders(study: str) -> Iterator[Path]:
    return (ROOT / "experiments").glob(f"{study}_*") if re.fullmatch(r"\d{3}", study) else iter(())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


@functools.cache
def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _of_file(name: str, rest: str, file: Path) -> Iterator[Number]:
    if file.stem == "results":
        starts = [rest]
    elif rest == file.stem or rest.startswith(f"{file.stem}."):
        starts = [rest[len(file.stem) + 1 :]]
    else:
        return
    for start in starts:
        for place, found in _below(_read(file), start):
            if (number := _number(name, found, file, place)) is not None:
                yield number


def _below(values: Any, rest: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every place that the rest of a name may mean, and what stands there."""
    if not rest:
        yield (), values
        return
    for key, names, inner in _members(values):
        for said in names:
            if rest == said or rest.startswith(f"{said}."):
                yield from (((key, *place), found) for place, found in _below(inner, rest[len(said) + 1 :]))
        if key in UNSAID:
            yield from (((key, *place), found) for place, found in _below(inner, rest))


def _members(values: Any) -> Iterator[tuple[str, set[str], Any]]:
    if isinstance(values, dict):
        yield from ((key, {key, spoken(key)}, inner) for key, inner in values.items())
    elif isinstance(values, list):
        for place, inner in enumerate(values):
            own = [str(inner[word]) for word in ("name", "key") if word in inner] if isinstance(inner, dict) else []
            yield (own or [str(place)])[0], {str(place), *map(spoken, own)}, inner


def _number(name: str, found: Any, file: Path, place: tuple[str, ...]) -> Number | None:
    low, high, reach, beyond = None, None, None, ""
    if isinstance(found, dict) and {"least", "most", "why"} <= found.keys():
        reach, beyond = (found["least"], found["most"]), found["why"] if found["value"] is None else ""
        found = found | {"value": {"above": found["most"], "below": found["least"]}.get(beyond, found["value"])}
    if isinstance(found, dict) and {"low", "high"} <= found.keys():
        low, high, found = found["low"], found["high"], found.get("value", found.get("mean"))
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return Number(name, found, low, high, file, place, reach, beyond)


def replaced(text: str, show: Callable[[Number, Shown], str]) -> str:
    """A text with every name in it, outside code, shown; ``UnknownName`` says which is not frozen."""

    def one(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match[0]
        name, *words = match["name"].split()
        number, how = frozen(name), how_shown(words)
        opened = text.startswith("(", match.start() - 1)
        is_alone = opened and text.startswith(")", match.end())
        shows = how.with_interval or (is_alone and number.holds_zero)
        return show(number, replace(how, in_parentheses=opened, with_interval=shows))

    return NAME.sub(one, text)


def names_in(text: str) -> list[str]:
    """The names that a text uses."""
    return [match["name"].split()[0] for match in NAME.finditer(text) if match["name"]]
