"""datatrove's tokenized files: ids in ``NAME.ds`` (u16 or u32), in ``NAME.ds.index`` where each document ends (u64).

``NAME.ds.metadata`` is text: the tokenizer's name and the bytes of an id (``gpt2|2``), the number of tokens, and that
number again for people. As in datatrove 0.10, ``pipeline/tokens/tokenizer.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillroom.corpora.exchange.id_documents import IdDocuments
from stillroom.corpora.exchange.token_file import TokenFile, mapped
from stillroom.files import read_text, reading, write_text
from stillroom.types import UserError

_WIDTHS = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


def open_datatrove(path: Path, kind: np.dtype[np.unsignedinteger]) -> TokenFile:
    """The ids and documents of a ``.ds`` file; ``kind`` is that of its ids where it has neither metadata nor index.

    Without an index, documents are told apart by marks.
    """
    index, ends = path.with_name(f"{path.name}.index"), None
    count, width = _told(path.with_name(f"{path.name}.metadata"))
    if index.exists():
        ends = mapped(index, np.dtype("<u8"))
        count = int(ends[-1]) if count is None else count
    with reading(path, "a file of token ids"):
        size = path.stat().st_size
    if count:
        width = width or size // count
        if size != count * width or width not in _WIDTHS or (ends is not None and int(ends[-1]) != count):
            last = f", its index ends at {int(ends[-1])}" if ends is not None else ""
            raise UserError(
                f"{path}: has {size} bytes, expected {count} ids of {width} bytes as is told beside it{last}; it is "
                "cut off, or they do not belong together: fetch all of them again."
            )
        kind = _WIDTHS[width]
    ids = mapped(path, kind)
    if ends is None:
        return TokenFile(path, ids)

    def bounds(start: int, stop: int) -> NDArray[np.int64]:
        before = np.zeros(1, "<u8") if start == 0 else ends[start - 1 : start]
        found = np.append(before, ends[start:stop]).astype(np.int64)
        if (np.diff(found) < 0).any() or found[-1] > len(ids):
            raise UserError(
                f"{index}: documents {start} to {stop} do not end one after another within the {len(ids)} ids of the "
                "file; it is damaged: fetch it again."
            )
        return found

    return TokenFile(path, ids, len(ends), bounds)


def write_datatrove(path: Path, batches: Iterable[IdDocuments], size: int, name: str) -> int:
    """Writes ``path`` (.ds), its index and its metadata; returns the tokens. ``size`` is the number of the tokenizer's
    ids, ``name`` what it is called.
    """
    width, count = (2 if size <= 1 << 16 else 4), 0
    with path.open("wb") as ids, path.with_name(f"{path.name}.index").open("wb") as index:
        for batch in batches:
            batch.ids.astype(_WIDTHS[width]).tofile(ids)
            (batch.ends + count).astype("<u8").tofile(index)
            count += len(batch.ids)
    write_text(path.with_name(f"{path.name}.metadata"), f"{name}|{width}\n{count}\n{count / 1e6:.3g} MT")
    return count


def _told(metadata: Path) -> tuple[int | None, int | None]:
    """The number of ids and the bytes of each that a file of metadata tells."""
    if not metadata.exists():
        return None, None
    lines = read_text(metadata, "datatrove's metadata").splitlines()
    try:
        return int(lines[1]), int(lines[0].rsplit("|", 1)[1])
    except (IndexError, ValueError):
        raise UserError(
            f"{metadata}: does not tell the bytes of an id and the number of them (lines such as 'gpt2|2' and '1000'); "
            "write it again, or remove it."
        ) from None
