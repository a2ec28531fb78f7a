"""Long studies in slices: the process is asked to stop after some minutes, saves its step, and goes on next time."""

from __future__ import annotations

import os
import signal
import threading


def stop_after(minutes: float | None) -> None:
    """Sends this process what a scheduler sends before it takes a machine away; None: never."""
    if minutes is None:
        return
    timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
