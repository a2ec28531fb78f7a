"""A corpus that is there, or grows, in the place of one that a study builds: what ``corpus.path`` brings with it.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import JsonValue

from stillroom import disk
from stillroom.corpora.corpus_config import CorpusConfig
from stillroom.corpora.corpus_files import GROWING, GrowingFiles, RemoteFiles
from stillroom.files import read_json_object
from stillroom.places import find_part
from stillroom.strict import parse
from stillroom.types import UserError

FIELDS = ("sources", "tokenizer", "vocab_size", "sequence_length", "train_tokens", "heldout_tokens",
          "isolate_documents", "shuffle_tokens")  # fmt: skip
"""What a corpus tells of itself, by the names of ``CorpusConfig``."""
_FEWEST = 258
"""Tokens that ``CorpusConfig.vocab_size`` may say; the corpus itself may have fewer."""


def manifest_of(place: str) -> Mapping[str, JsonValue]:
    """The manifest of the corpus in a folder, a run or an address, finished or growing.

    Raises ``UserError`` where there is none.
    """
    return _manifest(place, _file_of(place))


def _manifest(place: str, file: Path) -> Mapping[str, JsonValue]:
    if not file.is_file():
        raise UserError(
            f"corpus.path {place}: has no {file.name}, expected a corpus; make one by stillroom corpus build."
        )
    return cast(Mapping[str, JsonValue], read_json_object(file, "that of a built corpus"))


def _file_of(place: str) -> Path:
    if "://" in place:
        return RemoteFiles(place).path("corpus.json")
    if (growing := _growing_file(place)) is not None:
        return growing
    found = find_part("corpus", place).path
    return _file_of(found) if "://" in found else Path(found) / "corpus.json"


def is_growing(place: str) -> bool:
    """Whether a corpus is being built, so that not all of it is there."""
    return _growing_file(place) is not None


def _growing_file(place: str) -> Path | None:
    """The manifest of a corpus that is being built: that of a whole one while it is sealed before it has its name."""
    folder = Path(place).expanduser()
    if "://" in place or disk.is_finished(folder):
        return None
    files = GrowingFiles(folder)
    return files.find(GROWING) or files.find("corpus.json")


def check_given(place: str, asked: CorpusConfig) -> None:
    """Refuses a corpus whose sequences are not those that a configuration says of it."""
    found, said = parse(CorpusConfig, {**recorded(place), "path": place}, f"corpus.path {place}"), asked.model_dump()
    for name, value in found.model_dump().items():
        if name in ("path", "tokenizer") or (name == "train_tokens" and said[name] <= value):
            continue
        if name in FIELDS and said.get(name) != value:
            raise UserError(
                f"corpus.{name}: is {said.get(name)!r}, that of the corpus in {place} is {value!r}; leave out what is "
                "said beside corpus.path, or name another corpus."
            )


def recorded(place: str) -> Mapping[str, JsonValue]:
    """``FIELDS`` of a corpus as it tells them."""
    file = _file_of(place)
    manifest = cast(Mapping[str, Any], _manifest(place, file))
    try:
        length = manifest["sequence_length"]
        sequences = manifest.get("sequences") or _counted(file.parent)
        told: dict[str, Any] = {
            "sources": manifest["source_configs"],
            "tokenizer": str(file.parent / "tokenizer"),
            "vocab_size": max(_FEWEST, manifest["vocab_size"]),
            "sequence_length": length,
            "train_tokens": sequences["train"] * length,
            "heldout_tokens": sequences["heldout"] * length,
            "isolate_documents": manifest["isolate_documents"],
            "shuffle_tokens": manifest.get("shuffle_sequences", 0) * length,
        }
        return told
    except (KeyError, TypeError) as error:
        raise UserError(f"corpus.path {place}: its corpus.json has no {error}; build the corpus again.") from error


def _counted(folder: Path) -> dict[str, int]:
    """Sequences of each split of a corpus of schema 1, which does not tell them."""
    return {split: len(np.load(folder / split / "source.npy", mmap_mode="r")) for split in ("train", "heldout")}
