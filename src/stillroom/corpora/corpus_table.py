"""What a corpus holds, as a table for a terminal."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from stillroom.corpora.corpus import Corpus


def corpus_table(corpus: Corpus) -> Table:
    """Vocabulary, marks, sequences and tokens of each split, and what part of the training text every source is."""
    table = Table(title=f"Corpus {corpus.identity}", title_justify="left", show_header=False)
    marks = " and ".join(dict.fromkeys(map(str, (corpus.manifest["bos"], corpus.manifest["eos"]))))
    table.add_row("vocabulary", f"{corpus.vocab_size:,} tokens, documents between ids {marks}")
    table.add_row("sequence length", f"{corpus.train.sequence_length:,} tokens")
    for name, part in (("train", corpus.train), ("held out", corpus.heldout)):
        table.add_row(name, f"{len(part):,} sequences, {part.num_tokens:,} tokens")
    counts = np.bincount(corpus.train.source, minlength=len(corpus.source_names))
    for name, count in zip(corpus.source_names, counts.tolist(), strict=True):
        table.add_row(f"from {name}", f"{count / len(corpus.train):.1%} of the training sequences")
    for name, rows in corpus.manifest.get("rows", {}).items():
        table.add_row(
            f"rows of {name}", ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in rows.items())
        )
    return table
