"""Where a model or a tokenizer comes from: a folder, a GGUF file, or a hub id, whose files are fetched first.

Also the one boundary to the libraries that read them: whatever they raise ends in a sentence.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from transformers.utils import logging as transformers_logging

from stillroom import disk
from stillroom.checksums import require
from stillroom.files import read_json_object, reading
from stillroom.places import find_part
from stillroom.types import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
GGUF = "a GGUF file"
EXPECTED = "a Hugging Face model folder, a run's model, a .gguf file or a hub id"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[\w.-]{1,96})?")
_DESCRIPTIONS = ["*.json", "*.model", "*.txt", "*.tiktoken", "*.jinja"]
_SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class Source:
    """The files that stand behind a path or hub id."""

    given: str
    """As the user wrote it, for sentences."""
    folder: Path
    """Holds the files; of a hub id the snapshot in the cache, named by its commit."""
    gguf: Path | None = None
    hub_id: str | None = None


def find_source(path: str | Path, *, weights: bool = True) -> Source:
    """The files that ``path`` names: a folder, a run's model (of a run alone its teacher), a ``.gguf`` file, or a hub
    id, of which they are fetched if they must be (without ``weights`` its description and tokenizer alone).

    Raises ``UserError`` where nothing is there, or where it is not as its checksums say.
    """
    _expanded(path)
    path = find_part("model", path, "teacher").path
    place = _expanded(path)
    if place.suffix == ".gguf":
        _check_kind(place, path, stat.S_ISREG, GGUF)
        return Source(str(path), place.parent, gguf=place)
    if looks_local(path):
        _check_kind(place, path, stat.S_ISDIR, EXPECTED)
        require(place, but=() if weights else (".safetensors",))
        return Source(str(path), place)
    return Source(str(path), _fetched(str(path), weights), hub_id=str(path))


def looks_local(path: str | Path) -> bool:
    """Whether a path is meant on this machine; what is no path here and spelt like a hub id is meant there."""
    text = str(path)
    return text.startswith((".", "/", "~")) or os.path.lexists(text) or _HUB_ID.fullmatch(text) is None


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: names the home of a user that is not there; expected {EXPECTED}.") from error


def _check_kind(place: Path, given: str | Path, is_kind, wanted: str) -> None:
    if not os.path.lexists(place):
        found = "no such file" if wanted == GGUF else "no such folder, so it holds no config.json"
        raise UserError(f"{given}: {found}; expected {wanted}.")
    with reading(place, wanted):
        mode = place.stat().st_mode
    if not is_kind(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "neither a file nor a folder"
        raise UserError(f"{given}: is {found}; expected {wanted}.")


def _fetched(hub_id: str, weights: bool) -> Path:
    """The snapshot of a hub id in the cache, brought there where it is missing and the hub answers."""
    wanted = "one that is in the cache of the hub, or a folder on this machine"
    with _no_hub_bars():
        folder = _snapshot(hub_id, _DESCRIPTIONS, wanted)
    if not weights:
        return folder
    files = [SINGLE]
    if (folder / INDEX).is_file() and not (folder / SINGLE).exists():
        shards = read_json_object(folder / INDEX).get("weight_map")
        files = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    return _snapshot(hub_id, files, wanted)


def _snapshot(hub_id: str, files: list[str], wanted: str) -> Path:
    from huggingface_hub import constants, snapshot_download

    offline = constants.is_offline_mode() or not _answers(constants.ENDPOINT)
    try:
        folder = snapshot_download(hub_id, allow_patterns=files, ignore_patterns=["*/*"], local_files_only=offline)
    except Exception as error:
        where = "no such folder here, and " + (
            "the hub cannot be asked (no network, or offline mode)" if offline else f"the hub said: {reason(error)}"
        )
        made = "make it by python -m stillroom.teachers.smollm2 FOLDER, or " if "smollm2-135m" in hub_id.lower() else ""
        raise UserError(f"{hub_id}: {where}; expected {wanted}: {made}check the path.") from error
    return Path(folder)


@contextlib.contextmanager
def _no_hub_bars() -> Iterator[None]:
    """Without the progress bars of the hub's library, which are of use for weights alone."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _answers(endpoint: str) -> bool:
    """Whether the hub's machine takes a connection within seconds; behind a proxy that is left to the proxy."""
    if urllib.request.getproxies():
        return True
    parts = urlsplit(endpoint)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_SECONDS_TO_ANSWER).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def libraries(given: str | Path, kind: str, wanted: str) -> Iterator[None]:
    """The boundary to libraries that read what others made: whatever they raise becomes a sentence about ``given``.

    Keep the block to their calls alone: a fault of this package inside would read as the user's.
    """
    try:
        with quiet():
            yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of a library in Rust
            raise
        raise UserError(f"{given}: no {kind} could be loaded ({reason(error)}); expected {wanted}.") from error


def reason(error: BaseException) -> str:
    """What an exception of a library says, in one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1]).rstrip(".: ")
    if not text or isinstance(error, LookupError | TypeError | AttributeError):
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return text if len(text) <= 240 else text[:240].rsplit(" ", 1)[0] + " ..."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and notices of transformers, which would run through the caller's own lines."""
    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    if not bars and level == transformers_logging.ERROR:  # setting a level makes every logger look for its own again
        yield
        return
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def alone(file: Path) -> Iterator[tuple[str, str]]:
    """A folder with nothing but a link to ``file``, and its name there: libraries read what lies beside a file."""
    with tempfile.TemporaryDirectory() as folder:
        name = "model" + file.suffix
        disk.link_or_copy(file.absolute(), Path(folder) / name)
        yield folder, name
