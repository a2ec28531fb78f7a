"""Token ids that other software wrote, as documents: no text is read, and no tokenizer is trained on them.

What a file is says its name: ``.ds`` datatrove's, ``.bin`` Megatron's where an ``.idx`` lies beside it and else ids
alone, ``.npy`` numpy's or ids alone, ``.parquet`` and ``.arrow`` tables with a list of ids in each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from stillroom.corpora.exchange.datatrove import open_datatrove
from stillroom.corpora.exchange.id_documents import IdDocuments, check_ids, check_tokenizer
from stillroom.corpora.exchange.id_rows import TABLES, id_rows
from stillroom.corpora.exchange.megatron import open_megatron
from stillroom.corpora.exchange.raw_ids import check_marked, open_raw
from stillroom.corpora.exchange.token_file import TokenFile
from stillroom.corpora.sources.listing import Listing, found_files
from stillroom.corpora.sources.opening import is_url, stamp_of
from stillroom.corpora.sources.part import Part
from stillroom.corpora.sources.source_config import SourceConfig
from stillroom.corpora.sources.source_kinds import SourceKind
from stillroom.corpora.sources.table_files import group_sizes
from stillroom.strict import Count, Strict, parse
from stillroom.types import UserError
from stillroom.vocabulary import Vocabulary

_SUFFIXES = (".bin", ".ds", ".npy", *TABLES)
_PART_BYTES = 1 << 20
_TEXT_BYTES = 4  # behind a token, about
_ALIGNED = 8  # bytes: a whole number of ids of every dtype


class TokenOptions(Strict):
    """What a file of bare numbers does not say itself."""

    dtype: Literal["uint16", "uint32", "int32", "int64"] | None = None
    """Of the ids; None means uint16 where the tokenizer's ids fit, else uint32."""
    end: Count | Literal["none"] | None = None
    """The id between documents beside the tokenizer's own; ``none`` where there is none."""
    check: bool = True
    """Whether the first documents are read as text and encoded again, to see that the tokenizer is theirs."""


def token_options(source: SourceConfig) -> TokenOptions:
    """The options of a source of ids."""
    return parse(TokenOptions, source.options, f"corpus.sources: options of {source.path}")


def list_token_files(source: SourceConfig) -> Listing:
    """The files of ids of a source, with what lies beside them."""
    found = found_files(source)
    kept = [file for file in found.files if Path(file).suffix in _SUFFIXES]
    if len(found.files) == 1 and Path(found.files[0]).suffix == ".idx":
        kept = [str(Path(found.files[0]).with_suffix(".bin"))]
    if not kept:
        raise UserError(
            f"{source.path}: holds no file of token ids by its name; expected names that end in {', '.join(_SUFFIXES)}."
        )
    return Listing(found.root, kept)


def _files(source: SourceConfig) -> Listing:
    """All files that determine the ids."""
    listing = list_token_files(source)
    beside = (Path(file) for one in listing.files for file in (f"{one}.index", f"{one}.metadata", f"{one[:-4]}.idx"))
    return Listing(listing.root, sorted({*listing.files, *(str(file) for file in beside if file.is_file())}))


def open_tokens(file: str, options: TokenOptions, num_ids: int) -> TokenFile:
    """A file of ids that is no table."""
    if is_url(file):
        raise UserError(f"{file}: files of ids are read where they lie; fetch it to this machine first.")
    return _open(stamp_of(file), np.dtype(options.dtype or ("uint16" if num_ids <= 1 << 16 else "uint32")))


@lru_cache(16)
def _open(stamp: tuple[str, int, str], kind: np.dtype[np.unsignedinteger]) -> TokenFile:
    path, kind = Path(stamp[0]), kind.newbyteorder("<")
    if path.suffix == ".ds":
        return open_datatrove(path, kind)
    if path.suffix == ".bin" and path.with_suffix(".idx").is_file():
        return open_megatron(path)
    return open_raw(path, kind)


def _parts(source: SourceConfig, seed: int, size: int) -> list[Part]:
    options = token_options(source)
    found: list[Part] = []
    for file in list_token_files(source).files:
        found += _table_parts(file) if Path(file).suffix in TABLES else _file_parts(file, options, size)
    return found


def _table_parts(file: str) -> list[Part]:
    """A part for each group of rows; two bytes of it are an id, about."""
    sizes = group_sizes(file, Path(file).suffix[1:])
    return [Part(file, number, number + 1, "groups", one // 2 * _TEXT_BYTES) for number, one in enumerate(sizes)]


def _file_parts(file: str, options: TokenOptions, size: int) -> list[Part]:
    """Parts of as many documents each where an index counts them, else of as many bytes."""
    if _has_index(Path(file)):
        opened = open_tokens(file, options, 0)
        unit, whole, tokens = "documents", opened.num_documents, len(opened.ids)
    else:
        whole = int(stamp_of(file)[1])
        unit, tokens = "bytes", whole // 2
    step = max(1, whole * size // max(1, tokens * _TEXT_BYTES))
    step += -step % _ALIGNED if unit == "bytes" else 0
    text = tokens * _TEXT_BYTES
    return [
        Part(file, start, min(start + step, whole), unit, text * (min(start + step, whole) - start) // whole)
        for start in range(0, whole, step)
    ]


def _has_index(path: Path) -> bool:
    return path.with_suffix(".idx" if path.suffix == ".bin" else ".ds.index").is_file() and path.suffix in (
        ".bin",
        ".ds",
    )


def _ids(source: SourceConfig, part: Part, vocabulary: Vocabulary) -> Iterator[IdDocuments]:
    options, size = token_options(source), len(vocabulary.pieces)
    own = options.end if isinstance(options.end, int) else None
    marks = tuple(mark for mark in dict.fromkeys((vocabulary.bos, vocabulary.eos, own)) if mark is not None)
    if part.unit == "groups":
        yield from id_rows(part, source.field, marks, size)
        return
    opened = open_tokens(part.file, options, size)
    if part.unit == "documents":
        batches = opened.indexed(part.start, part.stop, marks)
    else:
        if options.end != "none":
            check_marked(opened, marks, size)
        width = opened.ids.itemsize
        batches = opened.marked(part.start // width, min(part.stop // width, len(opened.ids)), marks)
    for batch in batches:
        check_ids(batch.ids, size, part.file)
        yield batch


def check_token_source(source: SourceConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses a source whose first documents are not of this tokenizer."""
    vocabulary = Vocabulary.of(tokenizer)
    if token_options(source).check:
        check_tokenizer(all_ids(source, vocabulary), tokenizer, vocabulary, str(source.path))


def all_ids(source: SourceConfig, vocabulary: Vocabulary) -> Iterator[IdDocuments]:
    """All documents of a source of ids, in the order of its files."""
    return (batch for part in _parts(source, 0, _PART_BYTES) for batch in _ids(source, part, vocabulary))


SOURCE = SourceKind(
    parts=_parts,
    ids=_ids,
    takes=("path", "pattern", "exclude", "field", "epochs", "options"),
    path="a file or a folder of token ids",
    listing=_files,
    check=token_options,
    check_tokenizer=check_token_source,
)
