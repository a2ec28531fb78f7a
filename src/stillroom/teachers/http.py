"""Files behind http and https, whole or by range, with the standard library alone.

Fsspec reads them as well where ``aiohttp`` is installed; a store that somebody serves should not need it.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stillroom.types import UserError

SECONDS = 60.0
"""Longest time that a server may be silent."""
AT_ONCE = 8
"""Ranges that are asked for side by side."""
SCHEMES = ("http://", "https://")


class HttpFiles:
    """The part of an fsspec filesystem that a store needs; paths are whole URLs."""

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """A file, or its bytes from ``start`` to before ``end`` (fewer where it ends).

        Raises ``FileNotFoundError`` where there is none, ``NotImplementedError`` where the server knows no ranges, and
        ``UserError`` where it does not answer.
        """
        headers = {} if start is None or end is None else {"Range": f"bytes={start}-{end - 1}"}
        try:
            with urllib.request.urlopen(urllib.request.Request(path, headers=headers), timeout=SECONDS) as answer:
                if headers and answer.status != http.client.PARTIAL_CONTENT:
                    raise NotImplementedError(f"{path}: the server gives whole files only")
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code in (http.client.NOT_FOUND, http.client.GONE):
                raise FileNotFoundError(path) from error
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return b""
            raise UserError(f"{path}: the server answered {error.code} {error.reason}; try again later.") from error
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"{path}: cannot be read ({error}); check the address and the connection.") from error

    def cat_ranges(
        self, paths: Sequence[str], starts: Sequence[int], ends: Sequence[int], on_error: str = "return"
    ) -> list[Any]:
        """Parts of several files, fetched side by side; an error stands in the place of its part."""

        def one(path: str, start: int, end: int) -> bytes | Exception:
            try:
                return self.cat_file(path, start, end)
            except (OSError, NotImplementedError, UserError) as error:
                return error

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, paths, starts, ends))
