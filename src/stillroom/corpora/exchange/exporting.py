"""A corpus's documents as files that other trainers read: Megatron's or datatrove's, one for each split and source."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from stillroom.corpora.corpus import Corpus, SequenceSet
from stillroom.corpora.exchange.datatrove import write_datatrove
from stillroom.corpora.exchange.id_documents import TOKENS_AT_ONCE, IdDocuments
from stillroom.corpora.exchange.megatron import write_megatron
from stillroom.files import check_new_folder, folder_aside
from stillroom.strict import nearest
from stillroom.types import OnProgress, UserError

Format = Literal["megatron", "datatrove"]


def format_named(name: str) -> Format:
    """The format of a name; a ``UserError`` where there is none."""
    if name in (formats := get_args(Format)):
        return name  # type: ignore[return-value]
    raise UserError(f"--to is {name!r}{nearest(name, list(formats))}.")


def export_corpus(corpus: Corpus, folder: Path, kind: Format, progress: OnProgress | None = None) -> int:
    """Writes ``SPLIT/SOURCE/tokens.bin`` (and ``.idx``) or ``tokens.ds`` (and its index), and ``tokenizer/`` beside.

    Documents are as the corpus has them, marks included, each source in its order. Where they are cut by the end of
    the corpus or by packing they end without a mark. Returns the tokens written; ``progress`` hears of them.
    """
    check_new_folder(folder)
    total, done = corpus.train.num_tokens + corpus.heldout.num_tokens, 0
    with folder_aside(folder) as scratch:
        for split in ("train", "heldout"):
            for code, name in enumerate(corpus.source_names):
                batches = _documents(getattr(corpus, split), code, whole="packing" in corpus.manifest)
                (scratch / split / name).mkdir(parents=True)
                if kind == "megatron":
                    done += write_megatron(scratch / split / name / "tokens.bin", batches, corpus.vocab_size)
                else:
                    file, words = scratch / split / name / "tokens.ds", f"stillroom {corpus.manifest['tokenizer_hash']}"
                    done += write_datatrove(file, batches, corpus.vocab_size, words)
                if progress is not None:
                    progress(done, total)
        shutil.copytree(corpus.folder / "tokenizer", scratch / "tokenizer")
    return done


def _documents(sequences: SequenceSet, code: int, *, whole: bool) -> Iterator[IdDocuments]:
    """The documents of a source, marks included: across sequences, or ``whole`` within each (best-fit packing)."""
    numbers = np.flatnonzero(sequences.source == code)
    rows = max(1, TOKENS_AT_ONCE // sequences.sequence_length)
    rest = np.empty(0, np.int64)
    for start in range(0, len(numbers), rows):
        ids = np.concatenate([rest, sequences.tokens(numbers[start : start + rows].tolist()).ravel()])
        bounds = _bounds(ids, sequences)
        if whole:
            bounds = np.union1d(bounds, np.arange(0, len(ids), sequences.sequence_length)[1:])
        is_last = start + rows >= len(numbers)
        end = len(ids) if is_last or whole else int(bounds[-1]) if len(bounds) else 0
        if end:
            yield _batch(ids[:end], np.union1d(bounds[bounds <= end], [end]), sequences)
        rest = ids[end:]


def _bounds(ids: np.ndarray, sequences: SequenceSet) -> np.ndarray:
    """Places between documents: behind every mark that closes one and before every mark that opens one."""
    closing = np.flatnonzero(ids == (sequences.bos if sequences.eos is None else sequences.eos)) + 1
    opening = np.flatnonzero(ids == sequences.bos) if sequences.bos != sequences.eos else closing[:0]
    return np.union1d(closing, opening[opening > 0])


def _batch(ids: np.ndarray, ends: np.ndarray, sequences: SequenceSet) -> IdDocuments:
    """Documents without those that are marks alone."""
    text_upto = np.cumsum(~np.isin(ids, [mark for mark in (sequences.bos, sequences.eos) if mark is not None]))
    has_text = np.diff(text_upto[ends - 1], prepend=0) > 0
    kept = np.repeat(has_text, np.diff(ends, prepend=0))
    return IdDocuments(ids[kept].astype(np.uint32), np.cumsum(np.diff(ends, prepend=0)[has_text]))
