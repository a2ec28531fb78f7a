"""Problems with what every model answered, side by side, right and wrong marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillroom.report.view import Entry, View
from stillroom.results.schema import SampledProblem

NUM_COMPLETIONS = 6
"""Different completions of a model that are shown of a problem."""
LONGEST = 90
"""Characters of a completion that are shown."""
ROOM = 100_000
"""Bytes that completions may take of a page; four problems are shown whatever they take."""
LEAST = 4
_MARKS = 100
"""Bytes about a completion, or a model's name."""

SIGNS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}


@dataclass(frozen=True)
class Completion:
    """What was written, whether it is right, and how often."""

    words: str
    is_right: bool
    times: int


@dataclass(frozen=True)
class ModelAnswers:
    """A model's first different completions of a problem."""

    label: str
    colour: str
    completions: tuple[Completion, ...]
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

    @property
    def size(self) -> int:
        """About how many bytes of a page it takes."""
        words = sum(len(one.words) + _MARKS for model in self.answered for one in model.completions)
        return len(self.prompt) + words + 2 * _MARKS * len(self.answered)


@dataclass(frozen=True)
class ShownProblems:
    """The problems that a page has room for, and a sentence that says which they are."""

    problems: tuple[ShownProblem, ...]
    chosen: str


def shown_problems(groups: Sequence[View]) -> ShownProblems:
    """The first problem of each task, then the second of each, until the room is taken: no choice by outcome."""
    found, total, temperature = [], 0, 0.0
    for view in groups:
        order, taken = _order(view), 0
        for place, (family, prompt, temperature) in enumerate(order):
            one = ShownProblem(
                family, visible(prompt), temperature, tuple(_answers(view, (family, prompt, temperature)))
            )
            taken += one.size
            if place >= LEAST and taken > ROOM / len(groups):
                break
            found.append(one)
        total += len(order)
    which = f"The first {len(found)} of {total}" if len(found) < total else f"All {total}"
    return ShownProblems(
        tuple(found),
        f"{which} problems at temperature {temperature:g}, not chosen by outcome, and the first {NUM_COMPLETIONS} "
        "different completions of each model.",
    )


def _order(view: View) -> list[tuple[str, str, float]]:
    heats = {sample.temperature for entry in view.entries for sample in entry.model.samples}
    heat = min(heats, key=lambda value: (abs(value - 1.0), value), default=None)
    families: dict[str, dict[str, None]] = {}
    for entry in view.entries:
        for sample in entry.model.samples:
            if sample.temperature == heat:
                families.setdefault(sample.family, {})[sample.prompt] = None
    prompts = {family: list(found) for family, found in families.items()}
    return [
        (family, found[place], heat)
        for place in range(max(map(len, prompts.values()), default=0))
        for family, found in prompts.items()
        if place < len(found) and heat is not None
    ]


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
    times: dict[tuple[str, bool], int] = {}
    for words, answer in zip(sample.completions, sample.answers, strict=False):
        told = (_short(words), answer is not None)
        times[told] = times.get(told, 0) + 1
    shown = [Completion(*told, count) for told, count in times.items()][:NUM_COMPLETIONS]
    return ModelAnswers(entry.label, entry.colour, tuple(shown), len(right), len(set(right)), len(sample.answers))


def _short(words: str) -> str:
    """One line of a completion, line ends made visible."""
    flat = visible(words.strip().replace("\n", " ⏎ ")) or "(empty)"
    return flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 1]}…"


def visible(words: str) -> str:
    """The text with signs in the place of control characters other than line ends, which a page cannot hold."""
    return words.translate(SIGNS).encode("utf-8", "replace").decode()
