"""What a page is about: models of one or several runs, each with its name, colour and marker for every figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stillroom.results.measures import Measure
from stillroom.results.runs import ModelRun, Run, measured_texts
from stillroom.results.schema import arm_and_seed, baseline_of
from stillroom.types import Estimate

NUM_STUDENT_COLOURS = 7
NUM_TEACHER_COLOURS = 3
MARKERS = ("circle", "square", "triangle", "diamond", "wedge", "cross", "bar")
_SEED = re.compile(r", seed \d+$")


@dataclass(frozen=True)
class Style:
    """How a thing looks in every figure of a page: ``colour`` is a CSS class."""

    name: str
    colour: str
    marker: str


def styles(names: Sequence[str], first_marker: int = 0) -> list[Style]:
    """A colour and a marker for each name."""
    return [
        Style(name, f"s{place % NUM_STUDENT_COLOURS}", MARKERS[(place + first_marker) % len(MARKERS)])
        for place, name in enumerate(names)
    ]


@dataclass(frozen=True, eq=False)
class Entry:
    """A model as figures show it: ``colour`` is a CSS class, the same in every figure. Equal only to itself.

    ``arm`` is the label without the training seed: models that differ in it alone share arm, colour and marker.
    """

    label: str
    arm: str
    colour: str
    marker: str
    dashed: bool
    model: ModelRun

    @property
    def is_teacher(self) -> bool:
        """Whether labels were made by it."""
        return self.model.record.role == "teacher"

    def read(self, measure: Measure) -> Estimate | None:
        """The model's number with its interval; None where it was not measured."""
        return measure.read(self.model.evaluation)


@dataclass(frozen=True)
class View:
    """The runs and models of one page, in the order of the runs."""

    title: str
    runs: tuple[Run, ...]
    entries: tuple[Entry, ...]

    @property
    def students(self) -> tuple[Entry, ...]:
        """The entries that are not teachers."""
        return tuple(entry for entry in self.entries if not entry.is_teacher)

    @property
    def baseline(self) -> Entry | None:
        """The student that others are compared with (``baseline_of``), if there is one."""
        by_record = {id(entry.model.record): entry for entry in self.students}
        found = baseline_of([entry.model.record for entry in self.students])
        return None if found is None else by_record[id(found)]


def make_view(runs: tuple[Run, ...]) -> View:
    """The page's models; where there are several runs, each name starts with its run's."""
    entries: list[Entry] = []
    places: dict[str, dict[tuple[str, str], int]] = {"teacher": {}, "student": {}}
    for prefix, run in zip(run_names(runs), runs, strict=True):
        for model in run.models:
            taken = places[model.record.role]
            place = taken.setdefault((prefix, arm_and_seed(model.record.name)[0]), len(taken))
            entries.append(_entry(model, f"{prefix}: " if len(runs) > 1 else "", place))
    entries = _told_apart(entries)
    title = runs[0].study.name if len(runs) == 1 else f"{len(runs)} runs compared"
    return View(title, runs, tuple(entries))


def by_text(view: View) -> tuple[View, ...]:
    """The page's runs in groups that were measured on the same text in the same tokens, with the models of each.

    One group, the page itself, where all were. No number of one group is compared with one of another.
    """
    texts = measured_texts(view.runs)
    groups = dict.fromkeys(texts)
    if len(groups) == 1:
        return (view,)
    of_entries = [text for run, text in zip(view.runs, texts, strict=True) for _ in run.models]
    names = run_names(view.runs)
    return tuple(
        View(
            ", ".join(name for name, text in zip(names, texts, strict=True) if text == group),
            tuple(run for run, text in zip(view.runs, texts, strict=True) if text == group),
            tuple(entry for entry, text in zip(view.entries, of_entries, strict=True) if text == group),
        )
        for group in groups
    )


def _told_apart(entries: list[Entry]) -> list[Entry]:
    """Labels say weight, text and routing of an arm; where those of two are alike, the arms' own names are added."""
    names = [arm_and_seed(entry.model.record.name)[0] for entry in entries]
    named: dict[str, set[str]] = {}
    for entry, name in zip(entries, names, strict=True):
        named.setdefault(entry.arm, set()).add(name)
    return [
        replace(entry, label=f"{entry.label} ({name})", arm=f"{entry.arm} ({name})")
        if len(named[entry.arm]) > 1
        else entry
        for entry, name in zip(entries, names, strict=True)
    ]


def run_names(runs: tuple[Run, ...]) -> tuple[str, ...]:
    """A different name for every run: the study's, with its fingerprint where two share it."""
    names = [run.study.name for run in runs]
    longer = [f"{run.study.name} {run.study.fingerprint[:8]}" for run in runs]
    chosen = [long if names.count(short) > 1 else short for short, long in zip(names, longer, strict=True)]
    return tuple(f"{name} #{place}" if chosen.count(name) > 1 else name for place, name in enumerate(chosen, 1))


def without_seed(label: str) -> str:
    """A model's label without ``, seed 3`` at its end."""
    return _SEED.sub("", label)


def _entry(model: ModelRun, prefix: str, place: int) -> Entry:
    teacher = model.record.role == "teacher"
    colours = NUM_TEACHER_COLOURS if teacher else NUM_STUDENT_COLOURS
    return Entry(
        label=prefix + model.record.label,
        arm=prefix + without_seed(model.record.label),
        colour=f"{'t' if teacher else 's'}{place % colours}",
        marker=MARKERS[(place + (0 if teacher else 1)) % len(MARKERS)],
        dashed=teacher or place >= NUM_STUDENT_COLOURS,
        model=model,
    )
