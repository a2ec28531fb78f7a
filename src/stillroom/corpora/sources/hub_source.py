"""Hugging Face datasets, streamed shard by shard, or as ``save_to_disk`` wrote them; what the library says is told."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillroom.corpora.sources.files_source import cut_listing, texts_of_part
from stillroom.corpora.sources.listing import Listing, folder_files, saved_dataset
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import SourceKind
from stillroom.corpora.sources.table_rows import RowCount, RowText
from stillroom.types import UserError

_PEEKED = 1000  # rows whose fields are the fields that there are
_UNPACKED = 4  # bytes of text in a byte that is fetched, about
_ANSWER_SECONDS = 10.0
_ADVICE = (
    ("Config name is missing", "set name of this source to one of them"),
    ("BuilderConfig", "set name of this source to one of them"),
    ("Bad split", "set split of this source to one of them"),
    ("scripts are no longer", "its own code is never run: take a copy of it in Parquet or JSON lines"),
    ("trust_remote_code", "its own code is never run: take a copy of it in Parquet or JSON lines"),
    ("gated", "ask for access on its page, then run hf auth login"),
    ("Couldn't reach", "check the network and HF_HUB_OFFLINE, or set path to a folder that holds the dataset"),
    ("exist on the Hub", "check its id, and run hf auth login where it is private"),
)
"""What to do about a message of the library, by words of it; its versions word most of them alike."""


def _opened(source: SourceConfig) -> Any:
    """A dataset to be streamed; its own code is never run."""
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("corpus.sources: kind hub needs one more package; pip install 'stillroom[hub]'.") from error
    _check_reached(str(source.path))
    return load_dataset(
        source.path, name=source.name, split=source.split or "train", streaming=True, trust_remote_code=False
    )


def _parts(source: SourceConfig, seed: int, size: int) -> list[Part]:
    """A part for each of the dataset's own shards."""
    if saved := _saved(source):
        return cut_listing(saved, source, size)
    with _sentences(str(source.path)):
        rows = _opened(source)
        count = max(1, getattr(rows, "num_shards", 1))
        size = (getattr(getattr(rows, "info", None), "download_size", None) or 0) * _UNPACKED // count
    return [Part(str(source.path), number, number + 1, "groups", size) for number in range(count)]


def _texts(source: SourceConfig, part: Part, count: RowCount) -> Iterator[str]:
    if _saved(source):
        return texts_of_part(source.model_copy(update={"format": "rows"}), part, count)
    place = f"dataset {source.path}"
    rows = _rows(source, part)
    peeked = list(itertools.islice(rows, _PEEKED))
    text = RowText.of(source).fitted((row for _, row in peeked), place)
    return text.texts(itertools.chain(peeked, rows), place, count)


def _rows(source: SourceConfig, part: Part) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with _sentences(str(source.path)):
        rows = _opened(source)
        count = max(1, getattr(rows, "num_shards", 1))
        behind = f" of shard {part.start}" if count > 1 else ""
        for number, row in enumerate(rows.shard(count, part.start) if count > 1 else rows, 1):
            yield f"row {number}{behind}", row


def _saved(source: SourceConfig) -> Listing | None:
    path = Path(str(source.path))
    return saved_dataset(path, source.split or "train") if path.is_dir() else None


@contextlib.contextmanager
def _sentences(path: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of every library that reads a kind of file or speaks to a server
        found = " ".join(str(error).split("\nExample of usage", 1)[0].split()) or type(error).__name__
        advice = next((advice for words, advice in _ADVICE if words in found), "check path, name and split")
        raise UserError(f"corpus.sources: dataset {path} cannot be read ({found.rstrip('.')}); {advice}.") from error


def _check_reached(path: str) -> None:
    """Refuses at once where the Hub does not answer; the library tries for half a minute."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if Path(path).exists() or constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(path, timeout=_ANSWER_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return  # it answered: the library says what that means
    except Exception as error:
        raise ConnectionError(f"Couldn't reach the Hub: {error}") from error


def _listing(source: SourceConfig) -> Listing | None:
    """The files of a dataset that lies in a folder here."""
    path = Path(str(source.path))
    return (_saved(source) or folder_files(path)) if path.is_dir() else None


SOURCE = SourceKind(
    parts=_parts,
    texts=_texts,
    takes=("path", "name", "split", "field", "template", "where", "errors", "epochs", "max_document_chars"),
    path="the id of a dataset, or a folder that holds one",
    listing=_listing,
)
