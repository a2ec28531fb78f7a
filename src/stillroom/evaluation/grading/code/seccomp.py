"""A system-call filter for judged programs: what is not on its list does not exist for them.

Memory is bounded by a limit on the address space, which counts neither what the kernel keeps for a process (shared
segments, semaphores, queues, locks, timers, sockets) nor other processes; so the list holds no call that makes any of
these without a bound. The filter is a classic BPF program as ``seccomp(2)`` takes it: a list of instructions (code,
jump if true, jump if false, constant). Imports nothing of stillroom.
"""

from __future__ import annotations

import errno
import platform
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CALL, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; an argument has 8 bytes, the low first
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000  # calls of the x32 layout, numbered from here, would pass by a list of numbers
_NEWER = 424  # from here on calls have one number on every machine, and the C library copes where one does not exist

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}

_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    # name: (number on x86_64, number on aarch64)
    # files: of the read-only root, and of a scratch folder that is bounded in bytes and names
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, None),
    "openat": (257, 56),
    "creat": (85, None),
    "close": (3, 57),
    "close_range": (436, 436),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "sendfile": (40, 71),
    "copy_file_range": (326, 285),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "fadvise64": (221, 223),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "umask": (95, 166),
    "utimensat": (280, 88),
    # descriptors: few (RLIMIT_NOFILE), each with a buffer that the kernel bounds
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "getsockopt": (55, 209),
    # memory, which RLIMIT_AS bounds
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "msync": (26, 227),
    "madvise": (28, 233),
    # time, signals, threads (RLIMIT_NPROC) and oneself
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "pause": (34, None),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "alarm": (37, None),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "arch_prctl": (158, None),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getpgid": (121, 155),
    "getpgrp": (111, None),
    "getsid": (124, 156),
    "getpriority": (140, 141),
    "getcpu": (309, 168),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "prlimit64": (302, 261),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "capget": (125, 90),
}
_ALLOWED_WITH: dict[str, tuple[int | None, int | None, int, tuple[int, ...]]] = {
    # name: (number on x86_64, number on aarch64, which argument must have one of these values)
    # F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC F_GETPIPE_SZ: no locks, leases, signals, larger pipes
    "fcntl": (72, 25, 1, (0, 1, 2, 3, 4, 1030, 1032)),
    # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
    "ioctl": (16, 29, 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
    # PR_SET_NAME PR_GET_NAME PR_GET_NO_NEW_PRIVS PR_SET_VMA
    "prctl": (157, 167, 0, (15, 16, 39, 0x53564D41)),
    # AF_UNIX: a pair that sees nobody else, which an event loop wakes itself with
    "socketpair": (53, 199, 0, (1,)),
}
MACHINES = tuple(_ARCHITECTURES)


def allowed_calls(machine: str) -> dict[int, tuple[int, ...] | None]:
    """Number → None where the call is allowed as it is, else the values that its telling argument may have.

    ``clone``, which is allowed for threads alone, is not among them.
    """
    place = MACHINES.index(machine)
    plain = {numbers[place]: None for numbers in _ALLOWED.values()}
    told = {found[place]: found[3] for found in _ALLOWED_WITH.values()}
    return {number: values for number, values in (plain | told).items() if isinstance(number, int)}


def single_process_filter(machine: str | None = None, *, threads: bool = True) -> bytes | None:
    """The filter for a machine (default: this one) as bytes; None where its call numbers are not known here.

    What is refused answers with EPERM, or ENOSYS where the C library has another way. ``threads`` lets them be made.
    """
    machine = machine or platform.machine()
    if machine not in MACHINES:
        return None
    place = MACHINES.index(machine)
    refuse, allow = (_RETURN, 0, 0, _REFUSE | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _CALL),
        (_AT_LEAST, 0, 1, _X32),
        refuse,
    ]
    for numbers in _ALLOWED.values():
        if (number := numbers[place]) is not None:
            program += [(_EQUAL, 0, 1, number), allow]
    for *numbers, argument, values in _ALLOWED_WITH.values():
        number = numbers[place]
        assert number is not None
        program += [(_EQUAL, 0, 2 * len(values) + 2, number), (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
        for value in values:
            program += [(_EQUAL, 0, 1, value), allow]
        program.append(refuse)
    if threads:
        program += [(_EQUAL, 0, 4, _CLONE[machine]), (_LOAD, 0, 0, _ARGUMENTS)]
        program += [(_ANY_BIT, 1, 0, _CLONE_THREAD), refuse, allow]
    # clone3 is among the newer ones: it hides its flags behind a pointer, and without it the C library takes clone.
    program += [(_AT_LEAST, 0, 1, _NEWER), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS), refuse]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
