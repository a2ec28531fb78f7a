"""Ctrl-C and SIGTERM: a training step is finished and saved first, everything else stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self


class Stopper:
    """While entered, turns SIGINT and SIGTERM into a wish that a training loop honours after its step.

    Outside such a loop, and on a second signal, it raises ``KeyboardInterrupt`` at once: folders are written aside, so
    nothing is left half-written.
    """

    def __init__(self) -> None:
        self._asked = False
        self._cooperative = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._cooperative and not self._asked:
            self._asked = True
            return
        raise KeyboardInterrupt

    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self._asked

    @contextlib.contextmanager
    def cooperative(self) -> Iterator[None]:
        """Inside, the first signal only sets ``asked``."""
        self._cooperative = True
        try:
            yield
        finally:
            self._cooperative = False
