"""Bigram worlds of natural text and of a matrix in a file.

Letters: K states. Imports files, types and the bigram world.
"""

from __future__ import annotations

import io
import re
import sysconfig
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from stillroom.files import read_bytes, reading
from stillroom.types import UserError
from stillroom.worlds.bigram import BigramWorld, split_by_entropy

Unit = Literal["characters", "words"]
OTHER = "…"
"""The state of everything that is not among the most frequent units."""
_PARTS = re.compile(r"\w+|[^\w\s]|\n")


def library_text(num_files: int = 60) -> str:
    """Source text of the first files, by name, of the installed Python library."""
    files = [file for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) if file.is_file()][:num_files]
    return "\n".join(_source_text(file) for file in files)


def _source_text(file: Path) -> str:
    with reading(file, "Python source"):
        return file.read_text(encoding="utf-8", errors="ignore")


def text_world(text: str, unit: Unit = "characters", states: int = 65, threshold_nats: float = 2.0) -> BigramWorld:
    """The bigrams of a text over its ``states - 1`` most frequent units and one state for all others.

    Rows are the text's own relative frequencies; the last unit is followed by the first, so that no row is empty.
    """
    units = list(text) if unit == "characters" else _PARTS.findall(text)
    frequent = [name for name, _ in Counter(units).most_common(states - 1)]
    if len(frequent) < 2:
        raise UserError(f"sandbox: the text has {len(frequent)} different {unit}, expected 2 or more; give more text.")
    number = {name: place for place, name in enumerate(frequent)}
    other = len(frequent)
    ids = np.fromiter((number.get(name, other) for name in units), np.int64, len(units))
    num = other + 1 if (ids == other).any() else other
    following = np.append(ids[1:], ids[0])
    counts = np.bincount(ids * num + following, minlength=num * num).reshape(num, num).astype(np.float64)
    words = tuple(chain(frequent, (OTHER,)))[:num]
    return split_by_entropy(counts / counts.sum(1, keepdims=True), threshold_nats, words)


def load_matrix(path: Path, threshold_nats: float = 1.0) -> BigramWorld:
    """The world of a ``.npy`` file that holds a square matrix whose rows sum to 1; a ``UserError`` where not."""
    data = read_bytes(path, "a .npy file with a square transition matrix")
    try:
        matrix = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a damaged header or archive raises whatever its parser does
        raise UserError(f"{path}: is no .npy file ({error}); write one with numpy.save.") from None
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        shape = getattr(matrix, "shape", "several arrays")
        raise UserError(f"{path}: has shape {shape}, expected a square matrix of at least 2 rows.")
    if not np.issubdtype(matrix.dtype, np.number) or np.iscomplexobj(matrix):
        raise UserError(f"{path}: holds {matrix.dtype}, expected real numbers; save it as float64.")
    matrix = matrix.astype(np.float64)
    sums = matrix.sum(1)
    if not np.isfinite(matrix).all() or matrix.min() < 0 or np.abs(sums - 1).max() > 1e-6:
        row = int(np.argmax(np.where(np.isfinite(sums), np.abs(sums - 1), np.inf)))
        raise UserError(
            f"{path}: row {row} sums to {sums[row]:g} (smallest entry {matrix.min():g}), expected entries of at least "
            "0 that sum to 1 in every row; normalise it."
        )
    return split_by_entropy(matrix / sums[:, None], threshold_nats)
