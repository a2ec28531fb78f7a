"""Systematic sampling: N equally spaced pointers through a distribution, placed by one uniform offset.

Unbiased for every token, like N independent draws, with less variance: a token of probability p gets floor(N·p) or
ceil(N·p) pointers, so that its variance is f·(1 - f)/N² with f the fractional part of N·p, where independent draws have
p·(1 - p)/N (Cochran, Sampling Techniques, chapter 8; for distillation science: Sparse Logit Sampling, 2503.16870, uses
independent draws). Letters: n positions of a chunk, V vocabulary, N pointers. Imports no model.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stillroom.splitmix import STEP, scattered

BLOCK = 64
"""Tokens of the vocabulary that are summed before the running total is taken."""
_LAST = 1.0 - 2.0**-40
"""Largest fraction of a total that a pointer may stand at, so that rounding never moves it past the last token."""


def offsets(keys_B2: np.ndarray, length: int, seed: int) -> np.ndarray:
    """Offsets in [0, 1), float64 (B·T,), each a function of the seed, the sequence's key and the position alone.

    Hence a store that was interrupted, or labelled by other ranks or in other batches, holds the same draws.
    Arguments: ``keys_B2`` uint64, the two halves of each sequence's key. The mixing is ``splitmix``.
    """
    seeds = scattered(np.array([seed], np.uint64))
    keys_B = scattered(keys_B2[:, 0] ^ scattered(keys_B2[:, 1] ^ seeds))
    mixed_BT = scattered(keys_B[:, None] + np.arange(1, length + 1, dtype=np.uint64) * STEP)
    return ((mixed_BT >> np.uint64(11)) * 2.0**-53).reshape(-1)


def systematic(mass_nV: Tensor, offset_n: Tensor, num_samples: int) -> Tensor:
    """Sampled token ids (n, N), int64, never decreasing along N; a token that was drawn c times stands there c times.

    Arguments: ``mass_nV`` float32, at least 0, of any positive total per row; ``offset_n`` float64 in [0, 1).
    The vocabulary is walked in two steps, whole blocks first, so that the running total over V (a serial sum) is taken
    over V/64 block masses in float64 and inside the few blocks that a pointer falls into.
    """
    rows, vocabulary = mass_nV.shape
    padded = torch.nn.functional.pad(mass_nV, (0, -vocabulary % BLOCK))
    blocks_nbg = padded.view(rows, -1, BLOCK)
    edges_nb = blocks_nbg.sum(-1).double().cumsum(-1)
    steps_N = torch.arange(num_samples, dtype=torch.float64, device=mass_nV.device)
    fraction_nN = ((steps_N + offset_n[:, None]) / num_samples).clamp(max=_LAST)
    pointer_nN = fraction_nN * edges_nb[:, -1:]
    block_nN = torch.searchsorted(edges_nb, pointer_nN, right=True)
    start_nb = torch.nn.functional.pad(edges_nb, (1, 0))
    low_nN, high_nN = start_nb.gather(1, block_nN), start_nb.gather(1, block_nN + 1)
    inside_nN = ((pointer_nN - low_nN) / (high_nN - low_nN)).clamp(min=0.0, max=_LAST)
    index_nNg = block_nN[:, :, None].expand(-1, -1, BLOCK)
    running_nNg = blocks_nbg.gather(1, index_nNg).double().cumsum(-1)
    target_nN = inside_nN * running_nNg[:, :, -1]
    return block_nN * BLOCK + (running_nNg <= target_nN[:, :, None]).sum(-1)


def counted(ids_nN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct ids (E,), their counts (E,) and distinct ids per row (n,) of sorted draws, all int64."""
    is_first_nN = torch.ones_like(ids_nN, dtype=torch.bool)
    is_first_nN[:, 1:] = ids_nN[:, 1:] != ids_nN[:, :-1]
    places_E = is_first_nN.flatten().nonzero().squeeze(1)
    ends_E = torch.cat((places_E[1:], places_E.new_tensor([ids_nN.numel()])))
    return ids_nN.flatten()[places_E], ends_E - places_E, is_first_nN.sum(1)
