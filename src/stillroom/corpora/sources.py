"""Where text comes from: every source gives documents for a seed and a split, and says what determines them.

A new kind of source is one function here and one name in ``SourceConfig.kind``.
"""

from __future__ import annotations

import hashlib
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillroom.config import SourceConfig
from stillroom.files import fingerprint
from stillroom.types import UserError
from stillroom.worlds import make_world
from stillroom.worlds.base import Split

# Generated tables and fixtures of the Python library: megabytes of hexadecimal that teach nothing about language.
_SKIPPED_LIBRARY_PARTS = {"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "__pycache__"}
_HELDOUT_EVERY = 20


def documents(source: SourceConfig, seed: int, split: Split) -> Iterator[str]:
    """The documents of a source. Worlds are endless, files end; no file or item is in both splits.

    Files are cut into sections of at most ``max_document_chars`` at line ends, and the sections of all files are
    shuffled, so that any part of the stream is a fair sample.
    """
    if source.kind in ("python-library", "files"):
        yield from _sections(source, seed, split)
    elif source.kind == "hub":
        yield from _hub(source, seed, split)
    else:
        yield from make_world(source.kind, dict(source.options)).documents(seed, split)


def source_identity(source: SourceConfig) -> dict[str, Any]:
    """What determines the documents besides the seed: the configuration and, for files, a hash of their content."""
    identity: dict[str, Any] = source.canonical()
    if source.kind in ("python-library", "files"):
        digest = hashlib.sha256()
        root, files = _files(source)
        for file in files:
            digest.update(f"{file.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        identity |= {"path": None, "content": digest.hexdigest()[:32]}
    elif source.kind != "hub":
        make_world(source.kind, dict(source.options))  # so that its options are checked before anything is built
    return identity


def _files(source: SourceConfig) -> tuple[Path, list[Path]]:
    """The root folder and the sorted files of a source of files."""
    if source.kind == "python-library":
        root = Path(sysconfig.get_path("stdlib"))
        files = sorted(root.rglob("*.py"))
        return root, [file for file in files if not _SKIPPED_LIBRARY_PARTS.intersection(file.relative_to(root).parts)]
    if source.path is None:
        raise UserError("corpus.sources: a source of kind files has no path; set it to a text file or a folder.")
    path = Path(source.path).expanduser()
    if path.is_file():
        return path.parent, [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; corpus.sources path must name existing text.")
    found = sorted(file for file in path.glob(source.pattern) if file.is_file() and not file.name.startswith("."))
    if not found:
        raise UserError(f"{path}: holds no file that matches {source.pattern!r}; expected text files there.")
    return path, found


def read_text(path: Path) -> str:
    """A file's UTF-8 text; a ``UserError`` where it is binary or in another encoding."""
    data = path.read_bytes()
    if b"\0" in data[:65536]:
        raise UserError(f"{path}: is binary (it has a zero byte), expected UTF-8 text; leave it out with a pattern.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8 at byte {error.start}, expected UTF-8 text; convert it or leave it out."
        ) from None


def _cut(text: str, limit: int) -> Iterator[str]:
    """Pieces of at most ``limit`` characters, cut at line ends where there is one in the second half."""
    start = 0
    while start < len(text):
        end = min(len(text), start + limit)
        if end < len(text):
            newline = text.rfind("\n", start + limit // 2, end)
            end = newline + 1 if newline >= 0 else end
        yield text[start:end]
        start = end


def _sections(source: SourceConfig, seed: int, split: Split) -> Iterator[str]:
    root, files = _files(source)
    whole_files = len(files) >= _HELDOUT_EVERY
    sections: list[tuple[Path, int, int]] = []
    total = 0
    for file in files:
        held = _held_out(str(file.relative_to(root)), seed)
        if whole_files and held != (split == "heldout"):
            continue
        try:
            text = read_text(file)
        except UserError:
            if source.kind == "python-library":  # a few library files are in other encodings on purpose
                continue
            raise
        total += len(text)
        pieces = list(_cut(text, source.max_document_chars))
        if not whole_files:  # too few files to hold out whole ones: the end of each is held out instead
            kept = max(1, round(len(pieces) * (1 - 1 / _HELDOUT_EVERY))) if len(pieces) > 1 else len(pieces)
            numbers = range(kept) if split == "train" else range(kept, len(pieces))
        else:
            numbers = range(len(pieces))
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + len(piece))
        sections += [(file, starts[number], starts[number + 1]) for number in numbers]
    if not sections or not total:
        raise UserError(
            f"{source.path or root}: holds no text for the {split} split; expected at least two sections of "
            f"{source.max_document_chars} characters, or {_HELDOUT_EVERY} files."
        )
    random.Random(seed).shuffle(sections)
    for file, start, end in sections:
        yield read_text(file)[start:end]


def _held_out(name: str, seed: int) -> bool:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little") % _HELDOUT_EVERY == 0


def _hub(source: SourceConfig, seed: int, split: Split) -> Iterator[str]:
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("corpus.sources: kind hub needs one more package; pip install 'stillroom[hub]'.") from error
    if source.path is None:
        raise UserError("corpus.sources: a source of kind hub has no path; set it to a dataset id.")
    stream = load_dataset(source.path, split="train", streaming=True)
    for row in stream:
        if source.field not in row:
            raise UserError(f"corpus.sources: dataset {source.path} has no column {source.field!r}; set field.")
        text = row[source.field]
        if _held_out(fingerprint(text), seed) == (split == "heldout"):
            yield from _cut(text, source.max_document_chars)
