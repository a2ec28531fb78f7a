"""What a person sees while a stage runs: its name, a bar, the rate, the loss and the time left; elsewhere a line of it
every ten seconds, whatever runs.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from stillroom.console import Terminal, line
from stillroom.types import printable

SECONDS_BETWEEN_LINES = 10.0
"""How often a line is printed where there is no terminal to draw on."""


def _nothing() -> str:
    return ""


@dataclass
class StageProgress:
    """How far a stage is. It is called with (done, total) by whatever works, and may hear of a loss.

    A stage with several parts, each with its own total, counts every part from its first call on. What was there before
    (a run that goes on, shards that are found) took no time and is no part of the rate.
    """

    unit: str
    there: int | None = None
    """How much of ``done`` is found and not made; None where the first call tells."""
    more: Callable[[], str] = _nothing
    """What else to say, asked when a line is printed."""
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    total: int = 0
    part: int = 0
    nats: float | None = None
    begin: float = field(init=False)
    """By the clock, of this part."""

    def __post_init__(self) -> None:
        self.begin = self.clock()

    def __call__(self, done: int, total: int) -> None:
        """Hears how much is done, and of how much."""
        if total != self.total:
            self.part += 1
            if self.part > 1 or self.there is None:
                self.there, self.begin = done, self.clock()
        self.done, self.total = done, total

    def loss(self, nats: float) -> None:
        """Hears the loss of the last step, in nats per token."""
        self.nats = nats

    @property
    def rate(self) -> float | None:
        """Units per second, None before any was made."""
        made = self.done - (self.there or 0)
        return made / max(1e-9, self.clock() - self.begin) if made > 0 else None

    def line(self) -> str:
        """Share done, rate, loss and time left, as far as they are known."""
        if not self.total:
            return f"{_clock(self.clock() - self.begin)} so far"
        rate = self.rate
        of = "" if self.part < 2 else f" of part {self.part}"
        parts = [
            f"{100 * self.done / self.total:.0f} % of {self.total:,} {self.unit}",
            f"{'-' if rate is None else _number(rate)} {self.unit}/s",
            "" if self.nats is None else f"loss {self.nats:.3f}",
            self.more(),
            "time left unknown" if rate is None else f"{_clock((self.total - self.done) / rate)} left{of}",
        ]
        return ", ".join(filter(None, parts))


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


class StageDisplay:
    """Shows stages one after another: a live bar on a terminal, lines now and then elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Terminal(stderr=True, quiet=int(os.environ.get("RANK", "0")) > 0)
        self.logs: Path | None = None
        """Where every stage keeps its lines too, as ``NAME.log``."""

    @classmethod
    def of_child(cls, shown: bool, logs: Path | None = None) -> Self:
        """That of a process which works for another: its lines stand among the other's, or it is silent."""
        made = cls(Terminal(stderr=True, quiet=not shown))
        made.logs = logs
        return made

    @property
    def is_shared(self) -> bool:
        """Whether other processes may print lines among these: not where a bar moves."""
        return not (self.console.is_terminal or self.console.quiet)

    @contextlib.contextmanager
    def stage(
        self, name: str, unit: str = "tokens", there: int | None = None, more: Callable[[], str] = _nothing
    ) -> Iterator[StageProgress]:
        """Yields what a stage calls with (done, total), and may tell its loss; see ``StageProgress``."""
        progress, begin = StageProgress(unit, there, more), time.monotonic()
        with _logged(self.logs, name, progress), self._shown(name, progress):
            yield progress
        seconds = time.monotonic() - begin
        self.console.print(line(("✓", "green"), " ", name, (f" {seconds:.1f} s", "dim")))

    @contextlib.contextmanager
    def _shown(self, name: str, progress: StageProgress) -> Iterator[None]:
        if self.console.is_terminal:
            with _bar(self.console, name, progress):
                yield
        else:
            self.console.print(line(name, " ..."))
            with _repeated(lambda: self.console.print(line(f"  {name}: {progress.line()}"), soft_wrap=True)):
                yield

    def reused(self, name: str, *, is_sealed: bool = True) -> None:
        """Says that a stage's result was there already, and that it cannot be checked where it is not sealed."""
        note = "" if is_sealed else ", without checksums"
        self.console.print(line(("✓", "green"), " ", name, (f" already there{note}", "dim")))

    def found(self, name: str, place: str) -> None:
        """Says that what a stage would make was made before by another command, and is used from there."""
        what = f" {name}: of the same teacher, tokens and fidelity, used from "
        self.console.print(line(("✓", "green"), what, place), soft_wrap=True)

    def given(self, name: str, place: str) -> None:
        """Says that a part was named and is used as it is."""
        self.console.print(line(("✓", "green"), " ", name, (" as given: ", "dim"), place), soft_wrap=True)

    def kept(self, sentence: str | None) -> None:
        """Says of an artifact of another version that it is kept and not used; nothing where there is none."""
        if sentence is not None:
            self.console.print(line(("! ", "yellow"), sentence), soft_wrap=True)

    def damaged(self, name: str, damage: Sequence[object]) -> None:
        """Says what of a stage's result is damaged, and that it is being made again."""
        more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
        self.console.print(line(("! ", "yellow"), f"{name}: {damage[0]}{more}; it is made again"), soft_wrap=True)


@contextlib.contextmanager
def _logged(logs: Path | None, name: str, progress: StageProgress) -> Iterator[None]:
    """Adds the line of a stage to its log every ten seconds, for whoever asks from beside; none of a short stage."""
    if logs is None:
        yield
        return

    def tell() -> None:
        with contextlib.suppress(OSError):
            logs.mkdir(exist_ok=True)
            with (logs / f"{name}.log").open("a") as stream:
                stream.write(progress.line() + "\n")

    with _repeated(tell):
        yield


@contextlib.contextmanager
def _repeated(show: Callable[[], None], every: float = 0.0) -> Iterator[None]:
    """Shows something every few seconds while the block runs, also while what runs there tells nothing."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(every or SECONDS_BETWEEN_LINES):
            show()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _bar(console: Console, name: str, progress: StageProgress) -> Iterator[None]:
    """A bar with the line of a stage beside it, which moves while the block runs."""
    columns = (
        TextColumn("{task.description}", style="progress.description", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[line]}", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task: TaskID = bars.add_task(f"{printable(name):<28}", total=None, line="")

        def show() -> None:
            total = progress.total or None
            bars.update(task, completed=progress.done, total=total, line=printable(progress.line()))

        with _repeated(show, 0.25):
            try:
                yield
            finally:
                show()
