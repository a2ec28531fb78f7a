"""Honest programs are judged rightly; hostile ones are contained and never pass."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stillroom.evaluation.grading.code import jail
from stillroom.evaluation.grading.code.jail import Isolation, why_not
from stillroom.evaluation.grading.code.judge import (
    Check,
    Limits,
    Outcome,
    close_jails,
    gives_every_value,
    parse_check,
    passes_checks,
    passes_each,
    require_sandbox,
    run_program,
)
from stillroom.evaluation.grading.code.seccomp import single_process_filter
from stillroom.types import UserError

KINDS: tuple[Isolation, ...] = ("bubblewrap", "namespaces")
needs_sandbox = pytest.mark.skipif(all(why_not(kind) for kind in KINDS), reason="this machine has no sandbox")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Isolation:
    if reason := why_not(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


QUICK = Limits(wall_seconds=1.5, cpu_seconds=1, memory_bytes=256 << 20, file_bytes=1 << 18)
FIBONACCI = "def solve(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n"
CHECK = parse_check("assert solve(20) == 6765")


def catalogue() -> dict[str, str]:
    """Name → program, from the file beside this one."""
    text = (Path(__file__).parent / "hostile.txt").read_text(encoding="utf-8")
    parts = (part.partition("\n") for part in text.split("\n### ")[1:])
    return {name: program.replace("<NUL>", "\0") for name, _, program in parts}


HOSTILE = catalogue()


def descendants() -> set[int]:
    """Live processes below this one."""
    listing = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listing.splitlines()[1:])}
    below, frontier = set(), {os.getpid()}
    while frontier := {pid for pid, parent in parents.items() if parent in frontier} - below:
        below |= frontier
    return below


@needs_sandbox
def test_honest_programs_pass_and_wrong_ones_do_not() -> None:
    wrong = FIBONACCI.replace("0, 1", "1, 1")
    verdicts = passes_each([(FIBONACCI, [CHECK]), (wrong, [CHECK]), (FIBONACCI, [CHECK, Check("solve(1)", 2)])])
    assert verdicts == [True, False, False]
    assert not passes_checks(FIBONACCI, [])
    assert passes_checks("print('hello')\nprint('x' * 10 ** 6)\n" + FIBONACCI, [CHECK])


def test_there_are_enough_hostile_programs_and_none_passes_or_gets_out(kind: Isolation) -> None:
    assert len(HOSTILE) >= 88
    python = Path(sys.executable).resolve().parent.parent
    before = descendants()
    with ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        outcomes = list(pool.map(lambda program: _attempt(program, kind), HOSTILE.values()))
    assert [name for name, (passed, _) in zip(HOSTILE, outcomes, strict=True) if passed] == []
    late = [name for name, (_, outcome) in zip(HOSTILE, outcomes, strict=True) if outcome.seconds > 4]
    assert late == []
    assert time.monotonic() - started < 60
    assert not Path("/stillroom-was-here").exists() and not (python / "lib/evil.py").exists()
    assert _attempt(FIBONACCI, kind)[0]  # what served them is as good as new
    close_jails()
    deadline = time.monotonic() + 3
    while (left := descendants() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [command for pid in left if (command := _command_of(pid))] == []  # one without a name has just ended


def _attempt(program: str, kind: Isolation) -> tuple[bool, Outcome]:
    outcome = run_program(program, [CHECK.expression], QUICK, isolation=kind)
    return gives_every_value(outcome, [CHECK]), outcome


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("program", "secret"),
    [
        ("walks the files", "FileNotFoundError"),
        ("reads passwords", "FileNotFoundError"),
        ("reads proc", "FileNotFoundError"),
        ("reads the environment", "KeyError"),
        ("symlink out", "FileNotFoundError"),
    ],
)
def test_what_is_hidden_is_not_there(kind: Isolation, program: str, secret: str) -> None:
    wrapped = (
        HOSTILE[program] + "\ndef tell():\n    try: return solve(1)\n    except Exception as e: return type(e).__name__"
    )
    assert run_program(wrapped, ["tell()"], QUICK, isolation=kind).values == (repr(secret),)


def test_limits_are_what_was_asked_for(kind: Isolation) -> None:
    program = "import resource\ndef limit(name): return resource.getrlimit(getattr(resource, name))"
    names = ["RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_CORE"]
    outcome = run_program(program, [f"limit({name!r})" for name in names], QUICK, isolation=kind)
    assert [eval(text) for text in outcome.values] == [(v, v) for v in (256 << 20, 1, 1 << 18, 0)]


@needs_sandbox
def test_outcomes_say_how_a_program_ended() -> None:
    assert run_program("x = 1", ["x", "y", "x + 1"], QUICK).values == ("1", "", "2")
    assert run_program("while True: pass", ["1"], Limits(wall_seconds=0.5)).status == "timeout"
    assert run_program("raise SystemExit", ["1"], QUICK).status == "died"
    assert run_program("x = 'y' * 10 ** 6", ["x"], QUICK).status == "output"
    assert run_program("#" * 10**6, ["1"], QUICK).values == ("1",)  # longer than a pipe holds


@needs_sandbox
def test_threads_are_allowed() -> None:
    program = "import threading\nx = []\nt = threading.Thread(target=lambda: x.append(1))\nt.start()\nt.join()"
    assert run_program(program, ["x"], QUICK).values == ("[1]",)


@pytest.mark.parametrize(
    ("assertion", "expression", "expected"),
    [
        ("assert f(1, 'a') == [1, 'a']", "f(1, 'a')", [1, "a"]),
        ("assert (1, 2) == f()", "f()", (1, 2)),
        ("assert set(f()) == set([1, 2])", "set(f())", {1, 2}),
        ("assert f() is None", "f()", None),
        ("assert f() == True", "f()", True),
        ("assert f(2)", "bool(f(2))", True),
        ("assert not f(2)", "bool(f(2))", False),
        ("assert f() == -1.5", "f()", -1.5),
    ],
)
def test_assertions_become_checks(assertion: str, expression: str, expected: object) -> None:
    check = parse_check(assertion)
    assert (check.expression, check.expected, check.tolerance) == (expression, expected, None)
    assert check.accepts(expected)


def test_closeness_is_judged_outside() -> None:
    check = parse_check("assert math.isclose(f(2), 1.5, rel_tol=0.01)")
    assert (check.expression, check.expected, check.tolerance) == ("f(2)", 1.5, (0.01, 0.0))
    assert check.accepts(1.51) and not check.accepts(1.6) and not check.accepts("1.5")


@pytest.mark.parametrize(
    "assertion", ["assert f() == g()", "f() == 1", "assert f() < 2", "assert (", "assert f() == 1; x = 2", ""]
)
def test_assertions_that_the_program_could_cheat_are_refused(assertion: str) -> None:
    with pytest.raises(UserError, match="test "):
        parse_check(assertion)


LEAVES = """
import os
open('/tmp/left', 'w').write('here')
os.environ['LEFT'] = 'here'
import math, random
math.pi = 3
random.seed(7)
def look():
    return os.listdir('/tmp'), os.environ.get('LEFT'), math.pi > 3.1, os.getpid()
