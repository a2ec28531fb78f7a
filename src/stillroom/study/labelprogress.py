"""What a person sees while a teacher labels, beside what every stage shows: bytes per token. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stillroom.console import line
from stillroom.labels.format.layout import shard_tokens
from stillroom.study.progress import StageDisplay, StageProgress


def bytes_per_token(folder: Path) -> float | None:
    """Bytes per token of a store's finished shards, of every rank, from their sizes and headers; None before the first.

    Only the last shard may be shorter than the others.
    """
    shards = _shards(folder)
    tokens = shard_tokens(shards[0]) * (len(shards) - 1) + shard_tokens(shards[-1]) if shards else 0
    return sum(path.stat().st_size for path in shards) / tokens if tokens else None


@contextlib.contextmanager
def label_stage(display: StageDisplay, folder: Path, rank: int = 0, world_size: int = 1) -> Iterator[StageProgress]:
    """Yields the function that labelling calls with (done, total) of this rank, of which some shards may be there."""
    there = sum(shard_tokens(path) for path in _shards(folder) if int(path.stem) % world_size == rank)

    def size() -> str:
        found = bytes_per_token(folder)
        return "- bytes/token" if found is None else f"{found:.1f} bytes/token"

    with display.stage("labels", "tokens", there, size) as progress:
        yield progress
    if progress.total:
        display.console.print(line(f"  {progress.line()}"), soft_wrap=True)


def _shards(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "shards").glob("[0-9]*.bin") if path.stem.isdecimal())
