"""What a person sees while a teacher labels: tokens per second, bytes per token and the time left.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from stillroom.console import line
from stillroom.labels.format.layout import shard_tokens
from stillroom.study.progress import StageDisplay
from stillroom.types import OnProgress

SECONDS_BETWEEN_LINES = 30.0
"""How often a line is printed where there is no terminal to draw on."""


@dataclass
class LabelProgress:
    """Counts what labelling has done; ``line`` is one sentence of it.

    The rate is that of tokens labelled since the start: shards of this rank that were there already count as done at
    no time. Bytes per token are those of the finished shards, of every rank.
    """

    folder: Path
    rank: int = 0
    world_size: int = 1
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        self._begin = self.clock()
        own = [path for path in self._shards() if int(path.stem) % self.world_size == self.rank]
        self._reused = sum(shard_tokens(path) for path in own)

    def update(self, done: int, total: int) -> None:
        """Hears (tokens done, tokens to do) of this rank."""
        self.done, self.total = done, total

    def _shards(self) -> list[Path]:
        return sorted(path for path in (self.folder / "shards").glob("[0-9]*.bin") if path.stem.isdecimal())

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens labelled per second since the start, None before anything was."""
        made = self.done - self._reused
        return made / max(1e-9, self.clock() - self._begin) if made > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest of this rank's tokens takes at the present rate."""
        rate = self.tokens_per_second
        return None if rate is None else (self.total - self.done) / rate

    def bytes_per_token(self) -> float | None:
        """Bytes per token of the shards that are finished, None before the first is; from their sizes and headers."""
        shards = self._shards()
        if not shards:
            return None
        tokens = shard_tokens(shards[0]) * (len(shards) - 1) + shard_tokens(shards[-1])  # only the last may be shorter
        return sum(path.stat().st_size for path in shards) / tokens if tokens else None

    def line(self) -> str:
        """Share done, rate, bytes per token and time left, as far as they are known."""
        share = f"{100 * self.done / max(1, self.total):.0f} % of {self.total:,} tokens"
        rate, size, left = self.tokens_per_second, self.bytes_per_token(), self.seconds_left
        parts = [
            "- tokens/s" if rate is None else f"{rate:,.0f} tokens/s",
            "- bytes/token" if size is None else f"{size:.1f} bytes/token",
            "time left unknown" if left is None else f"{_duration(left)} left",
        ]
        return ", ".join([share, *parts])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


@contextlib.contextmanager
def label_stage(display: StageDisplay, folder: Path, rank: int = 0, world_size: int = 1) -> Iterator[OnProgress]:
    """Yields the function that labelling calls with (done, total); shows a line that moves, or one now and then."""
    progress, console = LabelProgress(folder, rank, world_size), display.console
    begin = time.monotonic()
    if console.is_terminal:
        with Live(console=console, transient=True, refresh_per_second=4) as live:
            yield _showing(progress, lambda: live.update(Text(f"labels: {progress.line()}")), 0.25)
    else:
        console.print("labels ...", highlight=False)
        yield _showing(progress, lambda: _print(console, progress), SECONDS_BETWEEN_LINES)
    if progress.total:
        _print(console, progress)
    console.print(line(("✓", "green"), " labels ", (f"{time.monotonic() - begin:.1f} s", "dim")))


def _print(console: Console, progress: LabelProgress) -> None:
    console.print(f"  {progress.line()}", highlight=False, soft_wrap=True)


def _showing(progress: LabelProgress, show: Callable[[], None], every: float) -> OnProgress:
    """An update that counts, and shows at most once in ``every`` seconds."""
    shown = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal shown
        progress.update(done, total)
        if time.monotonic() - shown >= every:
            shown = time.monotonic()
            show()

    return update