"""


def test_a_program_finds_nothing_of_the_one_before(kind: Isolation) -> None:
    leave = LEAVES + "x = random.random()"
    look = "\n".join(line for line in LEAVES.split("\n") if "def" in line or "return" in line or "import" in line)
    first = run_program(leave, ["look()"], QUICK, isolation=kind)
    second = run_program(look + "\nx = random.random()", ["look()", "x"], QUICK, isolation=kind)
    third = run_program(look + "\nx = random.random()", ["look()", "x"], QUICK, isolation=kind)
    assert first.values == ("(['left'], 'here', False, 1)",)
    assert second.values[0] == "([], None, True, 1)"
    assert second.values == third.values  # nor is chance another


def test_a_program_has_no_capability_and_may_gain_none(kind: Isolation) -> None:
    program = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
data = ctypes.create_string_buffer(24)
libc.capget(struct.pack('=Ii', 0x20080522, 0), data)
held = sum(struct.unpack('=6I', data.raw))
refused = [libc.unshare(0x10000000), libc.mount(b'x', b'/tmp', b'tmpfs', 0, None), libc.prctl(39, 0, 0, 0, 0)]
"""
    assert run_program(program, ["held", "refused"], QUICK, isolation=kind).values == ("0", "[-1, -1, 1]")


