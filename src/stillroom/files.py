"""Files that appear complete or not at all, folders named by what determines them, and hashes.

Imports nothing of stillroom but its types and ``disk``, and no torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillroom import disk
from stillroom.types import UserError


def fingerprint(value: Any, length: int = 16) -> str:
    """Hexadecimal SHA-256 of a JSON-able value in canonical form, cut to ``length`` digits.

    Names of files that are not UTF-8, which Python holds as half surrogate pairs, have one too.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def file_hash(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what a file system answers to a writer into a sentence that names the path.

    A file that is missing where the program itself put one is no mistake of the user's and passes through.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # libraries wrap the system's error in classes of their own, with its text inside
        code = getattr(error, "errno", None)
        if code in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
            raise UserError(
                f"{path}: no space is left on this disk; free some or choose another folder, then run the same "
                "command again: what was complete is kept."
            ) from error
        if isinstance(error, OSError) and isinstance(code, int) and code != errno.ENOENT:
            is_taken = code in (errno.EISDIR, errno.ENODEV, errno.ENOTEMPTY)
            advice = "move away what is there" if is_taken else "choose a folder you may write"
            raise UserError(f"{_named(error, path)}: cannot be written ({os.strerror(code)}); {advice}.") from error
        raise


@contextlib.contextmanager
def reading(path: Path, wanted: str = "a file") -> Iterator[None]:
    """Turns what a file system answers to a reader of ``path`` into a sentence; ``wanted`` says what it should be."""
    try:
        yield
    except FileNotFoundError as error:
        is_link = path.is_symlink()
        found = f"is a link to {os.readlink(path)}, which is not there" if is_link else "no such file or folder"
        raise UserError(f"{path}: {found}; expected {wanted}: check the path.") from error
    except OSError as error:
        code = error.errno if isinstance(error.errno, int) else errno.EIO
        raise UserError(f"{path}: cannot be read ({os.strerror(code)}); expected {wanted}.") from error
    except ValueError as error:
        if "embedded null" not in str(error):  # the one thing that no file system takes in a name
            raise
        raise UserError(f"{path}: has a zero byte in its name; expected {wanted}.") from error


def _named(error: OSError, path: Path) -> str:
    """The path that the system complained of where it is the one asked for or a folder above it; else that one."""
    name = error.filename
    return str(name) if isinstance(name, str) and str(path).startswith(name) else str(path)


def read_bytes(path: Path, wanted: str = "a file", most: int | None = None) -> bytes:
    """A file's bytes; a ``UserError`` that names it where it cannot be read, is no file or holds more than ``most``.

    A named pipe or a device is no file: one without a writer would be waited for, and some never end.
    """
    with reading(path, wanted):
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise UserError(f"{path}: is a pipe, a socket or a device; expected {wanted}.")
        with path.open("rb") as stream:
            data = stream.read() if most is None else stream.read(most + 1)
    if most is not None and len(data) > most:
        raise UserError(f"{path}: is larger than {most / 2**20:g} MiB; expected {wanted}.")
    return data


def read_text(path: Path, wanted: str = "a UTF-8 text file") -> str:
    """A file's UTF-8 text, a byte order mark at its beginning left out; a ``UserError`` where there is none."""
    data = read_bytes(path, wanted)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 at byte {error.start}; expected {wanted}.") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old bytes or the new ones, never a part."""
    with _written_aside(path, data) as name:
        disk.replace(name, path)


def write_first(path: Path, data: bytes) -> None:
    """Writes a file unless it is there already: of several writers the first one's file is everyone's."""
    with _written_aside(path, data) as name:
        disk.first(name, path)


@contextlib.contextmanager
def _written_aside(path: Path, data: bytes) -> Iterator[str]:
    """The bytes on disk under a name beside ``path``, for the block to give them theirs; removed where it does not."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                disk.flush(stream.fileno())
            disk.let_all_read(name)
            yield name
        finally:
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def file_aside(target: Path) -> Iterator[Path]:
    """A scratch path beside ``target`` whose file becomes it when the block ends, and vanishes when it raises.

    Where the block leaves no file there, ``target`` stays as it is.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            scratch = folder / target.name
            yield scratch
            if scratch.exists():
                disk.replace(scratch, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` for UTF-8 text."""
    write_bytes(path, text.encode())


def json_text(value: Any) -> str:
    """What ``write_json`` writes: indented, in the order given.

    A number that is not finite is no JSON and a broken promise of whoever made it: ``ValueError``.
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """``write_bytes`` for a JSON value; see ``json_text``."""
    write_text(path, json_text(value))


def read_json(path: Path, wanted: str = "a JSON file") -> Any:
    """The JSON value of a file; a ``UserError`` that names it when it is missing or damaged.

    ``NaN`` and infinities, which are no JSON but were written once, read as null: numbers that do not exist.
    """
    text = read_text(path, wanted)
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not valid JSON ({_reason(error)}); expected {wanted}, undamaged.") from error


def _no_number(name: str) -> None:
    """What ``NaN``, ``Infinity`` and ``-Infinity`` stand for."""


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def read_json_object(path: Path, wanted: str = "a JSON object") -> dict[str, object]:
    """``read_json`` where the value must be an object; what its fields hold is for the caller to check or to trust."""
    value = read_json(path, wanted)
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds a JSON {type(value).__name__}; expected {wanted}.")
    return value


def read_json_lines(path: Path) -> list[dict[str, object]]:
    """The records of a ``.jsonl`` file; an unfinished last line (a killed writer) is left out."""
    lines = read_text(path, "a file of one JSON object a line").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                continue
            raise UserError(
                f"{path}: line {number} is not valid JSON ({_reason(error)}); expected an object."
            ) from error
        if not isinstance(record, dict):
            raise UserError(f"{path}: line {number} holds a {type(record).__name__}; expected a JSON object.")
        records.append(record)
    return records


@contextlib.contextmanager
def shaped(path: Path, wanted: str) -> Iterator[None]:
    """Turns what code meets in a record that lacks a part, or holds another kind of value, into a sentence.

    For a file whose every part is needed by the block; ``wanted`` says which file was expected.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        missing = f"has no {error.args[0]!r}" if isinstance(error, KeyError) and error.args else f"({error})"
        raise UserError(f"{path}: does not hold what it should {missing}; expected {wanted}.") from error


def check_place(path: Path, *, folder: bool) -> None:
    """Refuses a path at which no folder, or no file, can be written: told before anything is done for it."""
    wanted = "a folder, or a path where one can be made" if folder else "a file, or a path where one can be written"
    with reading(path, wanted):
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            if path.is_symlink():
                raise
            above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
            if not above.is_dir():
                raise UserError(f"{path}: leads through {above}, which is no folder; expected {wanted}.") from None
            return
    is_folder = stat.S_ISDIR(mode)
    if is_folder != folder:
        raise UserError(f"{path}: is a {'folder' if is_folder else 'file'}; expected {wanted}.")
    if not folder and (not stat.S_ISREG(mode) or path.absolute().parts[1:2] in (("dev",), ("proc",))):
        raise UserError(
            f"{path}: is a pipe, a socket or a device, which a file would take the place of; expected {wanted}."
        )


def check_new_folder(target: Path) -> None:
    """Refuses a path that holds something already."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: is there already; name a folder that is new or empty.")


@contextlib.contextmanager
def folder_aside(target: Path) -> Iterator[Path]:
    """A scratch folder beside ``target`` that becomes it when the block ends, and vanishes when it raises.

    If another process finished the same folder first, theirs is kept: the name says what the content is.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield scratch
            disk.let_all_read(scratch, 0o755)
            if not disk.publish(scratch, target):
                shutil.rmtree(scratch, ignore_errors=True)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
