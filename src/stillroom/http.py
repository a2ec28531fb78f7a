"""Files behind addresses; those of http whole or by range, with the standard library alone, bounded in bytes and time.

Fsspec reads them as well where ``aiohttp`` is installed; a store that somebody serves should not need it, and a server
that never ends its answer, or sends a byte a minute, should not hold a run.
"""

from __future__ import annotations

import base64
import http.client
import io
import os
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from stillroom.types import UserError

SECONDS = 60.0
"""Longest time that an answer may take beside ``SLOWEST``."""
SLOWEST = 4096.0
"""Fewest bytes per second of an answer."""
PAUSES = (0.5, 2.0)
"""Seconds before an answer that broke off is asked for again."""
AT_ONCE = 8
"""Ranges that are asked for side by side."""
SCHEMES = ("http://", "https://")
LONGEST = 1 << 24
"""Bytes of a file whose size nothing is known of."""
_BESIDE = 1 << 17
"""Bytes of an answer before the file: what makes up headers."""
_PIECE = 1 << 18
_AHEAD = 1 << 22  # bytes that a file which is read from one end to the other is asked for at a time
_PASSING = {http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS}


def cache_folder(kind: str) -> Path:
    """Where files of a kind that were fetched are kept: under ``$STILLROOM_CACHE``, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("STILLROOM_CACHE") or Path(base) / "stillroom") / kind


def printable_url(url: str) -> str:
    """An address without the name, password and signature that it may hold, to be printed."""
    scheme, sign, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{sign}{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}" if sign else url


class HttpFiles:
    """The part of an fsspec filesystem that readers need; paths are whole URLs.

    ``longest`` is the most bytes that a file may have.
    """

    def __init__(self) -> None:
        self.longest = LONGEST

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """A file, or its bytes from ``start`` to before ``end`` (fewer where it ends).

        Raises ``FileNotFoundError`` where there is none, ``NotImplementedError`` where the server gives no ranges, or
        others than were asked for, and ``UserError`` where it does not answer as it should.
        """
        if start is None or end is None:
            return self._asked(path, {}, self.longest, lambda answer: b"".join(_body(answer, self.longest)))

        def part(answer: http.client.HTTPResponse) -> bytes:
            _check_range(answer, start, end)
            return b"".join(_body(answer, end - start))

        return self._asked(path, {"Range": f"bytes={start}-{end - 1}"}, end - start, part)

    def info(self, path: str) -> Mapping[str, int | str | bool | None]:
        """What a server says of a file: ``size`` in bytes, ``changed`` (its tag or date), whether it has ``ranges``."""

        def said(answer: http.client.HTTPResponse) -> Mapping[str, int | str | bool | None]:
            has_ranges = answer.status == http.client.PARTIAL_CONTENT
            total = answer.headers.get("Content-Range", "").rpartition("/")[2] if has_ranges else str(answer.length)
            changed = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            return {"size": int(total) if total.isdecimal() else None, "changed": changed, "ranges": has_ranges}

        return self._asked(path, {"Range": "bytes=0-0"}, self.longest, said) or {
            "size": 0,
            "changed": "",
            "ranges": False,
        }

    def open(self, path: str, mode: str = "rb", block_size: int = _AHEAD) -> BinaryIO:
        """A file to read and seek in: by range, or from a copy where the server gives whole files only."""
        found = self.info(path)
        if found["ranges"] and isinstance(size := found["size"], int):
            return cast(BinaryIO, io.BufferedReader(_Ranges(self, path, size), block_size))
        copy = tempfile.NamedTemporaryFile()  # noqa: SIM115
        self.get_file(path, copy.name)
        return cast(BinaryIO, copy)

    def get_file(self, path: str, target: str) -> None:
        """Writes a file to a local path, piece by piece."""

        def write(answer: http.client.HTTPResponse) -> None:
            with Path(target).open("wb") as stream:
                for piece in _body(answer, self.longest):
                    stream.write(piece)

        self._asked(path, {}, self.longest, write)

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

    def _asked(self, url: str, headers: dict[str, str], longest: int, read: Callable[[Any], Any]) -> Any:
        """What ``read`` makes of the server's answer; one that breaks off is asked for again."""
        for pause in (*PAUSES, None):
            try:
                with _opener(longest).open(_request(url, headers), timeout=SECONDS) as answer:
                    return read(answer)
            except urllib.error.HTTPError as error:
                error.close()
                if headers and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return b""
                if pause is None or (error.code < 500 and error.code not in _PASSING):
                    raise _refused(url, error) from None
            except (http.client.HTTPException, ConnectionResetError, BrokenPipeError) as error:
                if pause is None or isinstance(error, http.client.InvalidURL):
                    raise _unread(url, error) from error
            except (OSError, ValueError) as error:  # of addresses and numbers that are none
                raise _unread(url, error) from error
            time.sleep(pause)


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of an address and the path in it; a ``UserError`` where its driver is missing."""
    if url.lower().startswith(SCHEMES):
        return HttpFiles(), url
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(
            f"{printable_url(url)}: no driver for such an address is installed ({error}); install it, for s3:// by "
            "pip install 'stillroom[s3]'."
        ) from error
    except Exception as error:  # drivers look for keys and settings and raise classes of their own
        why = str(error).replace(url, printable_url(url)) or type(error).__name__
        raise UserError(
            f"{printable_url(url)}: cannot be opened ({why}); expected a folder or an fsspec address."
        ) from error


class _Ranges(io.RawIOBase):
    """A file of a server that gives ranges."""

    def __init__(self, files: HttpFiles, path: str, size: int) -> None:
        self._files, self._path, self._size, self._place = files, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._place + len(buffer), self._size)
        data = self._files.cat_file(self._path, self._place, end) if end > self._place else b""
        if len(data) < end - self._place:
            raise OSError(f"it ends {end - self._place - len(data)} bytes early")
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _request(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """The request, a name and password of the address in its header; they are not sent on to another address."""
    parts = urlsplit(url)
    user, sign, place = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=place)), headers=headers)
    if sign:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(unquote(user).encode()).decode()}")
    return request


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
    said = f"{printable_url(url)}: the server answered {error.code} {str(error.reason).partition(chr(10))[0]}"
    if error.code in (http.client.NOT_FOUND, http.client.GONE):
        return FileNotFoundError(printable_url(url))
    if error.code < http.client.BAD_REQUEST:
        return UserError(f"{said}, a redirection that leads nowhere; check the address.")
    if error.code < http.client.INTERNAL_SERVER_ERROR and error.code not in _PASSING:
        return UserError(f"{said}; check the address and the right to read it.")
    return UserError(f"{said}; try again later.")


def _unread(url: str, error: Exception) -> UserError:
    why = getattr(error, "reason", None) or error
    return UserError(f"{printable_url(url)}: cannot be read ({why}); check the address and the connection.")


def _check_range(answer: http.client.HTTPResponse, start: int, end: int) -> None:
    """Refuses an answer that is not the part that was asked for; a server need not say which part it gives."""
    if answer.status != http.client.PARTIAL_CONTENT:
        raise NotImplementedError("the server gives whole files only")
    unit, _, span = answer.headers.get("Content-Range", f"bytes {start}-{end - 1}/*").partition(" ")
    first, _, last = span.partition("/")[0].partition("-")
    is_asked = unit == "bytes" and first.strip() == str(start) and last.strip().isdecimal() and int(last) < end
    is_longer = answer.length is not None and answer.length > end - start
    if not is_asked or is_longer or answer.headers.get("Content-Encoding", "identity") != "identity":
        raise NotImplementedError("the server gives other parts than were asked for")


def _body(answer: http.client.HTTPResponse, longest: int) -> Iterator[bytes]:
    """The bytes of an answer, all of them and no more than may be."""
    encoding, length, count = answer.headers.get("Content-Encoding", "identity"), answer.length, 0
    if encoding != "identity":
        raise OSError(f"it is sent as {encoding}, expected as it is")
    if length is not None and length > longest:
        raise OSError(f"it is said to have {length:,} bytes, expected at most {longest:,}")
    while piece := answer.read(_PIECE):
        count += len(piece)
        if count > longest:
            raise OSError(f"it does not end after {longest:,} bytes")
        yield piece
    if length is not None and count < length:
        raise http.client.IncompleteRead(b"", length - count)


class _Bounded(io.RawIOBase):
    """What a socket receives: no more than ``longest`` bytes, and none that come too slowly."""

    def __init__(self, sock: socket.socket, longest: int) -> None:
        self._sock, self._raw, self.longest = sock, sock.makefile("rb", buffering=0), longest
        self._begun, self._received = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._begun + SECONDS + self._received / SLOWEST - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"fewer than {SLOWEST:,.0f} bytes came in a second")
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self._received += count or 0
        if self._received > self.longest:
            raise OSError(f"it does not end after {self.longest:,} bytes")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *options: Any, longest: int, **more: Any) -> None:
        super().__init__(sock, *options, **more)
        self.fp.close()
        self._bounded, self._longest = _Bounded(sock, _BESIDE), longest
        self.fp = io.BufferedReader(self._bounded)

    def begin(self) -> None:
        super().begin()
        self._bounded.longest += 2 * self._longest  # chunks have headers of their own


def _connecting(kind: type[http.client.HTTPConnection], longest: int) -> Callable[..., http.client.HTTPConnection]:
    def connect(*options: Any, **more: Any) -> http.client.HTTPConnection:
        connection = kind(*options, **more)
        connection.response_class = partial(_Answer, longest=longest)  # type: ignore[assignment]
        return connection

    return connect


class _Http(urllib.request.HTTPHandler):
    def __init__(self, longest: int) -> None:
        super().__init__()
        self._longest = longest

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_connecting(http.client.HTTPConnection, self._longest), req)  # type: ignore[arg-type]


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, longest: int) -> None:
        super().__init__()
        self._longest = longest

    def https_open(self, req: urllib.request.Request) -> Any:
        connecting = _connecting(http.client.HTTPSConnection, self._longest)
        return self.do_open(connecting, req, context=self._context)  # type: ignore[arg-type,attr-defined]


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows a server to other addresses of http and https, and never from https to http."""

    max_redirections = 5

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        fp.chunked, fp.length = False, 0  # what stands beside a redirection is not read
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except (UserError, ValueError):
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme.lower()
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise UserError(
                f"{printable_url(req.full_url)}: the server redirects to {scheme or 'no address'}, expected https or "
                "http as before; check the address."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(longest: int) -> urllib.request.OpenerDirector:
    """Opens addresses of http and https and of nothing else, through the proxies of the environment."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(), _Redirections(), _Http(longest), _Https(longest),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener
