"""Jails for judged programs: bubblewrap's, or one made of user namespaces; each serves programs until it is closed.

Starting a Python in a jail takes far longer than a judged program does, so a jail is kept and used again. What a
program may leave behind dies with it: every one has a process, a process table, a scratch folder and a name space for
shared memory of its own, no descriptor but fresh pipes, and neither capabilities nor a system call to make another.

Root's jails are nobody's, since the kernel does not count root's threads. Where nobody can build one they are root's
after all, and programs in them have no threads.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import queue
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from select import select
from typing import Literal

from stillroom.evaluation.grading.code.seccomp import single_process_filter
from stillroom.types import UserError

Status = Literal["ran", "died", "timeout", "output"]
Isolation = Literal["bubblewrap", "namespaces"]

_STATUSES: tuple[Status, ...] = ("ran", "died", "timeout", "output")
_HERE = Path(__file__).parent
_SERVER = (_HERE / "_served.py").read_text(encoding="utf-8")
_BUILDER = (_HERE / "_namespaces.py").read_text(encoding="utf-8")
_DEMOTION = (_HERE / "_nobody.py").read_text(encoding="utf-8")
_PYTHON = "/python"
_GRACE_SECONDS = 10.0
"""How much longer than a program's own clock its server may take to say that the time is over."""
_MOST_IDLE = 16


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    wall_seconds: float = 5.0
    cpu_seconds: int = 4
    memory_bytes: int = 512 << 20
    """Address space, Python's own included (about 30 MiB)."""
    file_bytes: int = 1 << 20
    """Longest file, and all that the scratch folder holds."""
    output_bytes: int = 1 << 16
    """Longest report of the values."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and the text of each expression's value (``values``; empty where it has none)."""

    status: Status
    values: tuple[str, ...]
    seconds: float


def run_program(
    program: str,
    expressions: Sequence[str],
    limits: Limits | None = None,
    *,
    before: str = "",
    after: str = "",
    isolation: Isolation | None = None,
) -> Outcome:
    """Runs a program in a jail and reads what the expressions then give, in the words of ``values``.

    ``before`` and ``after`` are code of the test's in the same names. A statement of ``before`` that needs a name which
    only the program defines runs after it. ``isolation`` names the kind of jail; None takes the first that this machine
    has (``require_sandbox``).
    """
    limits = limits or Limits()
    kind = isolation or require_sandbox()
    asked = {"before": before, "program": program, "after": after, "expressions": list(expressions)}
    request = json.dumps({"limits": asdict(limits)} | asked).encode()
    jail = _borrow(kind)
    start = time.monotonic()
    try:
        answer = jail.ask(request, start + limits.wall_seconds + _GRACE_SECONDS)
    except BaseException:  # interrupted with an answer under way: whoever came next would read it
        jail.close()
        raise
    if answer is None:
        jail.close()
        return Outcome("died", (), time.monotonic() - start)
    _give_back(jail)
    status, report = answer
    lines = report.decode("utf-8", errors="replace").split("\n")[:-1]
    return Outcome(_STATUSES[status], tuple(lines), time.monotonic() - start)


