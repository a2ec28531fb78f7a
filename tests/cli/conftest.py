"""A command run in this process, as ``python -m stillroom`` runs it: a process of its own would import torch anew."""

from __future__ import annotations

import signal

import pytest

from stillroom.cli import main


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder; gives its exit code and what it printed, and ends what does not end."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def hangs(*_: object) -> None:
        raise AssertionError("the command did not end in 30 seconds")

    def run(arguments: list[str]) -> tuple[object, str, str]:
        before = signal.signal(signal.SIGALRM, hangs)
        signal.alarm(30)
        try:
            with pytest.raises(SystemExit) as ended:
                main.run(arguments)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        return ended.value.code, *capsys.readouterr()

    return run