def test_a_jail_that_dies_is_replaced(kind: Isolation) -> None:
    close_jails()
    assert _attempt(FIBONACCI, kind)[0]
    served = jail._borrow(kind)
    deadline = time.monotonic() + 5
    while (left := [pid for pid in descendants() if _command_of(pid)]) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        time.sleep(0.05)
        served._process.poll()
    jail._give_back(served)
    assert run_program(FIBONACCI, [CHECK.expression], QUICK, isolation=kind).status == "died"
    assert _attempt(FIBONACCI, kind)[0]


def test_an_interrupted_judge_does_not_leave_an_answer_for_the_next(
    kind: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_jails()
    receive = jail.Jail._receive

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(jail.Jail, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_program("x = 'of the first'", ["x"], QUICK, isolation=kind)
    monkeypatch.setattr(jail.Jail, "_receive", receive)
    assert run_program("x = 'of the next'", ["x"], QUICK, isolation=kind).values == ("'of the next'",)


@pytest.fixture
def forgetful():
    """The choice of the jail is made anew, before and after."""
    require_sandbox.cache_clear()
    yield
    require_sandbox.cache_clear()


def test_without_bubblewrap_user_namespaces_serve(forgetful, monkeypatch: pytest.MonkeyPatch) -> None:
    if why_not("namespaces"):
        pytest.skip("no user namespaces here")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert require_sandbox() == "namespaces"
    assert passes_checks(FIBONACCI, [CHECK])


def test_without_any_jail_nothing_is_run(forgetful, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(jail, "_command", lambda *_: [sys.executable, "-c", "import sys; sys.exit('not allowed')"])
    with pytest.raises(UserError, match=r"bwrap is not installed; namespaces: not allowed\); install bubblewrap"):
        passes_checks(FIBONACCI, [CHECK])


def test_on_an_unknown_processor_nothing_is_run(forgetful, monkeypatch: pytest.MonkeyPatch) -> None:
    assert single_process_filter("pdp11") is None
    monkeypatch.setattr(jail, "single_process_filter", lambda: None)
    with pytest.raises(UserError, match="no system-call filter"):
        passes_checks(FIBONACCI, [CHECK])


def verdict(code: bytes, architecture: int, call: int, argument: int = 0) -> int:
    """Interprets the filter as the kernel does."""
    data = struct.pack("=IIQ6Q", call, architecture, 0, argument, 0, 0, 0, 0, 0)
    program = [struct.unpack_from("=HBBI", code, offset) for offset in range(0, len(code), 8)]
    place = accumulator = 0
    while True:
        operation, if_true, if_false, constant = program[place]
        place += 1
        if operation == 0x06:
            return constant
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, constant)
            continue
        truth = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: accumulator & constant}[operation]
        place += if_true if truth else if_false


@pytest.mark.parametrize(
    ("machine", "architecture", "clone"), [("x86_64", 0xC000003E, 56), ("aarch64", 0xC00000B7, 220)]
)
def test_filter_lets_threads_through_and_nothing_that_makes_a_process(
    machine: str, architecture: int, clone: int
) -> None:
    code = single_process_filter(machine)
    assert code is not None
    allow, refuse, absent = 0x7FFF0000, 0x00050001, 0x00050026
    assert verdict(code, architecture, clone, 0x3D0F00) == allow  # the flags of pthread_create
    assert verdict(code, architecture, clone, 17) == refuse  # those of fork: SIGCHLD alone
    assert verdict(code, architecture, 435) == absent
    assert verdict(code, architecture, 0 if machine == "x86_64" else 63) == allow  # read
    assert verdict(code, architecture, 41 if machine == "x86_64" else 198) == refuse  # socket
    assert verdict(code, architecture, 0x40000000 + 57) == refuse
    assert verdict(code, 0x40000003, 2) == 0x80000000  # another architecture's table
