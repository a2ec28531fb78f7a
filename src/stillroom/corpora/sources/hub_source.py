"""Hugging Face datasets, whose rows keep their order; whatever the library says ends in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stillroom.corpora.sources.listing import Listing, folder_files
from stillroom.corpora.sources.row_documents import row_documents
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import SourceKind
from stillroom.corpora.sources.table_rows import Row, RowCount, row_texts
from stillroom.types import UserError
from stillroom.worlds.base import Split

_ANSWER_SECONDS = 10.0
_ADVICE = (
    ("Config name is missing", "set name of this source to one of them"),
    ("BuilderConfig", "set name of this source to one of them"),
    ("Bad split", "set split of this source to one of them"),
    ("scripts are no longer", "its own code is never run: take a copy of it in Parquet or JSON lines"),
    ("trust_remote_code", "its own code is never run: take a copy of it in Parquet or JSON lines"),
    ("save_to_disk", "read it with kind files and pattern '**/*.arrow'"),
    ("gated", "ask for access on its page, then run hf auth login"),
    ("Couldn't reach", "check the network and HF_HUB_OFFLINE, or set path to a folder that holds the dataset"),
    ("exist on the Hub", "check its id, and run hf auth login where it is private"),
)
"""What to do about a message of the library, by words of it; its versions word most of them alike."""


def hub_rows(source: SourceConfig) -> Iterator[Row]:
    """The rows of a dataset, streamed; its own code is never run."""
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("corpus.sources: kind hub needs one more package; pip install 'stillroom[hub]'.") from error
    with _sentences(str(source.path)):
        _check_reached(str(source.path))
        rows = load_dataset(
            source.path, name=source.name, split=source.split or "train", streaming=True, trust_remote_code=False
        )
        for number, row in enumerate(rows, 1):
            yield f"row {number}", row


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


def _documents(source: SourceConfig, seed: int, split: Split, count: RowCount) -> Iterator[str]:
    rows = row_texts(hub_rows(source), source.field, f"dataset {source.path}", count)
    return row_documents(rows, source, seed, split, count)


def _listing(source: SourceConfig) -> Listing | None:
    """The files of a dataset that lies in a folder here."""
    path = Path(str(source.path))
    return folder_files(path) if path.is_dir() else None


SOURCE = SourceKind(
    _documents,
    takes=("path", "name", "split", "field", "max_document_chars"),
    path="the id of a dataset, or a folder that holds one",
    listing=_listing,
)
