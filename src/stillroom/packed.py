"""Opening packed files (gzip, bzip2, xz, Zstandard) so that one which is cut off is an error and not a shorter file.

Imports nothing of stillroom.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import zstandard

DAMAGES = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""What reading a packed file raises where it is damaged or of another kind."""
_WINDOW = 1 << 31  # the longest memory of a Zstandard file, which large archives are packed with


class _Zstandard(io.RawIOBase):
    """The content of a Zstandard file of any number of frames; ``EOFError`` where the last is cut off.

    The library's own reader takes the cut for the end.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._begun = False
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._handle.read(1 << 16)
            if not self._packed:
                if self._begun:
                    raise EOFError("it ends inside a frame")
                return 0
            self._begun = True
            self._ready = memoryview(self._frame.decompress(self._packed))
            self._packed = b""
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
                self._begun = False
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


UNPACKERS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda handle: cast(BinaryIO, gzip.GzipFile(fileobj=handle)),
    ".bz2": lambda handle: cast(BinaryIO, bz2.BZ2File(handle)),
    ".xz": lambda handle: cast(BinaryIO, lzma.LZMAFile(handle)),  # noqa: SIM115
    ".zst": lambda handle: cast(BinaryIO, io.BufferedReader(_Zstandard(handle), 1 << 20)),
}
"""What opens a packed file, by the end of its name."""
