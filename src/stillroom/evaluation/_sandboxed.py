"""Runs inside the sandbox, by the file's text alone: limits itself, runs a program, reports what expressions give.

Reads one JSON object from standard input: ``limits`` (see ``Limits``), ``program`` and ``expressions``. Writes one
line per expression to standard output: its repr where it has a value, nothing where it raises. Imports nothing that is
not in the standard library, and knows no right answer.
"""

import json
import os
import resource
import sys


def _limit(limits: dict) -> None:
    for name, value in (
        ("RLIMIT_AS", limits["memory_bytes"]),
        ("RLIMIT_CPU", limits["cpu_seconds"]),
        ("RLIMIT_FSIZE", limits["file_bytes"]),
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_CORE", 0),
    ):
        resource.setrlimit(getattr(resource, name), (value, value))


def _main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    results = os.dup(1)
    os.dup2(2, 1)  # what the program prints goes where its errors go: nowhere
    _limit(request["limits"])
    namespace = {"__name__": "__main__"}
    try:
        exec(compile(request["program"], "program.py", "exec"), namespace)
    except BaseException:  # also SystemExit: a program that leaves has defined nothing
        os._exit(3)
    for expression in request["expressions"]:
        try:
            line = repr(eval(expression, namespace)).encode()
        except BaseException:
            line = b""
        os.write(results, line.replace(b"\n", b" ") + b"\n")
    os._exit(0)


_main()
