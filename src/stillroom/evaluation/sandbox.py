"""Runs model-written Python where it can harm nothing, and judges it where it can touch nothing.

The program runs under bubblewrap: no network, no process but its own, no file of the machine but a read-only Python,
no environment, one small scratch folder, limits on memory, processor time, files and output, and a wall clock. The
judge is another process: the sandbox is given expressions, never the right answers, and sends back texts that are read
as literals and compared outside. So a program cannot pass by leaving early, by printing what success looks like, or by
patching the checker: it passes by giving the right values.
"""

from __future__ import annotations

import ast
import functools
import json
import math
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from stillroom.evaluation.seccomp import single_process_filter
from stillroom.types import UserError

_RUNNER = (Path(__file__).parent / "_sandboxed.py").read_text(encoding="utf-8")
_PYTHON = "/python"
_CONTAINERS = {"set": set, "frozenset": frozenset, "tuple": tuple, "list": list, "dict": dict}

Status = Literal["ran", "died", "timeout", "output"]


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
class Check:
    """An expression over the names that a program defines, and the value that it must have.

    ``tolerance`` is (relative, absolute) for numbers that need only be close.
    """

    expression: str
    expected: Any
    tolerance: tuple[float, float] | None = None

    def accepts(self, found: Any) -> bool:
        """Whether a value is right; values of the judge's own built-in types only."""
        if self.tolerance is None:
            return bool(found == self.expected)
        if not isinstance(found, int | float):
            return False
        return math.isclose(found, self.expected, rel_tol=self.tolerance[0], abs_tol=self.tolerance[1])


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and the text of each expression's value (empty where it has none)."""

    status: Status
    values: tuple[str, ...]
    seconds: float


def parse_check(assertion: str) -> Check:
    """A check from an assert statement: ``f(..) == literal``, ``is``, bare or ``not``, or ``math.isclose``.

    The right side must be a literal, or a set, tuple, list, frozenset or dict call of one. Anything else is refused:
    a test whose expected value only the program's own process could tell might be told a lie.
    """
    try:
        (statement,) = ast.parse(assertion.strip()).body
    except (SyntaxError, ValueError):
        raise UserError(f"test {assertion!r}: is not one Python statement, expected an assert.") from None
    if not isinstance(statement, ast.Assert):
        raise UserError(f"test {assertion!r}: expected an assert statement.")
    test = statement.test
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
        for said, known in ((test.left, test.comparators[0]), (test.comparators[0], test.left)):
            if (expected := _literal(known)) is not None:
                return Check(ast.unparse(said), expected[0])
    elif isinstance(test, ast.Call) and ast.unparse(test.func) in ("math.isclose", "isclose"):
        options = {keyword.arg: _literal(keyword.value) for keyword in test.keywords}
        expected = _literal(test.args[1]) if len(test.args) == 2 else None
        if expected is not None and all(value is not None for value in options.values()):
            closeness = {name: value[0] for name, value in options.items() if value is not None}
            tolerance = (closeness.get("rel_tol", 1e-9), closeness.get("abs_tol", 0.0))
            return Check(ast.unparse(test.args[0]), expected[0], tolerance)
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return Check(f"bool({ast.unparse(test.operand)})", False)
    elif isinstance(test, ast.Call | ast.Name):
        return Check(f"bool({ast.unparse(test)})", True)
    raise UserError(f"test {assertion!r}: expected an assert that compares a call with a literal value.")


