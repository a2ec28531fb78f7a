"""Runs a teacher over a corpus and writes its labels: resumable, atomic, by any number of ranks that never talk.

A store is a folder: ``plan.json`` (what is asked for), ``codebook.bin`` (fitted to a first sample), ``shards/``, and,
once every shard is there, ``index.bin`` and ``manifest.json``; see ``write``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillroom.labels.codecs.systematic import offsets
from stillroom.labels.fidelity import measure_fidelity
from stillroom.labels.format import manifest as manifests
from stillroom.labels.format.layout import SCHEMA, key_halves, record_keys
from stillroom.labels.format.manifest import Identity, Manifest, Plan
from stillroom.labels.ragged import RaggedLabels
from stillroom.labels.reading import NotFinite, Scores, capture
from stillroom.labels.settings import LabelSettings, SaysSettings
from stillroom.labels.write import FORWARD_TOKENS, write_store
from stillroom.types import OnProgress, Sequences, SoftLabels, UserError


@dataclass(frozen=True)
class TeacherSource:
    """Labels of a teacher that is run over a corpus."""

    scores: Scores
    sequences: Sequences
    settings: LabelSettings
    vocab_size: int

    def rows(self, numbers: range) -> tuple[np.ndarray, RaggedLabels]:
        """See ``StoreSource``."""
        batch = self.sequences.batch(list(numbers))
        tokens_BT = batch.tokens_BT.cpu().numpy()
        if tokens_BT.min() < 0 or tokens_BT.max() >= self.vocab_size:
            token = tokens_BT.min() if tokens_BT.min() < 0 else tokens_BT.max()
            raise UserError(
                f"corpus: token id {token} found but the tokenizer has {self.vocab_size} tokens; "
                "use the teacher's tokenizer."
            )
        offset_N = offsets(key_halves(record_keys(tokens_BT)), tokens_BT.shape[1], self.settings.seed)
        try:
            return tokens_BT, capture(self.scores, batch, offset_N, self.settings)
        except NotFinite as error:
            sequence = numbers[error.sequence]
            raise NotFinite(error.found, error.position, sequence, f" of sequence {sequence} of the corpus") from None

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        """See ``StoreSource``."""
        return measure_fidelity(self.scores, self.sequences.batch(list(numbers)), labels, self.settings)


def make_plan(scores: Scores, sequences: Sequences, config: SaysSettings, identity: Identity) -> Plan:
    """The plan of a store that holds labels of all ``sequences``."""
    return Plan(
        schema=SCHEMA,
        identity=manifests.ordered_identity(identity),
        labels=dict(config.canonical()),
        num_sequences=len(sequences),
        sequence_length=sequences.sequence_length,
        isolate_documents=scores.isolate,
        precision=scores.precision_name,
        forward_sequences=max(1, FORWARD_TOKENS // sequences.sequence_length),
    )


def label_part(
    scores: Scores,
    sequences: Sequences,
    config: SaysSettings,
    folder: Path,
    *,
    identity: Identity,
    rank: int = 0,
    world_size: int = 1,
    progress: OnProgress | None = None,
) -> Manifest | None:
    """Labels the shards of one rank (every ``world_size``-th) and finishes the store if all are there.

    Returns the manifest, or None where other ranks still have shards to write. ``scores`` are a teacher's: of a causal
    language model, ``stillroom.teachers.ModelScores``. ``progress`` hears (tokens done, tokens to do) of this rank.
    """
    plan = make_plan(scores, sequences, config, identity)
    source = TeacherSource(scores, sequences, plan.settings, plan.vocab_size)
    return write_store(source, plan, folder, rank=rank, world_size=world_size, progress=progress)


def label(
    scores: Scores,
    sequences: Sequences,
    config: SaysSettings,
    folder: Path,
    *,
    identity: Identity,
    progress: OnProgress | None = None,
) -> Manifest:
    """Labels all sequences into a store in this process and returns its manifest; see ``label_part``."""
    manifest = label_part(scores, sequences, config, folder, identity=identity, progress=progress)
    assert manifest is not None, "one process labels every shard"
    return manifest