class Jail:
    """A server in a jail; used by one thread at a time."""

    def __init__(self, kind: Isolation) -> None:
        self.kind: Isolation = kind
        self.owner = os.getpid()
        demoted = _can_demote(kind)
        self._process = subprocess.Popen(
            _command(kind, [_interpreter(), "-I", "-S", "-c", _SERVER], demoted),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
        )
        code = single_process_filter(threads=demoted or not _is_root())
        assert code is not None  # require_sandbox has looked
        self._send(json.dumps({"filter": code.hex()}).encode())

    def ask(self, request: bytes, deadline: float) -> tuple[int, bytes] | None:
        """Status and report of one program; None where the server is gone or silent beyond the deadline."""
        try:
            self._send(request)
            head = self._receive(5, deadline)
            status, length = struct.unpack(">BI", head)
            return status, self._receive(length, deadline)
        except (OSError, EOFError):
            return None

    def close(self) -> None:
        """Ends the server, and with it the jail."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            self._process.wait(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        data = struct.pack(">I", len(message)) + message
        while data:
            data = data[os.write(self._process.stdin.fileno(), data[: 1 << 16]) :]

    def _receive(self, num: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        data, pipe = b"", self._process.stdout.fileno()
        while len(data) < num:
            ready, _, _ = select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(pipe, num - len(data)) if ready else b""
            if not piece:
                raise EOFError
            data += piece
        return data


_idle: dict[Isolation, queue.LifoQueue[Jail]] = {
    "bubblewrap": queue.LifoQueue(_MOST_IDLE),
    "namespaces": queue.LifoQueue(_MOST_IDLE),
}


def _borrow(kind: Isolation) -> Jail:
    while True:
        try:
            jail = _idle[kind].get_nowait()
        except queue.Empty:
            return Jail(kind)
        if jail.owner == os.getpid():  # a jail that a parent process left in our memory is the parent's
            return jail


def _give_back(jail: Jail) -> None:
    try:
        _idle[jail.kind].put_nowait(jail)
    except queue.Full:
        jail.close()


@atexit.register
def close_jails() -> None:
    """Ends every jail that is not in use; the next program starts a new one."""
    for waiting in _idle.values():
        while not waiting.empty():
            jail = waiting.get_nowait()
            if jail.owner == os.getpid():
                jail.close()


@functools.cache
def require_sandbox() -> Isolation:
    """The kind of jail that this machine has, the strictest first; a ``UserError`` where it has none that holds."""
    if single_process_filter() is None:
        raise UserError("sandbox: no system-call filter for this processor, and model-written code runs nowhere else.")
    reasons = []
    for kind in ("bubblewrap", "namespaces"):
        reason = why_not(kind)
        if reason is None:
            return kind
        reasons.append(f"{kind}: {reason}")
    raise UserError(
        f"sandbox: this machine has none ({'; '.join(reasons)}); install bubblewrap, or allow user namespaces: "
        "model-written code runs nowhere else."
    )


def why_not(kind: Isolation) -> str | None:
    """Why this kind of jail does not hold here; None where it does."""
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not installed"
    return _probe(kind, True) and _probe(kind, False) if _is_root() else _probe(kind, False)


def _probe(kind: Isolation, demoted: bool) -> str | None:
    probe = subprocess.run(
        _command(kind, [_interpreter(), "-I", "-S", "-c", _PROBE], demoted),
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    return None if probe.returncode == 0 else probe.stderr.strip().rsplit("\n", 1)[-1] or f"exit {probe.returncode}"


def _is_root() -> bool:
    return os.geteuid() == 0


_demotable: set[Isolation] = set()
"""Kinds of jail that nobody was seen to build."""


def _can_demote(kind: Isolation) -> bool:
    """Whether this process is root and may build its jails as nobody."""
    if _is_root() and kind not in _demotable and _probe(kind, True) is None:
        _demotable.add(kind)
    return _is_root() and kind in _demotable


_PROBE = "import ctypes, os, sys; sys.exit(ctypes.CDLL(None).unshare(0x28020000) and 'no namespaces inside the jail')"


def _interpreter() -> str:
    return f"{_PYTHON}/bin/{Path(sys.executable).resolve().name}"


def _command(kind: Isolation, inside: list[str], demoted: bool = False) -> list[str]:
    """What starts ``inside`` in a jail: no environment, and a Python to read: no /proc, /dev, /etc or /home."""
    prefix, (staging, *others) = sys.base_prefix, [place for place in ("/mnt", "/tmp", "/srv") if _is_free(place)]
    aside = [staging, *others][-1]
    hidden = demoted and not _is_open_to_all(Path(prefix))
    if hidden:
        prefix = f"{aside}/python"
    binds, links = [(prefix, _PYTHON)], []
    for folder in (Path("/usr"), Path("/lib"), Path("/lib64")):
        if folder.is_symlink():
            links.append((str(folder), str(folder.resolve())[1:]))
        elif folder.exists():
            binds.append((str(folder), str(folder)))
    command = [*_bubblewrap(binds, links), *inside]
    own_python = str(Path(sys.executable).resolve())
    if kind == "namespaces":
        asked = {"binds": binds, "links": links, "staging": staging, "command": inside, "libraries": f"{_PYTHON}/lib"}
        builder = f"{prefix}/bin/{Path(own_python).name}" if hidden else own_python
        command = [builder, "-I", "-S", "-c", _BUILDER, json.dumps(asked)]
    if demoted:
        asked = {"python": sys.base_prefix if hidden else None, "staging": aside, "libraries": f"{prefix}/lib"}
        command = [own_python, "-I", "-S", "-c", _DEMOTION, json.dumps(asked | {"command": command})]
    return command


def _is_open_to_all(folder: Path) -> bool:
    """Whether every user may enter a folder."""
    return all(one.stat().st_mode & 0o001 for one in (folder, *folder.parents))


def _is_free(place: str) -> bool:
    """Whether a folder can be mounted over without hiding the Python that is to be seen."""
    return os.path.isdir(place) and not Path(sys.base_prefix).is_relative_to(place)


def _bubblewrap(binds: list[tuple[str, str]], links: list[tuple[str, str]]) -> list[str]:
    tool = shutil.which("bwrap") or "bwrap"
    command = [tool, "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-add", "ALL"]
    command += ["--as-pid-1", "--new-session", "--clearenv", "--setenv", "LD_LIBRARY_PATH", f"{_PYTHON}/lib"]
    command += ["--hostname", "sandbox"]
    for outside, there in binds:
        command += ["--ro-bind", outside, there]
    for where, to in links:
        command += ["--symlink", to, where]
    return [*command, "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/"]
