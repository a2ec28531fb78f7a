"""Ctrl-C and SIGTERM: a training step is finished and saved first, everything else stops at once.

Ctrl-C ends in exit code 130, SIGTERM in 0: a scheduler that pre-empts a run has done nothing wrong and starts it again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self


class Stopper:
    """While entered, turns SIGINT and SIGTERM into a wish that a training loop honours after its step.

    Outside such a loop, and on a second signal, it leaves at once: folders are written aside, so nothing is left
    half-written.
    """

    def __init__(self) -> None:
        self._asked = False
        self._number = signal.SIGINT
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
        self._number = number
        if self._cooperative and not self._asked:
            self._asked = True
            return
        self.leave()

    def leave(self) -> NoReturn:
        """Ends the program as the signal asks for."""
        if self._number == signal.SIGTERM:
            raise SystemExit(0)
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
