"""A system-call filter for judged programs: no new process, no socket, no way to look into another process.

The filter is a classic BPF program as ``seccomp(2)`` takes it: a list of instructions (code, jump if true, jump if
false, constant). Imports nothing of stillroom.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import NamedTuple

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CALL, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000  # calls of the x32 layout, numbered from here, would pass by a list of numbers


class _Calls(NamedTuple):
    architecture: int
    clone: int
    clone3: int
    refused: tuple[int, ...]


_BY_MACHINE = {
    # fork vfork ptrace mount umount2 pivot_root chroot unshare setns add_key request_key keyctl bpf perf_event_open
    # userfaultfd io_uring_setup process_vm_readv process_vm_writev socket
    "x86_64": _Calls(
        0xC000003E,
        56,
        435,
        (57, 58, 101, 165, 166, 155, 161, 272, 308, 248, 249, 250, 321, 298, 323, 425, 310, 311, 41),
    ),
    # the same without fork and vfork, which this machine does not have
    "aarch64": _Calls(
        0xC00000B7, 220, 435, (117, 40, 39, 41, 51, 97, 268, 217, 218, 219, 280, 241, 282, 425, 270, 271, 198)
    ),
}


def single_process_filter(machine: str | None = None) -> bytes | None:
    """The filter for a machine (default: this one) as bytes; None where its call numbers are not known here.

    Threads may be made; processes, sockets, namespaces and mounts may not, and answer with EPERM.
    """
    calls = _BY_MACHINE.get(machine or platform.machine())
    if calls is None:
        return None
    refuse = (_RETURN, 0, 0, _REFUSE | errno.EPERM)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, calls.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _CALL),
        (_AT_LEAST, 0, 1, _X32),
        refuse,
    ]
    for number in calls.refused:
        program += [(_EQUAL, 0, 1, number), refuse]
    # clone3 hides its flags behind a pointer; told that it does not exist, the C library falls back to clone.
    program += [(_EQUAL, 0, 1, calls.clone3), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)]
    program += [
        (_EQUAL, 0, 3, calls.clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 1, 0, _CLONE_THREAD),
        refuse,
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
