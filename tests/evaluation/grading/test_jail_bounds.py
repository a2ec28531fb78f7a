"""What a judged program may ask of the kernel: a list of calls, and a bound on whatever they make."""

from __future__ import annotations

import errno
import os
import platform
import stat

import pytest

from stillroom.evaluation.grading.code import jail
from stillroom.evaluation.grading.code.jail import Isolation, Limits, why_not
from stillroom.evaluation.grading.code.judge import run_program
from stillroom.evaluation.grading.code.seccomp import MACHINES, allowed_calls, single_process_filter

QUICK = Limits(wall_seconds=5, cpu_seconds=3, memory_bytes=256 << 20, file_bytes=1 << 18)
CLONE = {"x86_64": 56, "aarch64": 220}
PROBES = {335, 336}
"""Linux lets these past every filter: they answer where an administrator's own probe sent them, and kill elsewhere."""


@pytest.fixture(params=("bubblewrap", "namespaces"))
def kind(request: pytest.FixtureRequest) -> Isolation:
    if reason := why_not(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


def values(program: str, expressions: list[str], kind: Isolation) -> list:
    outcome = run_program(program, expressions, QUICK, isolation=kind)
    assert outcome.status == "ran"
    return [eval(text) for text in outcome.values]


CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    made = libc.syscall(number, *(ctypes.c_long(one) for one in arguments))
    return ctypes.get_errno() if made < 0 else 0
"""


def test_every_call_that_is_not_on_the_list_is_refused(kind: Isolation) -> None:
    machine = platform.machine()
    others = sorted({*range(480)} - allowed_calls(machine).keys() - {CLONE[machine]} - PROBES)
    assert len(others) > 280
    (answers,) = values(CALL, [f"{{n: call(n, -1, -1, -1, -1, -1, -1) for n in {others}}}"], kind)
    assert {n: answer for n, answer in answers.items() if answer not in (errno.EPERM, errno.ENOSYS)} == {}


BY_NAME = {
    # what each makes that no limit on the address space counts: x86_64 numbers
    "shared segments": (29, 30, 31, 67),
    "semaphores": (64, 65, 66, 220),
    "message queues": (68, 69, 70, 71, 240, 242),
    "files without a name": (319, 447),
    "sockets": (41, 42, 43, 46, 47, 49, 50, 54, 288, 299, 307),
    "locks": (73,),
    "timers": (222, 283),
    "watches": (253, 254, 294, 300),
    "signals in queues": (129, 297),
    "signals and events as files": (282, 284, 289, 290),
    "rings": (425, 426, 427, 206),
    "page faults": (323,),
    "keys": (248, 249, 250),
    "programs in the kernel": (321, 298, 317),
    "locked memory": (149, 151, 325),
    "pages moved by reference": (275, 276, 278),
    "attributes": (188, 189, 190),
    "owners": (92, 93, 94, 260),
    "devices and named pipes": (133, 259),
    "processes": (57, 58, 59, 322, 435, 101, 310, 311, 434, 438),
    "mounts and namespaces": (155, 161, 165, 166, 272, 308, 428, 429, 430, 442),
    "another user": (105, 106, 113, 114, 117, 119, 126),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
@pytest.mark.parametrize("made", BY_NAME)
def test_nothing_is_made_that_no_limit_counts(made: str) -> None:
    assert not set(BY_NAME[made]) & allowed_calls("x86_64").keys()


def test_allowed_calls_are_allowed_for_what_is_bounded_alone(kind: Isolation) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("numbers of x86_64")
    refused = {
        "a larger pipe": (72, 1, 1031, 1 << 20),
        "a lock": (72, 1, 6, 0),
        "a lease": (72, 1, 1024, 0),
        "a watched folder": (72, 1, 1026, 0),
        "another's terminal": (16, 0, 0x5412, 0),
        "another filter": (157, 22, 2, 0),
        "a subreaper": (157, 36, 1, 0),
        "a network pair": (53, 16, 1, 0, 0),
        "a process": (56, 17, 0, 0, 0, 0),
        "a process that shares memory": (56, 0x100 | 17, 0, 0, 0, 0),
    }
    answers = values(CALL, [f"call(*{arguments})" for arguments in refused.values()], kind)
    assert dict(zip(refused, answers, strict=True)) == dict.fromkeys(refused, errno.EPERM)


COUNTS = """
import os, socket, threading, time
def most(make):
    held = []
    try:
        while len(held) < 5000: held.append(make())
    except Exception: pass
    return len(held)
def thread():
    one = threading.Thread(target=time.sleep, args=(9,), daemon=True)
    one.start()
    return one
def name(n=iter(range(10 ** 6))): open(f'/tmp/{next(n)}', 'wb').close()
threading.stack_size(1 << 15)
"""


def test_what_may_be_made_is_bounded(kind: Isolation) -> None:
    made = values(COUNTS, [f"most({make})" for make in ("name", "thread", "socket.socketpair", "os.pipe")], kind)
    most = {"names": 1024, "threads": 128, "pairs of sockets": 32, "pipes": 32}
    assert {name: n for name, n in zip(most, made, strict=True) if not 1 <= n <= most[name]} == {}


FILES = """
import os
def kinds():
    found = {}
    for fd in range(64):
        try: found[fd] = os.fstat(fd).st_mode
        except OSError: pass
    return found
def touch(fd):
    try:
        os.fchmod(fd, 0o4777)
        os.utime(fd, (1, 1))
    except OSError: pass
"""


def test_a_program_holds_no_file_of_the_machine(kind: Isolation) -> None:
    before = os.stat("/dev/null")
    (held,) = values(FILES, ["kinds()"], kind)
    assert {0, 1, 2} <= held.keys() and all(stat.S_ISFIFO(mode) for mode in held.values())
    values(FILES, ["[touch(fd) for fd in kinds()]"], kind)
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_mtime, after.st_atime) == (before.st_mode, before.st_mtime, before.st_atime)


def test_what_is_printed_goes_nowhere_and_input_is_at_its_end(kind: Isolation) -> None:
    program = "import os\nos.write(1, b'x' * 10 ** 6)\nos.write(2, b'y' * 10 ** 6)\nread = os.read(0, 5)"
    assert values(program, ["read"], kind) == [b""]


def test_honest_programs_find_what_they_need(kind: Isolation) -> None:
    program = """
import asyncio, concurrent.futures, decimal, json, os, shutil, tempfile, time
async def nap():
    await asyncio.sleep(0.01)
    return 1
def together(): return sum(concurrent.futures.ThreadPoolExecutor(4).map(abs, [-1, 2]))
def files():
    with tempfile.TemporaryDirectory() as folder:
        with open(f'{folder}/a', 'w') as file: json.dump([1], file)
        shutil.copy(f'{folder}/a', f'{folder}/b')
        os.rename(f'{folder}/b', f'{folder}/c')
        return sorted(os.listdir(folder)), open(f'{folder}/c').read(), os.path.getsize(f'{folder}/a')
def clock():
    time.sleep(0.01)
    return time.monotonic() > 0 and time.time() > 0 and time.perf_counter() > 0
"""
    asked = ["asyncio.run(nap())", "together()", "files()", "clock()", "len(os.urandom(4))"]
    assert values(program, asked, kind) == [1, 3, (["a", "c"], "[1]", 3), True, 4]


@pytest.mark.parametrize("machine", MACHINES)
def test_no_number_is_listed_twice(machine: str) -> None:
    place = MACHINES.index(machine)
    from stillroom.evaluation.grading.code import seccomp

    numbers = [one[place] for one in (*seccomp._ALLOWED.values(), *seccomp._ALLOWED_WITH.values())]
    numbers = [number for number in numbers if number is not None]
    assert len(numbers) == len(set(numbers))
    filters = [single_process_filter(machine, threads=threads) for threads in (True, False)]
    assert all(filters) and filters[0] != filters[1]


def test_where_nobody_can_build_a_jail_root_has_one_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        pytest.skip("only root can become nobody")
    jail.close_jails()
    monkeypatch.setattr(jail, "_DEMOTION", "raise SystemExit(1)")
    monkeypatch.setattr(jail, "_demotable", set())
    every: tuple[Isolation, ...] = ("bubblewrap", "namespaces")
    kinds = [kind for kind in every if why_not(kind) is None]
    for kind in kinds:
        assert values("import threading", ["1 + 1"], kind) == [2]
        assert values(COUNTS, ["most(thread)"], kind) == [0]
    jail.close_jails()
