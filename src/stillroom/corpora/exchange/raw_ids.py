"""Ids and nothing else in a file: nanoGPT's ``.bin``, OLMo's ``.npy``, arrays of numpy, llm.c's ``.bin`` with a header.

Marks among the ids tell documents apart. What a file of bare numbers is of cannot be read off it, so what would be
taken wrongly is looked for: ids that the tokenizer does not have, and u32 ids read as u16, of which every second is 0.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.corpora.exchange.id_documents import LONGEST, check_ids
from stillroom.corpora.exchange.token_file import TokenFile, mapped
from stillroom.files import reading
from stillroom.types import UserError

_LLMC = {20240520: "<u2", 20240801: "<u4"}
"""First number of llm.c's header of 256 (GPT-2's and Llama 3's), and the kind of ids behind it."""
_LLMC_BYTES = 1024
_NPY = b"\x93NUMPY"
_LOOKED_AT = 1 << 16


def open_raw(path: Path, kind: np.dtype[np.unsignedinteger]) -> TokenFile:
    """The ids of a file; of ``kind`` where it has no header that says so."""
    with reading(path, "a file of token ids"), path.open("rb") as stream:
        head = stream.read(12)
    if head.startswith(_NPY):
        return TokenFile(path, _array(path))
    magic, _, count = struct.unpack("<3i", head.ljust(12, b"\0"))
    if magic in _LLMC:
        ids = mapped(path, np.dtype(_LLMC[magic]), _LLMC_BYTES)
        if len(ids) != count:
            raise UserError(
                f"{path}: its header tells of {count} ids, it holds {len(ids)}; it is cut off: fetch it again."
            )
        return TokenFile(path, ids)
    ids = mapped(path, kind)
    if kind.itemsize == 2 and len(ids) > 1 and not ids[1:_LOOKED_AT:2].any():
        raise UserError(
            f"{path}: every second of its first ids, read as uint16, is 0, so they are of uint32; set options.dtype to "
            "uint32."
        )
    return TokenFile(path, ids)


def check_marked(file: TokenFile, marks: tuple[int, ...], size: int) -> None:
    """Refuses a file among whose first ids there is no mark, or one that a tokenizer of ``size`` ids does not have."""
    check_ids(file.ids[:_LOOKED_AT], size, file.path)
    if not np.isin(file.ids[:LONGEST], marks).any():
        wanted = " or ".join(map(str, marks))
        raise UserError(
            f"{file.path}: holds no id {wanted} among its first {min(LONGEST, len(file.ids))}, which open and close "
            "documents with this tokenizer; set options.end to the id that ends them, or to none where the file is one "
            "long document."
        )


def _array(path: Path) -> NDArray[Any]:
    """The array of a numpy file, flat."""
    try:
        with reading(path, "an array of token ids"):
            ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: is no array that numpy reads ({error}); write it again.") from error
    if ids.dtype.kind not in "ui" or not ids.size:
        raise UserError(f"{path}: holds {ids.size} numbers of {ids.dtype}, expected token ids (whole numbers).")
    return ids.reshape(-1)
