"""Becomes nobody and then another command: the kernel bounds what any user may have, but for the machine's own root.

Run by this file's text alone, as root, with one argument, JSON: ``python`` (a Python's folder that only root may see,
or null), ``staging`` (an empty-able folder: that Python is then at ``staging``/python for the command and those it
starts), ``libraries`` and ``command``. Imports nothing that is not in the standard library.
"""

import ctypes
import json
import os
import sys

_NEW_MOUNTS, _BIND, _RECURSIVE, _PRIVATE = 0x00020000, 4096, 16384, 1 << 18
_NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)


def _show(python, staging):
    _call("unshare", _NEW_MOUNTS)
    _call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    _call("mount", b"staging", staging.encode(), b"tmpfs", 0, b"size=64k,mode=755")
    os.mkdir(f"{staging}/python")
    _call("mount", python.encode(), f"{staging}/python".encode(), None, _BIND | _RECURSIVE, None)


def _main():
    asked = json.loads(sys.argv[1])
    if asked["python"]:
        _show(asked["python"], asked["staging"])
    os.chdir("/")
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    os.execve(asked["command"][0], asked["command"], {"LD_LIBRARY_PATH": asked["libraries"]})


try:
    _main()
except OSError as error:
    print(f"{error.filename or 'system call'}: {error.strerror}", file=sys.stderr)
    os._exit(1)
