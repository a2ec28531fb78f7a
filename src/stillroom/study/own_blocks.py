"""Labels of token blocks that were made elsewhere, for a training loop that is somebody else's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from stillroom.corpora import SequenceSet, load_tokenizer, special_ids, tokenizer_hash
from stillroom.corpora.tokenizer import with_marks
from stillroom.files import fingerprint
from stillroom.labels import Identity, LabelSettings, Manifest, label
from stillroom.labels.settings import SaysSettings
from stillroom.study.teacherfolders import teacher_folder, teacher_hash
from stillroom.study.train_stage import load_here
from stillroom.teachers import ModelScores
from stillroom.types import OnProgress, UserError
from stillroom.vocabulary import num_ids


def label_blocks(
    teacher: str | Path,
    blocks_RT: ArrayLike,
    folder: str | Path,
    settings: SaysSettings | None = None,
    *,
    isolate: bool = True,
    progress: OnProgress | None = None,
) -> Manifest:
    """Labels token blocks of your own by a pretrained model into the store ``folder`` and returns its manifest.

    ``blocks_RT`` are ids (R blocks, T tokens) of the teacher's own tokenizer, just as a student will be given them; a
    document begins at its bos token (its eos where it has no bos). ``LabelStore.open(folder).lookup(tokens_BT)`` then
    has the labels of any of them, and ``LabelDataset`` gives both. Stopped anywhere, the same call goes on.

    Raises ``UserError`` for a folder that is no model, and for ids that its tokenizer does not have.
    """
    place = teacher_folder(str(teacher))
    tokenizer = load_tokenizer(place)
    marks, size = special_ids(with_marks(tokenizer)), num_ids(tokenizer)
    tokens_RT = _checked(np.asarray(blocks_RT), size, place)
    assert marks.bos is not None  # with_marks has seen to it
    nowhere_R = np.zeros(len(tokens_RT), np.uint32)
    sequences = SequenceSet((tokens_RT,), nowhere_R, nowhere_R, marks.bos, len(tokens_RT), marks.eos)
    identity = Identity(
        teacher=teacher_hash(place),
        tokenizer=tokenizer_hash(tokenizer),
        vocab_size=size,
        corpus=fingerprint([list(tokens_RT.shape), tokens_RT.tobytes().hex()]),
    )
    scores = ModelScores(load_here(place), size, isolate)
    return label(scores, sequences, settings or LabelSettings(), Path(folder), identity=identity, progress=progress)


def _checked(tokens_RT: np.ndarray, size: int, teacher: str) -> np.ndarray:
    """The blocks as numbers of one kind, once they are ids of a tokenizer of ``size`` tokens."""
    if tokens_RT.ndim != 2 or not np.issubdtype(tokens_RT.dtype, np.integer) or min(tokens_RT.shape) < 1:
        raise UserError(
            f"label_blocks: found {tokens_RT.dtype} of shape {tokens_RT.shape}, expected whole numbers of shape "
            "(blocks, tokens); cut the tokens into blocks of one length."
        )
    low, high = int(tokens_RT.min()), int(tokens_RT.max())
    if low < 0 or high >= size:
        raise UserError(
            f"label_blocks: token id {low if low < 0 else high} found, but the tokenizer of {teacher} has {size} "
            "tokens, so the ids are of another one; use the teacher's tokenizer."
        )
    return tokens_RT.astype(np.uint32)
