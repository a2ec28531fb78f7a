"""What a run writes down: a line per step in ``metrics.jsonl``, and the same numbers to a tracker if one is named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillroom.files import read_json_lines, write_text
from stillroom.training.trackers import Tracker


class MetricsLog:
    """Appends records to a file; on the first rank alone, others write nothing."""

    def __init__(self, path: Path, tracker: Tracker | None = None, *, active: bool = True) -> None:
        self._tracker = tracker
        self._stream = path.open("a", encoding="utf-8") if active else None

    def write(self, kind: str, step: int, values: Mapping[str, object]) -> None:
        """One record; a number that is not finite becomes null, since JSON has none, and ``reason`` says so."""
        if self._stream is None:
            return
        absent = [name for name, value in values.items() if finite_or_none(value) is None and value is not None]
        reason = {"reason": f"not finite: {', '.join(absent)}"} if absent else {}
        record = {"kind": kind, "step": step} | {name: finite_or_none(value) for name, value in values.items()} | reason
        self._stream.write(json.dumps(record, allow_nan=False) + "\n")
        if self._tracker is not None:
            numbers = {name: value for name, value in record.items() if isinstance(value, float)}
            self._tracker.log(kind, step, numbers)

    def flush(self) -> None:
        """Hands to the system what was written, so that a kill does not lose it."""
        if self._stream is not None:
            self._stream.flush()

    def close(self) -> None:
        """Flushes and ends."""
        if self._stream is not None:
            self._stream.close()
        if self._tracker is not None:
            self._tracker.close()


def finite_or_none(value: object) -> object:
    """A value, or None where it is a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def drop_after(path: Path, step: int) -> None:
    """Removes the records of steps that will be done again."""
    if path.exists():
        records: list[dict[str, Any]] = read_json_lines(path)
        kept = [json.dumps(record) for record in records if record["step"] <= step]
        write_text(path, "".join(f"{line}\n" for line in kept))


def last_validation(path: Path) -> float:
    """The newest validation cross-entropy of a run, nats per token; a finished run has one, and it is finite."""
    ces: list[Any] = [record["ce"] for record in read_json_lines(path) if record["kind"] == "validation"]
    return ces[-1]
