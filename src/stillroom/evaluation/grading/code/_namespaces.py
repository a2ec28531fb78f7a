"""Builds a jail from user namespaces and becomes a Python in it: what bubblewrap does, where there is none.

Run by this file's text alone, with one argument, JSON: ``binds`` (outside, inside) pairs to be seen read-only,
``links`` (where, to) pairs, ``staging`` (an empty-able folder) and ``command``. Whoever holds standard input and output
talks to that command. Imports nothing that is not in the standard library.
"""

import ctypes
import json
import os
import platform
import struct
import sys

_NEW_NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
_BIND, _RECURSIVE, _PRIVATE, _REMOUNT = 4096, 16384, 1 << 18, 32
_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR, _WHOLE_TREE, _HERE = 442, 0x8000, -100
_CAPABILITIES, _AMBIENT, _RAISE, _DEATH_SIGNAL = 0x20080522, 47, 2, 1
_NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)


def _become_nobody():
    """New namespaces of every kind; outside them nothing is gained, inside them this process may mount."""
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_NAMESPACES)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_NOBODY} {user} 1"),
        ("gid_map", f"{_NOBODY} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _furnish(root, binds, links):
    """An empty read-only root with the folders that are to be seen."""
    _call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    _call("mount", b"root", root.encode(), b"tmpfs", _NO_SUID | _NO_DEVICES, b"size=1m,mode=755")
    for outside, inside in binds:
        place = root + inside
        os.makedirs(place, exist_ok=True)
        _call("mount", outside.encode(), place.encode(), None, _BIND | _RECURSIVE, None)
        attributes = struct.pack("=QQQQ", _READ_ONLY | _NO_SUID | _NO_DEVICES, 0, 0, 0)
        _call("syscall", _MOUNT_SETATTR, _HERE, place.encode(), _WHOLE_TREE, attributes, ctypes.c_size_t(32))
    for where, to in links:
        os.symlink(to, root + where)
    for name in ("/tmp", "/before"):
        os.mkdir(root + name)


def _move_into(root):
    """Makes it the root, lets go of all that was there before, and closes it for writing."""
    _call("syscall", _PIVOT_ROOT[platform.machine()], root.encode(), f"{root}/before".encode())
    os.chdir("/")
    _call("umount2", b"/before", 2)
    os.rmdir("/before")
    _call("mount", None, b"/", None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES, None)
    _call("sethostname", b"sandbox", 7)


def _keep_capabilities():
    """Those inside the namespaces outlive the next execve, as bubblewrap's --cap-add does."""
    every = 0xFFFFFFFF
    header, data = struct.pack("=Ii", _CAPABILITIES, 0), ctypes.create_string_buffer(24)
    _call("capget", header, data)
    effective, permitted, _, effective_high, permitted_high, _ = struct.unpack("=6I", data.raw)
    inherited = struct.pack(
        "=6I", effective, permitted, permitted & every, effective_high, permitted_high, permitted_high & every
    )
    _call("capset", header, inherited)
    for number in range(64):
        _libc.prctl(_AMBIENT, _RAISE, number, 0, 0)


def _main():
    asked = json.loads(sys.argv[1])
    _become_nobody()
    child = os.fork()
    if child:
        os.close(0)
        os.close(1)
        _, status = os.waitpid(child, 0)
        os._exit(1 if status else 0)
    _call("prctl", _DEATH_SIGNAL, 9, 0, 0, 0)
    os.setsid()
    _furnish(asked["staging"], asked["binds"], asked["links"])
    _move_into(asked["staging"])
    _keep_capabilities()
    command = asked["command"]
    os.execve(command[0], command, {"LD_LIBRARY_PATH": asked["libraries"]})


try:
    _main()
except OSError as error:
    print(f"{error.filename or 'system call'}: {error.strerror}", file=sys.stderr)
    os._exit(1)
