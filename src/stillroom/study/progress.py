"""What a person sees while a stage runs: its name, a bar, the rate and the time left."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from stillroom.console import Terminal, line
from stillroom.types import OnProgress, printable


class _Rate(ProgressColumn):
    """Units per second, in thousands where there are many."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        if not speed:
            return Text(f"- {unit}/s", style="progress.data.speed")
        shown = f"{speed / 1000:.1f}k" if speed >= 1000 else f"{speed:.1f}"
        return Text(f"{shown} {unit}/s", style="progress.data.speed")


class StageDisplay:
    """Shows stages one after another: a live bar on a terminal, a line at start and end of each elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Terminal(stderr=True, quiet=int(os.environ.get("RANK", "0")) > 0)

    @contextlib.contextmanager
    def stage(self, name: str, unit: str = "tokens") -> Iterator[OnProgress]:
        """Yields the function that a stage calls with (done, total)."""
        begin = time.monotonic()
        if not self.console.is_terminal:
            self.console.print(line(name, " ..."))
            yield no_update
        else:
            columns = (
                TextColumn("{task.description}", style="progress.description", markup=False),
                BarColumn(bar_width=28),
                TextColumn("{task.percentage:>3.0f} %"),
                _Rate(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            with Bars(*columns, console=self.console, transient=True) as progress:
                yield _Bar(progress, name, unit).update
        seconds = time.monotonic() - begin
        self.console.print(line(("✓", "green"), " ", name, (f" {seconds:.1f} s", "dim")))

    def reused(self, name: str, *, is_sealed: bool = True) -> None:
        """Says that a stage's result was there already, and that it cannot be checked where it is not sealed."""
        note = "" if is_sealed else ", without checksums"
        self.console.print(line(("✓", "green"), " ", name, (f" already there{note}", "dim")))

    def found(self, name: str, place: str) -> None:
        """Says that what a stage would make was made before by another command, and is used from there."""
        self.console.print(
            line(("✓", "green"), f" {name}: of the same teacher, tokens and fidelity, used from ", place)
        )

    def kept(self, sentence: str | None) -> None:
        """Says of an artifact of another version that it is kept and not used; nothing where there is none."""
        if sentence is not None:
            self.console.print(line(("! ", "yellow"), sentence), soft_wrap=True)

    def damaged(self, name: str, damage: Sequence[object]) -> None:
        """Says what of a stage's result is damaged, and that it is being made again."""
        more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
        self.console.print(line(("! ", "yellow"), f"{name}: {damage[0]}{more}; it is made again"), soft_wrap=True)


@dataclass
class _Bar:
    """One stage's bar. A stage with several parts, each with its own total, starts the bar again for every part."""

    progress: Bars
    name: str
    unit: str
    part: tuple[int, TaskID] | None = None

    def update(self, done: int, total: int) -> None:
        if self.part is None or self.part[0] != total:
            if self.part is not None:
                self.progress.remove_task(self.part[1])
            self.part = total, self.progress.add_task(f"{printable(self.name):<28}", total=total, unit=self.unit)
        self.progress.update(self.part[1], completed=done)


def no_update(done: int, total: int) -> None:
    """Where there is no bar to move."""
