"""Serves programs inside a jail, by this file's text alone: each runs in a process and namespaces of its own.

A message on standard input is 4 bytes of length (big-endian) and JSON. The first holds the system-call ``filter``
(hexadecimal); each that follows holds ``limits`` (see ``Limits``), ``program`` and ``expressions``. The answer to each
is one byte of status, 4 bytes of length and the report: a line per expression, its repr where it has a value, nothing
where it raises. Imports nothing that is not in the standard library, and knows no right answer.

The server keeps the capabilities that it has inside the jail, to make namespaces; a program has none, sees no process
but its own, and finds a scratch folder that nobody has used.
"""

import bisect  # noqa: F401  what programs often import is imported once, here
import collections  # noqa: F401
import ctypes
import functools  # noqa: F401
import gc
import heapq  # noqa: F401
import itertools  # noqa: F401
import json
import math  # noqa: F401
import os
import random
import re  # noqa: F401
import resource
import select
import signal
import string  # noqa: F401
import struct
import sys
import time
import typing  # noqa: F401

_RAN, _DIED, _TIMEOUT, _OUTPUT = range(4)
_NEW_NAMESPACES = 0x00020000 | 0x08000000 | 0x20000000  # mounts, IPC, processes
_NO_NEW_PRIVILEGES, _SECCOMP, _SUBREAPER, _DROP_BOUND = 38, 22, 36, 24
_NO_SUID_NO_DEVICES = 2 | 4
_CAPABILITIES = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def _read(num):
    data = b""
    while len(data) < num:
        piece = os.read(0, num - len(data))
        if not piece:
            os._exit(0)  # the judge has gone
        data += piece
    return data


def _message():
    (length,) = struct.unpack(">I", _read(4))
    return json.loads(_read(length))


def _write(data):
    while data:
        data = data[os.write(1, data) :]


def _drop_capabilities():
    for number in range(64):
        _libc.prctl(_DROP_BOUND, number, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITIES, 0)
    _call("capset", header, bytes(24))


def _install(code):
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(kept))
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call("prctl", _SECCOMP, 2, program, 0, 0)


def _limit(limits):
    for name, value in (
        ("RLIMIT_AS", limits["memory_bytes"]),
        ("RLIMIT_CPU", limits["cpu_seconds"]),
        ("RLIMIT_FSIZE", limits["file_bytes"]),
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_CORE", 0),
    ):
        resource.setrlimit(getattr(resource, name), (value, value))


def _confine(limits, code, results):
    """Leaves this process, the first of its namespace, with a fresh scratch folder, its limits and nothing else."""
    scratch = f"size={limits['file_bytes']},mode=777".encode()
    _call("mount", b"scratch", b"/tmp", b"tmpfs", _NO_SUID_NO_DEVICES, scratch)
    os.chdir("/tmp")
    for own in (0, 1):
        os.dup2(2, own)  # what the program prints goes where its errors go: nowhere
    os.closerange(3, results)
    os.closerange(results + 1, 256)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _limit(limits)
    _drop_capabilities()
    _install(code)


def _run(request, code, results):
    """The judged process: never returns."""
    status = 3
    try:
        _confine(request["limits"], code, results)
        random.seed(0)
        namespace = {"__name__": "__main__"}
        exec(compile(request["program"], "program.py", "exec"), namespace)
        for expression in request["expressions"]:
            try:
                line = repr(eval(expression, namespace)).encode()
            except BaseException:
                line = b""
            os.write(results, line.replace(b"\n", b" ") + b"\n")
        status = 0
    except BaseException:  # also SystemExit: a program that leaves has defined nothing
        pass
    finally:
        os._exit(status)


def _start(request, code, results):
    """Starts the judged process as the first of new namespaces; it becomes a child of the server."""
    reading, telling = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            _call("unshare", _NEW_NAMESPACES)
            judged = os.fork()
            if judged == 0:
                _run(request, code, results)
            os.write(telling, struct.pack(">I", judged))
        finally:
            os._exit(0)
    os.close(telling)
    os.waitpid(between, 0)
    told = os.read(reading, 4)
    os.close(reading)
    return struct.unpack(">I", told)[0] if len(told) == 4 else None


def _judge(request, code):
    """Status and report of one program, which is gone when this returns."""
    deadline = time.monotonic() + request["limits"]["wall_seconds"]
    most = request["limits"]["output_bytes"]
    reading, results = os.pipe()
    judged = _start(request, code, results)
    os.close(results)
    if judged is None:
        os.close(reading)
        return _DIED, b""
    status, report = _listen(reading, judged, deadline, most)
    os.close(reading)
    if status != _RAN:
        os.kill(judged, signal.SIGKILL)
    _, code = os.waitpid(judged, 0)
    return (_DIED if status == _RAN and code else status), report


def _listen(reading, judged, deadline, most):
    """Reads until the program has ended, its time is over or it has said too much."""
    report, ended = b"", os.pidfd_open(judged)
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([reading, ended], [], [], left)
            if reading in ready:
                piece = os.read(reading, 1 << 16)
                report += piece
                if len(report) > most:
                    return _OUTPUT, report[:most]
                if not piece:
                    ready, _, _ = select.select([ended], [], [], max(0.0, deadline - time.monotonic()))
                    return (_RAN if ready else _TIMEOUT), report
            elif ended in ready:
                return _RAN, report
        return _TIMEOUT, report
    finally:
        os.close(ended)


def _serve():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _call("prctl", _SUBREAPER, 1, 0, 0, 0)
    code = bytes.fromhex(_message()["filter"])
    gc.collect()
    gc.freeze()
    while True:
        status, report = _judge(_message(), code)
        _write(struct.pack(">BI", status, len(report)) + report)


if __name__ == "__main__":
    sys.stdin = sys.stdout = None
    _serve()
