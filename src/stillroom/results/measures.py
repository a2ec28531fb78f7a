"""The registry of measures: each with its title, unit, direction and place in ``evaluation.json``, declared once.

The terminal's table, comparisons, worth and pages show what is registered here. **To add a measure, add one line to
``MEASURES``**; a package of someone else's names its own under the entry point ``stillroom.measures`` (a ``Measure``
or a tuple of them). Imports no torch and no numpy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stillroom.registry import entries_of, load_entry
from stillroom.results.schema import Evaluation
from stillroom.types import Estimate, UserError

Role = Literal["table", "figures", "verdict", "worth"]
"""Where a measure is shown: a column of the summary and a sentence; differences over items and seeds; the words that
call a student better or worse; what a soft label was worth on it."""
HEADLINE: tuple[Role, ...] = ("table", "figures", "verdict", "worth")


@dataclass(frozen=True)
class Measure:
    """One number of a model: what it is called, its unit, which direction is better, and where it stands."""

    title: str
    unit: str
    better: Literal["lower", "higher"] | None
    place: tuple[str | int | float, ...] = ()
    """Names and keys from ``evaluation.json`` down to its estimate; empty where it is no number of one model."""
    decimals: int = 3
    per_item: bool = False
    """Whether the evaluation keeps a number for every item, so that models are compared item by item."""
    roles: tuple[Role, ...] = ()
    sentence: str = ""
    """How it is said of one model, with ``{model}`` and ``{value}``; empty for plain words."""
    ability: str = ""
    """What the ability is called whose worth it measures, where that is not its title."""
    of_tokens: bool = False
    """Whether it counts a tokenizer's tokens, so that it says nothing beside a model of another one."""
    before: tuple[str, ...] = ()
    """Where it stands in evaluations of older versions, which lack ``place``."""

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.better == "higher" else -1

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.unit.startswith("share ")

    @property
    def part(self) -> str:
        """The part of the evaluation that it is of, such as ``lm``."""
        return str(self.place[0])

    @property
    def name(self) -> str:
        """What it is called in that part, such as ``bits_per_byte``."""
        return str(self.place[-1])

    def said(self) -> str:
        """``sentence``, or plain words with the title and the unit."""
        return self.sentence or f"In {self.title}, {{model}} has {{value}} ({self.unit})"

    def read(self, evaluation: Evaluation) -> Estimate | None:
        """The number with its 95 % interval; None where it was not measured."""
        found = as_estimate(_at(evaluation, self.place))
        return as_estimate(_at(evaluation, self.before)) if found is None and self.before else found

    def items(self, evaluation: Evaluation) -> Items | None:
        """The number of every item and what each weighs; None where the evaluation lacks that of some item."""
        part = _inside(evaluation, self.part)
        is_older = self.before and as_estimate(_at(evaluation, self.place)) is None
        name = self.before[-1] if is_older else self.name
        values, weights = (_inside(_inside(part, kept), name) for kept in ("per_item", "per_item_weights"))
        if not values or None in values:  # type: ignore[operator]
            return None
        return Items(tuple(values), tuple(weights) if weights else None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Items:
    """A measure item by item: the value and the weight of each; None weighs all alike."""

    values: Sequence[float]
    weights: Sequence[float] | None = None


def _at(evaluation: Evaluation, place: Sequence[str | int | float]) -> object:
    value: object = evaluation if place else None
    for name in place:
        value = _inside(value, name)
    return value


def _inside(value: object, name: str | int | float) -> object:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return value.get(name, value.get(f"{name:g}" if isinstance(name, float) else str(name)))
    if (found := getattr(value, str(name), None)) is not None:
        return found
    return getattr(value, "others", {}).get(name)


def as_estimate(value: object) -> Estimate | None:
    """An estimate as it is, or from the object that stands for it in a file; None where it is neither."""
    if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
        num = int(value.get("num") or 0)
        value, low, high = (math.nan if value[end] is None else float(value[end]) for end in ("value", "low", "high"))
        return Estimate(value, low, high, num)
    return value if isinstance(value, Estimate) else None


BITS_PER_BYTE = Measure(
    "bits per byte", "bits", "lower", ("lm", "text_bits_per_byte"), per_item=True,
    roles=("table", "figures", "verdict"), before=("lm", "bits_per_byte"),
    sentence="On held-out text, {model} needs {value} bits per byte",
)  # fmt: skip
"""Of text by people where the held-out part has any: in a mixture one world's jump hides what happens to text."""
ICL_SCORE = Measure(
    "ICL score", "nats", "lower", ("copying", "icl_score"), 2, per_item=True, roles=("table", "figures", "verdict"),
    of_tokens=True,
    sentence="On repeated random tokens, {model} has an ICL score of {value} nats, where lower is better",
)  # fmt: skip
COPY_ORDER = Measure(
    "copying in order", "share of others outranked", "higher", ("copying", "order_repeat"), per_item=True,
    roles=("figures",), of_tokens=True,
)  # fmt: skip
FOLLOWS_CONTEXT = Measure(
    "follows context", "share of items", "higher", ("counterfactual", "follows_context"), per_item=True, roles=HEADLINE,
    sentence="Where the context contradicts a learnt fact, {model} follows the context in {value} of the items",
    ability="following the context",
)  # fmt: skip
LOG_ODDS = Measure(
    "log-odds of context over memory", "nats", "higher", ("counterfactual", "log_odds"), 2, per_item=True,
    roles=("figures",),
)  # fmt: skip
_TOLD = ("figures", "verdict", "worth")

MEASURES: tuple[Measure, ...] = (
    BITS_PER_BYTE,
    Measure("bits per byte, all sources", "bits", "lower", ("lm", "bits_per_byte"), per_item=True),
    Measure("loss", "nats per token", "lower", ("lm", "nats_per_token"), per_item=True, of_tokens=True),
    ICL_SCORE,
    Measure("loss, first pass", "nats per token", "lower", ("copying", "loss_first"), of_tokens=True),
    Measure("loss, repeats", "nats per token", "lower", ("copying", "loss_repeat"), per_item=True, of_tokens=True),
    Measure("copying of random tokens", "share of tokens", "higher", ("copying", "accuracy_repeat"), of_tokens=True),
    COPY_ORDER,
    FOLLOWS_CONTEXT,
    Measure("follows memory", "share of items", None, ("counterfactual", "follows_memory")),
    LOG_ODDS,
    Measure("facts known", "share of items", "higher", ("counterfactual", "memory_accuracy")),
    Measure("recall", "share of outputs", "higher", ("recall", "accuracy"), per_item=True, roles=_TOLD, of_tokens=True),
    Measure("loss of recall", "nats per output", "lower", ("recall", "loss_repeat"), per_item=True, of_tokens=True),
    Measure("induction of rules", "share of items", "higher", ("induction", "accuracy"), per_item=True),
    Measure("needle in a haystack", "share of items", "higher", ("needle", "accuracy"), per_item=True, roles=_TOLD,
            of_tokens=True),
    Measure("margin of the needle", "nats", "higher", ("needle", "margin_nats"), per_item=True, of_tokens=True),
    Measure("context questions", "share of items", "higher", ("context", "accuracy"), per_item=True,
            roles=("figures",)),
    Measure("margin of context questions", "nats", "higher", ("context", "margin_nats"), per_item=True),
)  # fmt: skip
"""Every measure, in the order in which figures show them."""


@functools.cache
def _of_other_packages() -> tuple[Measure, ...]:
    measures: list[Measure] = []
    for entry in entries_of("stillroom.measures").values():
        found = load_entry(entry)
        given = found if isinstance(found, tuple) else (found,)
        if not all(isinstance(one, Measure) for one in given):
            raise UserError(
                f"stillroom.measures: {entry.name!r} ({entry.value}) is {type(found).__name__}, expected a Measure or "
                "a tuple of them; mend or remove the package that names it."
            )
        measures += given
    return tuple(measures)


def registered_measures(role: Role | None = None) -> tuple[Measure, ...]:
    """The registered measures, or those that are shown in one place; ``UserError`` where a package's is none."""
    return tuple(one for one in (*MEASURES, *_of_other_packages()) if role is None or role in one.roles)


def pass_at(k: int, temperature: float | None) -> Measure:
    """pass@k at a temperature: share of problems with at least one right answer among k draws."""
    place = () if temperature is None else ("tts", "temperatures", temperature, "pass_at", k)
    heat = "" if temperature is None else f"Sampled at temperature {temperature:g}, "
    sentence = f"{heat}{{model}} reaches pass@{k} {{value}}"
    return Measure(f"pass@{k}", "share of problems", "higher", place, sentence=sentence)


def unique_answers(temperature: float | None) -> Measure:
    """Different right answers per problem at a temperature."""
    place = () if temperature is None else ("tts", "temperatures", temperature, "unique_correct")
    sentence = "{model} finds {value} different right answers per problem"
    return Measure("unique answers", "per problem", "higher", place, 2, sentence=sentence)
