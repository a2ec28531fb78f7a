"""Serves programs inside a jail, by this file's text alone: each runs in a process and namespaces of its own.

A message on standard input is 4 bytes of length (big-endian) and JSON. The first holds the system-call ``filter``
(hexadecimal); each that follows holds ``limits`` (see ``Limits``), ``before``, ``program``, ``after`` and
``expressions``. The answer to each is one byte of status, 4 bytes of length and the report: a line per expression, its
value in the words of ``values`` where it has one, nothing where it raises. Imports nothing that is not in the standard
library, and knows no right answer.

The server keeps the capabilities that it has inside the jail, to make namespaces; a program has none, sees no process
but its own, and finds a scratch folder that nobody has used.
"""

import array
import ast
import bisect  # noqa: F401  what programs often import is imported once, here
import collections
import collections.abc
import ctypes
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools  # noqa: F401
import gc
import heapq  # noqa: F401
import itertools  # noqa: F401
import json
import math
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
import types
import typing  # noqa: F401

_RAN, _DIED, _TIMEOUT, _OUTPUT = range(4)
_NEW_NAMESPACES = 0x00020000 | 0x08000000 | 0x20000000  # mounts, IPC, processes
_NO_NEW_PRIVILEGES, _SECCOMP, _SUBREAPER, _DROP_BOUND = 38, 22, 36, 24
_NO_SUID_NO_DEVICES = 2 | 4
_CAPABILITIES = 0x20080522
_MOST_THREADS, _MOST_FILES = 128, 1024
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
        ("RLIMIT_NPROC", _MOST_THREADS),
        ("RLIMIT_SIGPENDING", 64),
        ("RLIMIT_MSGQUEUE", 0),
        ("RLIMIT_MEMLOCK", 0),
        ("RLIMIT_CORE", 0),
    ):
        resource.setrlimit(getattr(resource, name), (value, value))


def _confine(limits, code, results, printed):
    """Leaves this process, the first of its namespace, with a fresh scratch folder, its limits and nothing else.

    Its descriptors are ends of pipes made for it alone: whatever it does to one it does to nobody else's file.
    """
    scratch = f"size={limits['file_bytes']},nr_inodes={_MOST_FILES},mode=777".encode()
    _call("mount", b"scratch", b"/tmp", b"tmpfs", _NO_SUID_NO_DEVICES, scratch)
    os.chdir("/tmp")
    nothing, told = os.pipe()
    for given, own in ((nothing, 0), (printed, 1), (printed, 2)):
        os.dup2(given, own)
    os.close(told)
    os.closerange(3, results)
    os.closerange(results + 1, 256)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _limit(limits)
    _drop_capabilities()
    _install(code)


def _sequence(opening, closing):
    return lambda value, base: opening + ", ".join(map(_text, base.__iter__(value))) + closing


def _mapping(value, base):
    return "{" + ", ".join(f"{_text(key)}: {_text(one)}" for key, one in base.items(value)) + "}"


def _as(convert):
    """A value that Python holds equal to a plain one is told as the plain one."""
    return lambda value, base: _text(convert(value))


def _whole(value, base):
    number = base.__index__(value)
    return int.__repr__(number) if -_LARGE < number < _LARGE else hex(number)  # more digits than Python would read


def _tuple(value, base):
    inside = [_text(one) for one in base.__iter__(value)]
    return f"({inside[0]},)" if len(inside) == 1 else "(" + ", ".join(inside) + ")"


def _set(value, base):
    return _sequence("{", "}")(value, base) if base.__len__(value) else "set()"


def _own(value, base):
    return base.__repr__(value)


def _complex(value, base):
    parts = base.__complex__(value)
    finite = math.isfinite(parts.real) and math.isfinite(parts.imag)
    return repr(parts) if finite else f"complex({parts.real}, {parts.imag})"


def _fields(value):
    inside = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare}
    return f"dataclass_instance({type(value).__qualname__!r}, {_text(inside)})"


def _held(view):
    return bytes(view) if view.format in "Bbc" else array.array(view.format, view.tolist())


