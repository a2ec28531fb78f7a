"""File systems that lack some calls, by making the calls fail: for the tests of this process and for child processes.

``python lacking.py CALLS ERRNO COMMAND...`` runs stillroom's command line where the calls fail.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

CODES = (
    errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.ENOLCK, errno.EINVAL, errno.EBADF, errno.EACCES,
    errno.EXDEV, errno.ENOTTY, errno.EMFILE,
)  # fmt: skip


def _of_folders(real: Callable[..., Any], fails: Callable[..., Any]) -> Callable[..., Any]:
    return lambda source, target, **options: (fails if os.path.isdir(source) else real)(source, target, **options)


def _over_others(real: Callable[..., Any], fails: Callable[..., Any]) -> Callable[..., Any]:
    return lambda source, target, **options: (fails if os.path.lexists(target) else real)(source, target, **options)


CALLS = ("link", "flock", "no fcntl", "fsync", "chmod", "utime", "symlink", "rename of folders", "rename over")


@contextmanager
def lacking(call: str, code: int) -> Iterator[None]:
    """The block runs where a call fails with an error number."""

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    with ExitStack() as stack:

        def put(target: str, value: Any) -> None:
            stack.enter_context(mock.patch(target, value))

        if call == "flock":
            put("fcntl.flock", fails)
        elif call == "no fcntl":
            put("stillroom.disk._fcntl", None)
        elif call == "rename of folders":
            put("os.rename", _of_folders(os.rename, fails))
            put("os.replace", _of_folders(os.replace, fails))
        elif call == "rename over":
            put("os.rename", _over_others(os.rename, fails))
            put("os.replace", _over_others(os.replace, fails))
        else:
            put(f"os.{call}", fails)
        yield


if __name__ == "__main__":
    import stillroom.disk  # noqa: F401
    from stillroom.cli.main import run

    with ExitStack() as everything:
        for one in sys.argv[1].split(","):
            everything.enter_context(lacking(one, int(sys.argv[2])))
        run(sys.argv[3:])
