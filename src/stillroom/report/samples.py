"""A few problems with what each model answered, right and wrong marked."""

from __future__ import annotations

from dataclasses import dataclass

from stillroom.report.view import Entry, View
from stillroom.results.schema import SampledProblem

NUM_PROBLEMS = 4
NUM_COMPLETIONS = 6
LONGEST = 90
"""Characters of a completion that are shown."""

SIGNS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}


@dataclass(frozen=True)
class ModelAnswers:
    """A model's first completions of a problem, each with whether it is right."""

    label: str
    colour: str
    completions: tuple[tuple[str, bool], ...]
    num_right: int
    num_different: int
    num_samples: int


@dataclass(frozen=True)
class ShownProblem:
    """A problem and the models' answers to it."""

    family: str
    prompt: str
    temperature: float
    answered: tuple[ModelAnswers, ...]


def shown_problems(view: View) -> tuple[ShownProblem, ...]:
    """The first problem of each family, then the second of each, until there are enough: no choice by outcome."""
    order = _order(view)
    return tuple(
        ShownProblem(family, visible(prompt), heat, tuple(_answers(view, (family, prompt, heat))))
        for family, prompt, heat in order
    )


def _order(view: View) -> list[tuple[str, str, float]]:
    heats = {sample.temperature for entry in view.entries for sample in entry.model.samples}
    heat = min(heats, key=lambda value: (abs(value - 1.0), value), default=None)
    families: dict[str, list[str]] = {}
    for entry in view.entries:
        for sample in entry.model.samples:
            prompts = families.setdefault(sample.family, [])
            if sample.temperature == heat and sample.prompt not in prompts:
                prompts.append(sample.prompt)
    depth = max((len(prompts) for prompts in families.values()), default=0)
    found = [
        (family, prompts[place], heat)
        for place in range(depth)
        for family, prompts in families.items()
        if place < len(prompts) and heat is not None
    ]
    return found[:NUM_PROBLEMS]


def _answers(view: View, key: tuple[str, str, float]) -> list[ModelAnswers]:
    found = []
    for entry in view.entries:
        for sample in entry.model.samples:
            if (sample.family, sample.prompt, sample.temperature) == key:
                found.append(_answered(entry, sample))
                break
    return found


def _answered(entry: Entry, sample: SampledProblem) -> ModelAnswers:
    right = [answer for answer in sample.answers if answer is not None]
    pairs = list(zip(sample.completions, sample.answers, strict=False))[:NUM_COMPLETIONS]
    return ModelAnswers(
        entry.label,
        entry.colour,
        tuple((_short(words), answer is not None) for words, answer in pairs),
        len(right),
        len(set(right)),
        len(sample.answers),
    )


def _short(words: str) -> str:
    """One line of a completion, line ends made visible."""
    flat = visible(words.strip().replace("\n", " ⏎ ")) or "(empty)"
    return flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 1]}…"


def visible(words: str) -> str:
    """The text with signs in the place of control characters other than line ends, which a page cannot hold."""
    return words.translate(SIGNS).encode("utf-8", "replace").decode()
