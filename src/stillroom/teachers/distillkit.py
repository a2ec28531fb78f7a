"""Reads the rows that DistillKit compresses, from its documented configuration (its README, version 1.0).

A position's log-probabilities, largest first: the first ``exact_k`` as they are, the others as a polynomial in their
place, then residuals in bins; token ids in ceil(log2 d) bits each, highest bit first. Imports numpy only.
Letters: N positions, K kept ids.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.types import UserError
from stillroom.yamlfiles import read_yaml

_WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def read_config(path: Path) -> dict[str, Any]:
    """The compression settings beside some Parquet files."""
    file = (path if path.is_dir() else path.parent) / "compression_config.yaml"
    if not file.is_file():
        raise UserError(
            f"{file}: no such file; DistillKit writes it beside the Parquet files, and nothing reads them without."
        )
    config = read_yaml(file, "DistillKit's compression settings")
    if not isinstance(config, dict):
        raise UserError(f"{file}: holds no mapping of settings; expected the file that DistillKit writes.")
    for name in ("d", "k", "exact_k"):
        if not isinstance(config.get(name), int):
            raise UserError(f"{file}: {name} is {config.get(name)!r}, expected a number; check the file.")
    return config


def ids(packed_NP: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Token ids (N, K), int32."""
    bits = math.ceil(math.log2(config["d"]))
    flat = np.unpackbits(packed_NP, axis=1)[:, : config["k"] * bits].reshape(len(packed_NP), config["k"], bits)
    return (flat @ (1 << np.arange(bits - 1, -1, -1))).astype(np.int32)


def logprobs(packed_NP: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Log-probabilities (N, K), float32."""
    exact, start = config["exact_k"], 0
    kind = config.get("exact_dtype", "float32")
    values = [_floats(packed_NP[:, : exact * _WIDTHS[kind]], kind)]
    start += exact * _WIDTHS[kind]
    rest = np.zeros((len(packed_NP), config["k"] - exact), np.float32)
    terms = config.get("polynomial_terms") or []
    if terms:
        kind = config.get("term_dtype", "float32")
        end = start + len(terms) * _WIDTHS[kind]
        rest = rest + _floats(packed_NP[:, start:end], kind) @ _powers(terms, rest.shape[1], config).T
        start = end
    place = 0
    for one in config.get("residual_bins") or []:
        start = _add_residuals(packed_NP, start, rest[:, place : place + one["num_elements"]], one)
        place += one["num_elements"]
    found = np.concatenate([*values, rest], axis=1)
    return found.cumsum(1) if config.get("delta_encoding", True) else found


def _floats(raw: np.ndarray, kind: str) -> np.ndarray:
    raw = np.ascontiguousarray(raw)
    if kind == "bfloat16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return raw.view({"float16": "<f2", "float32": "<f4", "float64": "<f8"}[kind]).astype(np.float32)


def _powers(terms: list[int | str], count: int, config: dict[str, Any]) -> np.ndarray:
    places = np.linspace(0, 1, count) if config.get("normalize_t") else np.arange(count, dtype=np.float64)
    columns = [
        places**term if isinstance(term, int) else {"sqrt": np.sqrt, "exp": np.exp}[term](places) for term in terms
    ]
    return np.stack(columns, -1).astype(np.float32)


def _add_residuals(packed_NP: np.ndarray, start: int, rest: np.ndarray, settings: dict[str, Any]) -> int:
    """Adds the residuals of one bin to a part of the log-probabilities; returns where the bin ends."""
    width, bits, count = _WIDTHS[settings["scale_dtype"]], settings["element_bits"], settings["num_elements"]
    scale = _floats(packed_NP[:, start : start + width], settings["scale_dtype"])
    start += width
    end = start + (bits * count + 7) // 8
    flat = np.unpackbits(packed_NP[:, start:end], axis=1)[:, : bits * count].reshape(len(packed_NP), count, bits)
    steps = (flat @ (1 << np.arange(bits - 1, -1, -1))).astype(np.float32)
    rest += scale * (2 * steps - 1 if bits == 1 else steps - 2 ** (bits - 1))
    return end
