"""Files that appear complete or not at all, folders named by what determines them, and hashes.

Imports nothing of stillroom but its types, and no torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillroom.types import UserError


def fingerprint(value: Any, length: int = 16) -> str:
    """Hexadecimal SHA-256 of a JSON-able value in canonical form, cut to ``length`` digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_hash(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a folder that may not be written into a sentence that names the path."""
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
        if code in (errno.EACCES, errno.EROFS, errno.EPERM):
            reason = os.strerror(code)
            raise UserError(f"{path}: cannot be written ({reason}); choose a folder you may write.") from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old bytes or the new ones, never a part."""
    with _written_aside(path, data) as name:
        os.replace(name, path)


def write_first(path: Path, data: bytes) -> None:
    """Writes a file unless it is there already: of several writers the first one's file is everyone's."""
    with _written_aside(path, data) as name, contextlib.suppress(FileExistsError, FileNotFoundError):
        os.link(name, path)


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
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            yield name
        finally:
            Path(name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` for UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """``write_bytes`` for a JSON value, indented, in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value of a file; a ``UserError`` that names it when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run the command that makes it, or check the path.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}); delete it and run the command again.") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a ``.jsonl`` file; an unfinished last line (a killed writer) is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                continue
            raise UserError(f"{path}: line {number} is not valid JSON; delete the folder and run again.") from error
    return records


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
            os.chmod(scratch, 0o755)
            try:
                os.rename(scratch, target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                shutil.rmtree(scratch, ignore_errors=True)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
