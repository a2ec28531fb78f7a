"""Language modelling on held-out text: bits per byte, over all and by source.

Letters: I sequences, B sequences of a batch, T positions, N = B·T, S sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from transformers import PreTrainedModel

from stillroom.evaluation.scoring import TOKENS_AT_A_TIME, evaluating, score_tokens
from stillroom.models import hidden_states
from stillroom.results.schema import LikelihoodResult, PerItem, SourceCodes
from stillroom.results.statistics import ratio, require_finite
from stillroom.types import IGNORE_INDEX, Estimate, OnProgress, Sequences, UserError


@dataclass(frozen=True)
class Heldout:
    """Held-out sequences, and what is known of their tokens; V ids.

    ``byte_lengths_V`` is bytes of text per token id (``token_bytes``). ``source_codes`` numbers the source of every
    sequence, (I,), or of every position, (I, T); a position's code is that of its own token, which shares a document
    with its target. ``source_names[code]`` names it. Without codes only the total is measured.
    """

    sequences: Sequences
    byte_lengths_V: NDArray[np.int64]
    source_names: Sequence[str] = ()
    source_codes: ArrayLike | None = None
    documents: ArrayLike | None = None
    """(I,): which document a sequence is from. Sequences of one document are drawn together when an interval is made;
    None takes every sequence for a document of its own."""
    bytes_of: Callable[[Sequence[int]], NDArray[np.int64] | None] | None = None
    """Bytes of text of every token of some sequences, (B, T), where ids alone do not tell them
    (``SequenceSet.token_bytes``); a token's bytes are counted where it is a target."""
    isolate: bool = True
    """Whether packed documents are isolated from one another, as they were in training."""
    real_sources: Sequence[str] = ()
    """Names of the sources that hold text of people, not of worlds; where there are none, all text counts as such."""