def _literal(node: ast.expr) -> tuple[Any] | None:
    """The value of a literal in a one-tuple, or None where the expression is no literal."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        kind = _CONTAINERS.get(node.func.id)
        inner = [_literal(argument) for argument in node.args]
        if kind is None or len(inner) > 1 or None in inner:
            return None
        try:
            return (kind(*(value[0] for value in inner if value is not None)),)
        except (TypeError, ValueError):
            return None
    try:
        return (ast.literal_eval(node),)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return None


def passes(program: str, checks: Sequence[Check], limits: Limits | None = None) -> bool:
    """Whether a program gives the right value to every check; False for whatever else it does."""
    return is_right(run_program(program, [check.expression for check in checks], limits), checks)


def is_right(outcome: Outcome, checks: Sequence[Check]) -> bool:
    """Whether a program ran to its end and gave the right value to every check; False where there is no check."""
    if not checks or outcome.status != "ran" or len(outcome.values) != len(checks):
        return False
    return all(_accepts(check, text) for check, text in zip(checks, outcome.values, strict=True))


def _accepts(check: Check, text: str) -> bool:
    try:
        found = _literal(ast.parse(text, mode="eval").body)
        return found is not None and check.accepts(found[0])
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError, OverflowError):
        return False


def passes_each(
    programs: Iterable[tuple[str, Sequence[Check]]], limits: Limits | None = None, *, workers: int | None = None
) -> list[bool]:
    """``passes`` of many programs, several at a time, in order."""
    require_sandbox()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(lambda one: passes(one[0], one[1], limits), programs))


def run_program(program: str, expressions: Sequence[str], limits: Limits | None = None) -> Outcome:
    """Runs a program in a sandbox of its own and reads what the expressions then give."""
    limits = limits or Limits()
    request = json.dumps({"limits": asdict(limits), "program": program, "expressions": list(expressions)})
    isolation = require_sandbox()
    start = time.monotonic()
    filter_file = _filter_file()
    try:
        process = subprocess.Popen(
            [*isolation, *_inside(limits, filter_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(filter_file,),
            env={},
        )
    finally:
        os.close(filter_file)
    try:
        status, report = _converse(process, request.encode(), start + limits.wall_seconds, limits.output_bytes)
    finally:
        process.kill()  # bubblewrap takes the sandbox with it
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if status == "ran" and process.returncode != 0:
        status = "died"
    lines = report.decode("utf-8", errors="replace").split("\n")[:-1]
    return Outcome(status, tuple(lines), time.monotonic() - start)


def _converse(process: subprocess.Popen[bytes], request: bytes, deadline: float, most: int) -> tuple[Status, bytes]:
    """Sends the request and reads the report, up to the deadline and the longest output."""
    assert process.stdin is not None and process.stdout is not None
    os.set_blocking(process.stdin.fileno(), False)
    report = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fileobj is process.stdin:
                    request = _send(process.stdin.fileno(), request)
                    if not request:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                piece = os.read(process.stdout.fileno(), 1 << 16)
                report += piece
                if len(report) > most:
                    return "output", bytes(report[:most])
                if not piece:
                    return _ended(process, deadline), bytes(report)
    return "timeout", bytes(report)


def _send(pipe: int, request: bytes) -> bytes:
    """What is left of the request after one write; nothing is left for a reader that has gone."""
    try:
        return request[os.write(pipe, request[: 1 << 16]) :]
    except BrokenPipeError:
        return b""


def _ended(process: subprocess.Popen[bytes], deadline: float) -> Status:
    """A program may close its output and go on: it has until the deadline to end."""
    try:
        process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "timeout"
    return "ran"


def _filter_file() -> int:
    code = single_process_filter()
    assert code is not None  # require_sandbox has looked
    handle = os.memfd_create("filter")
    os.write(handle, code)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


def _inside(limits: Limits, filter_file: int) -> list[str]:
    return [
        *("--size", str(limits.file_bytes), "--tmpfs", "/tmp"),
        *("--remount-ro", "/", "--chdir", "/tmp", "--seccomp", str(filter_file)),
        *(_interpreter(), "-I", "-S", "-c", _RUNNER),
    ]


def _interpreter() -> str:
    return f"{_PYTHON}/bin/{Path(sys.executable).resolve().name}"


@functools.cache
def require_sandbox() -> tuple[str, ...]:
    """The command that isolates; a ``UserError`` where this machine has none that holds."""
    tool = shutil.which("bwrap")
    if tool is None:
        raise UserError("sandbox: bubblewrap (bwrap) is not installed, and model-written code runs nowhere else.")
    if single_process_filter() is None:
        raise UserError("sandbox: no system-call filter for this processor, and model-written code runs nowhere else.")
    command = _isolation(tool)
    probe = subprocess.run(
        [*command, _interpreter(), "-I", "-S", "-c", ""],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        raise UserError(
            f"sandbox: bubblewrap cannot isolate on this machine ({probe.stderr.strip() or probe.returncode}); "
            "allow user namespaces, or grade without programs."
        )
    return tuple(command)


def _isolation(tool: str) -> list[str]:
    """Bubblewrap with its own namespaces, no environment, and a Python to read: no /proc, /dev, /etc or /home."""
    command = [tool, "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--die-with-parent"]
    command += ["--new-session", "--clearenv", "--setenv", "LD_LIBRARY_PATH", f"{_PYTHON}/lib", "--hostname", "sandbox"]
    for folder in (Path("/usr"), Path("/lib"), Path("/lib64")):
        if folder.is_symlink():
            command += ["--symlink", str(folder.resolve())[1:], str(folder)]
        elif folder.exists():
            command += ["--ro-bind", str(folder), str(folder)]
    return [*command, "--ro-bind", sys.base_prefix, _PYTHON]
