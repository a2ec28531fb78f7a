"""DistillKit's two documented codecs on the same rows: for ``benchmarks/store.py``.

Letters: N positions, K kept ids.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillroom.labels import LabelStore
from stillroom.labels.ragged import RaggedLabels

RIVALS = {"recommended": "top-k", "budget": "top-k, coarse"}
"""DistillKit's codecs, and the store that each is set against."""


def against_distillkit(
    rows: RaggedLabels,
    tokens_BT: np.ndarray,
    stores: dict[str, LabelStore],
    sizes: dict[str, dict[str, Any]],
    checkout: Path,
    vocab_size: int,
) -> dict[str, Any]:
    """Bytes and KL(teacher‖decoded) over the 50 kept ids, of DistillKit's two documented codecs and of ours.

    Arguments: the teacher's ``rows`` of ``tokens_BT``; stores of them and, by the same names, their bytes per token.
    """
    sys.path.insert(0, str(checkout))
    from distillkit.compression import DistributionQuantizationConfig, LogprobCompressor  # type: ignore[import-not-found]

    k = 50
    count = min(len(rows), 32_768)
    ids = torch.from_numpy(rows.ids_E[: count * k].astype(np.int64)).view(count, k)
    logp = torch.from_numpy(np.log(np.maximum(rows.values_E[: count * k], 1e-30))).view(count, k)
    outside = (
        torch.from_numpy(rows.tail_N[:count].astype(np.float64)) if rows.tail_N is not None else torch.zeros(count)
    )
    shared = {"d": vocab_size, "k": k, "exact_dtype": "bfloat16", "term_dtype": "float32", "residual_bins": [],
              "delta_encoding": False, "error_diffusion": False}  # fmt: skip
    documented = {
        "recommended": {"exact_k": 16, "polynomial_terms": [0, 1, 2, 3, 4, "sqrt"]},
        "budget": {"exact_k": 1, "polynomial_terms": [0, 1, "sqrt"]},
    }
    found: dict[str, Any] = {}
    for name, settings in documented.items():
        compressor = LogprobCompressor(config=DistributionQuantizationConfig(**shared, **settings))
        packed = compressor.compress_from_sparse(ids, logp)
        again_ids, again = compressor.decompress_to_sparse(packed)
        dense = _on(ids, again_ids, again.float(), vocab_size)
        size = sum(value.shape[-1] * value.element_size() for value in packed.values())
        found[name] = {"bytes_per_token": size, "kl_nats": _kl(logp, dense.exp(), outside)}
    for rival, name in RIVALS.items():
        labels = stores[name].lookup(torch.from_numpy(tokens_BT[: count // tokens_BT.shape[1]]))
        flat = labels.flatten()
        ours = _on(ids[: len(flat.ids)], flat.ids, flat.weights, vocab_size)
        per_token, large = sizes[name]["bytes_per_token"], sizes[name]["bytes_per_token_in_a_large_store"]
        found[name] = {"bytes_per_token": per_token, "kl_nats": _kl(logp[: len(ours)], ours, outside[: len(ours)])}
        found[f"ratio to {rival}"] = per_token / found[rival]["bytes_per_token"]
        found[f"ratio to {rival}, without the codebook"] = large / found[rival]["bytes_per_token"]
    return found


def _on(ids_NK: torch.Tensor, found_NK: torch.Tensor, values_NK: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Values of the ids in ``ids_NK``, looked up among the ids in ``found_NK``."""
    pieces = []
    for start in range(0, len(ids_NK), 1024):
        here = slice(start, start + 1024)
        dense = torch.zeros(len(ids_NK[here]), vocab_size).scatter(1, found_NK[here], values_NK[here].float())
        pieces.append(dense.gather(1, ids_NK[here]))
    return torch.cat(pieces)


def _kl(logp_NK: torch.Tensor, q_NK: torch.Tensor, outside_N: torch.Tensor) -> float:
    """Mean KL over the kept ids and the rest as one event; what is given back above 1 is scaled to 1."""
    p = logp_NK.double().exp()
    q = q_NK.double().clamp(min=1e-30)
    total = q.sum(1, keepdim=True)
    q = torch.where(total > 1 - 1e-9, q / total * (1 - 1e-9), q)
    rest = (1 - q.sum(1)).clamp(min=1e-12)
    listed = (p * (p.clamp(min=1e-30).log() - q.log())).sum(1)
    return float((listed + torch.special.xlogy(outside_N, outside_N / rest)).mean())