_LARGE, _NAN = 10**4000, math.nan
_WRITERS = (
    (type(None), lambda value, base: "None"),
    (bool, _own),
    (int, _whole),
    (float, lambda value, base: "math.nan" if value is _NAN else base.__repr__(value)),  # in a list it equals itself
    (complex, _complex),
    (str, _own),
    (bytes, _own),
    (list, _sequence("[", "]")),
    (tuple, _tuple),
    (set, _set),
    (frozenset, lambda value, base: f"frozenset({_set(value, base)})"),
    (collections.Counter, lambda value, base: f"Counter({_mapping(value, dict)})"),
    (collections.OrderedDict, lambda value, base: f"OrderedDict({_text(list(base.items(value)))})"),
    (dict, _mapping),
    (type(...), lambda value, base: "..."),
    (bytearray, lambda value, base: f"bytearray({bytes(value)!r})"),
    (memoryview, lambda value, base: _text(_held(value))),
    (range, _own),
    (slice, lambda value, base: f"slice({_text(value.start)}, {_text(value.stop)}, {_text(value.step)})"),
    (collections.deque, lambda value, base: f"deque({_text(list(base.__iter__(value)))})"),
    (array.array, lambda value, base: f"array({value.typecode!r}, {_text(base.tolist(value))})"),
    (fractions.Fraction, lambda value, base: f"Fraction({value.numerator}, {value.denominator})"),
    (decimal.Decimal, lambda value, base: f"Decimal({base.__str__(value)!r})"),
    (datetime.datetime, _own),
    (datetime.date, _own),
    (datetime.time, _own),
    (datetime.timedelta, _own),
    (datetime.timezone, _own),
    (enum.Enum, lambda value, base: f"enum_member({type(value).__qualname__!r}, {str(value._name_)!r})"),
    (type, lambda value, base: f"type_named({value.__module__!r}, {value.__qualname__!r})"),
    (collections.abc.KeysView, _as(set)),
    (collections.abc.ItemsView, _as(set)),
    (types.MappingProxyType, _as(dict)),
    (collections.UserDict, _as(lambda value: dict(value.items()))),
    (collections.ChainMap, _as(lambda value: dict(value.items()))),
    (collections.UserList, _as(list)),
    (collections.UserString, _as(str)),
)


def _text(value):
    """A value for the judge, by what it holds and not by what its class says of itself; ``TypeError`` without one."""
    kind = type(value)
    for base, write in _WRITERS:
        if issubclass(kind, base):
            return write(value, base)
    if dataclasses.is_dataclass(kind) and kind.__dataclass_params__.eq:
        return _fields(value)
    raise TypeError(kind)


def _execute(request):
    """The names that a program leaves, with what is to be there before it and after it.

    A statement of ``before`` that misses a name waits for the program to define it.
    """
    namespace = {"__name__": "__main__"}
    waiting = []
    for statement in ast.parse(request["before"]).body:
        code = compile(ast.Module([statement], []), "before.py", "exec")
        try:
            exec(code, namespace)
        except NameError:
            waiting.append(code)
    exec(compile(request["program"], "program.py", "exec"), namespace)
    for code in waiting:
        exec(code, namespace)
    exec(compile(request["after"], "after.py", "exec"), namespace)
    return namespace


def _run(request, code, results, printed):
    """The judged process: never returns."""
    status = 3
    try:
        _confine(request["limits"], code, results, printed)
        random.seed(0)
        namespace = _execute(request)
        for expression in request["expressions"]:
            try:
                line = _text(eval(expression, namespace)).encode()
            except BaseException:
                line = b""
            os.write(results, line.replace(b"\n", b" ") + b"\n")
        status = 0
    except BaseException:  # also SystemExit: a program that leaves has defined nothing
        pass
    finally:
        os._exit(status)


def _start(request, code, results, printed):
    """Starts the judged process as the first of new namespaces; it becomes a child of the server."""
    reading, telling = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            _call("unshare", _NEW_NAMESPACES)
            judged = os.fork()
            if judged == 0:
                _run(request, code, results, printed)
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
    prints, printed = os.pipe()
    judged = _start(request, code, results, printed)
    os.close(results)
    os.close(printed)
    status, report = _DIED, b""
    if judged is not None:
        status, report = _listen(reading, prints, judged, deadline, most)
    os.close(reading)
    os.close(prints)
    if judged is None:
        return status, report
    if status != _RAN:
        os.kill(judged, signal.SIGKILL)
    _, code = os.waitpid(judged, 0)
    return (_DIED if status == _RAN and code else status), report


def _listen(reading, prints, judged, deadline, most):
    """Reads until the program has ended, its time is over or it has said too much; what it prints goes nowhere."""
    report, ended = b"", os.pidfd_open(judged)
    awaited = {reading, prints, ended}
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select(awaited, [], [], left)
            if prints in ready and not os.read(prints, 1 << 16):
                awaited.discard(prints)
            if reading in ready:
                piece = os.read(reading, 1 << 16)
                report += piece
                if len(report) > most:
                    return _OUTPUT, report[:most]
                if not piece:
                    awaited.discard(reading)
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