def measure_likelihood(
    model: PreTrainedModel,
    heldout: Heldout,
    *,
    num_sequences: int | None = None,
    seed: int = 0,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> LikelihoodResult:
    """The ``lm`` part of an evaluation: bits per byte and nats per token, in all and by source.

    Nats per token counts every target. Bits per byte counts targets that are text, nats / ln 2 / bytes: a special
    token has no bytes, so its nats are not in it. Intervals are over documents, where it is known which sequences are
    of one. ``per_item`` has the numbers of every document, ``per_item_weights`` its bytes and its targets;
    ``text_bits_per_byte`` is over documents of real sources alone. Raises ``UserError`` without sequences.
    """
    total = len(heldout.sequences) if num_sequences is None else min(num_sequences, len(heldout.sequences))
    if not total:
        raise UserError("evaluation: the held-out set has no sequence, expected at least one; raise heldout_tokens.")
    sums_IS4 = _sums(model, heldout, total, max(1, tokens_at_a_time // heldout.sequences.sequence_length), progress)
    return _result(_by_document(sums_IS4, heldout.documents), heldout, seed)


def _sums(
    model: PreTrainedModel, heldout: Heldout, total: int, per_batch: int, progress: OnProgress | None
) -> NDArray[np.float64]:
    """The columns of every sequence by source, summed over its positions; (I, S, 4)."""
    codes_IT = _codes(heldout, total)
    num_sources = max(1, len(heldout.source_names))
    sums_IS4 = np.zeros((total, num_sources, 4))
    for start in range(0, total, per_batch):
        indices = range(start, min(start + per_batch, total))
        nats_BT, targets_BT = _nats(model, heldout, indices)
        counted_BT = None if heldout.bytes_of is None else heldout.bytes_of(indices)
        columns_BT4 = _columns(nats_BT, targets_BT, heldout.byte_lengths_V, counted_BT)
        for source in range(num_sources):
            inside_BT = np.broadcast_to(codes_IT[indices.start : indices.stop] == source, nats_BT.shape)
            sums_IS4[indices.start : indices.stop, source] = (columns_BT4 * inside_BT[..., None]).sum(axis=1)
        if progress:
            progress(indices.stop, total)
    return sums_IS4


def _result(sums_IS4: NDArray[np.float64], heldout: Heldout, seed: int) -> LikelihoodResult:
    """Estimates over documents (I), in all, of real text, and by source."""
    source_I = sums_IS4[:, :, 3].argmax(axis=1)
    names, weights_I4 = heldout.source_names, sums_IS4.sum(axis=1)
    is_real_I = np.isin(source_I, [code for code, name in enumerate(names) if name in heldout.real_sources])
    is_real_I &= weights_I4[:, 1] > 0
    text_I4 = weights_I4 * (is_real_I | ~is_real_I.any())[:, None]
    per_item, per_item_weights = _per_item(weights_I4, text_I4)
    return LikelihoodResult(
        **_estimates(weights_I4, seed, source_I),
        text_bits_per_byte=_estimates(text_I4[text_I4[:, 1] > 0], seed)["bits_per_byte"],
        per_item=per_item,
        per_item_weights=per_item_weights,
        per_item_sources=SourceCodes(names=tuple(names), codes=tuple(source_I.tolist())) if names else None,
        by_source={
            name: _estimates(sums_IS4[:, source], seed)
            for source, name in enumerate(names)
            if sums_IS4[:, source, 3].sum() > 0
        },
    )


def _per_item(sums_I4: NDArray[np.float64], text_I4: NDArray[np.float64]) -> tuple[PerItem, PerItem]:
    """The measures of every document, 0 where it has none, and how much each one weighs."""
    bits_I, bytes_I, nats_I, targets_I = sums_I4.T
    names = ("bits_per_byte", "nats_per_token", "text_bits_per_byte")
    per_byte_I = bits_I / math.log(2) / np.maximum(bytes_I, 1)
    text_bytes_I = text_I4[:, 1]
    values = (per_byte_I, nats_I / np.maximum(targets_I, 1), per_byte_I * (text_bytes_I > 0))
    columns = (dict(zip(names, each, strict=True)) for each in (values, (bytes_I, targets_I, text_bytes_I)))
    per_item, weights = ({name: tuple(of_I.tolist()) for name, of_I in each.items()} for each in columns)
    return per_item, weights


def _by_document(sums_IS4: NDArray[np.float64], documents: ArrayLike | None) -> NDArray[np.float64]:
    """The sums with the sequences of one document added up."""
    if documents is None:
        return sums_IS4
    names, place_I = np.unique(np.asarray(documents)[: len(sums_IS4)], return_inverse=True)
    together = np.zeros((len(names), *sums_IS4.shape[1:]))
    np.add.at(together, place_I, sums_IS4)
    return together


def _codes(heldout: Heldout, total: int) -> NDArray[np.int64]:
    if heldout.source_codes is None:
        return np.zeros((total, 1), dtype=np.int64)
    codes = np.asarray(heldout.source_codes, dtype=np.int64)[:total]
    if len(codes) < total:
        raise ValueError(f"source_codes has {len(codes)} rows but {total} sequences are evaluated")
    return codes.reshape(total, -1)


def _nats(model: PreTrainedModel, heldout: Heldout, indices: range) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Nats (B, T) of every target, 0 where there is none, and the targets (B, T)."""
    batch = heldout.sequences.batch(indices)
    with evaluating(model):
        on_device = batch.to(model.device)
        counted_BT = on_device.targets_BT != IGNORE_INDEX
        hidden_BTD = hidden_states(model, on_device, isolate=heldout.isolate)
        logprob_N, _ = score_tokens(model, hidden_BTD[counted_BT], on_device.targets_BT[counted_BT])
    nats_BT = np.zeros(batch.targets_BT.shape)
    nats_BT[counted_BT.cpu().numpy()] = -logprob_N.double().cpu().numpy()
    require_finite(nats_BT)
    return nats_BT, batch.targets_BT.cpu().numpy()


def _columns(
    nats_BT: NDArray[np.float64],
    targets_BT: NDArray[np.int64],
    byte_lengths_V: NDArray[np.int64],
    bytes_BT: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    """Per position: nats of text, bytes of text, nats of any target, 1 for any target; (B, T, 4).

    ``bytes_BT`` are the bytes of the tokens themselves, which are the targets of the positions before them.
    """
    counted_BT = targets_BT != IGNORE_INDEX
    by_id_BT = np.where(counted_BT, byte_lengths_V[np.where(counted_BT, targets_BT, 0)], 0)
    of_target_BT = by_id_BT if bytes_BT is None else np.where(counted_BT, np.roll(bytes_BT, -1, axis=1), 0)
    return np.stack([nats_BT * (by_id_BT > 0), of_target_BT, nats_BT, counted_BT], axis=-1).astype(np.float64)


def _estimates(
    sums_I4: NDArray[np.float64], seed: int, strata_I: NDArray[np.int64] | None = None
) -> dict[str, Estimate]:
    bits_I = sums_I4[:, 0] / math.log(2)
    return {
        "bits_per_byte": ratio(bits_I, sums_I4[:, 1], strata=strata_I, seed=seed),
        "nats_per_token": ratio(sums_I4[:, 2], sums_I4[:, 3], strata=strata_I, seed=seed),
    }
