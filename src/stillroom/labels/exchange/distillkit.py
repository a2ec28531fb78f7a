"""Reads the rows that DistillKit compresses, from its documented configuration (its README, version 1.0).

A position's log-probabilities, largest first: the first ``exact_k`` as they are, the others as a polynomial in their
place, then residuals in bins; token ids in ceil(log2 d) bits each, highest bit first. Imports no torch.
Letters: N positions, K kept ids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from stillroom.types import UserError
from stillroom.yamlfiles import read_yaml

_WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
Float = Literal["float16", "bfloat16", "float32", "float64"]
Count = Annotated[int, Field(strict=True, ge=0)]


class ResidualBin(BaseModel):
    """Residuals of some places: a scale, then so many bits for each."""

    scale_dtype: Float
    element_bits: Annotated[int, Field(strict=True, ge=1, le=16)]
    num_elements: Count


class Compression(BaseModel):
    """The compression settings beside some Parquet files, as DistillKit writes them; ``d`` is the vocabulary's size."""

    d: Annotated[int, Field(strict=True, ge=2, le=1 << 31)]
    k: Annotated[int, Field(strict=True, ge=1, le=1 << 16)]
    exact_k: Count
    exact_dtype: Float = "float32"
    polynomial_terms: list[Count | Literal["sqrt", "exp"]] | None = None
    term_dtype: Float = "float32"
    residual_bins: list[ResidualBin] | None = None
    delta_encoding: bool = True
    normalize_t: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        in_bins = sum(one.num_elements for one in self.residual_bins or ())
        if not self.exact_k + in_bins <= self.k <= self.d:
            raise ValueError(f"exact_k and the residual bins name {self.exact_k + in_bins} of k places, d is {self.d}")
        return self

    @property
    def id_bits(self) -> int:
        """Bits of an id."""
        return math.ceil(math.log2(self.d))

    @property
    def id_bytes(self) -> int:
        """Bytes of a position's ids."""
        return -(-self.k * self.id_bits // 8)

    @property
    def value_bytes(self) -> int:
        """Bytes of a position's log-probabilities."""
        bins = sum(
            _WIDTHS[one.scale_dtype] + -(-one.element_bits * one.num_elements // 8) for one in self.residual_bins or ()
        )
        terms = len(self.polynomial_terms or ()) * _WIDTHS[self.term_dtype]
        return self.exact_k * _WIDTHS[self.exact_dtype] + terms + bins


def read_compression(path: Path) -> Compression:
    """The compression settings beside some Parquet files."""
    file = (path if path.is_dir() else path.parent) / "compression_config.yaml"
    if not file.is_file():
        raise UserError(
            f"{file}: no such file; DistillKit writes it beside the Parquet files, and nothing reads them without."
        )
    values = read_yaml(file, "DistillKit's compression settings")
    try:
        return Compression.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
        raise UserError(f"{file}: cannot be used ({why}); expected the settings that DistillKit wrote.") from None


def check_packed(where: str, packed_NP: np.ndarray, sizes_N: np.ndarray, size: int) -> None:
    """Refuses positions of another number of bytes than the settings say, or numbers that are no bytes."""
    if len(sizes_N) and ((sizes_N != size).any() or packed_NP.min() < 0 or packed_NP.max() > 255):
        found = sorted({int(one) for one in sizes_N})[:3]
        raise UserError(f"{where}: holds {found} bytes to a position, expected {size}; give the files' own settings.")


def ids(packed_NP: np.ndarray, config: Compression) -> np.ndarray:
    """Token ids (N, K), int32."""
    bits = config.id_bits
    flat = np.unpackbits(packed_NP, axis=1)[:, : config.k * bits].reshape(len(packed_NP), config.k, bits)
    return (flat @ (1 << np.arange(bits - 1, -1, -1))).astype(np.int32)


def logprobs(packed_NP: np.ndarray, config: Compression) -> np.ndarray:
    """Log-probabilities (N, K), float32."""
    exact, start = config.exact_k, 0
    kind = config.exact_dtype
    values = [_floats(packed_NP[:, : exact * _WIDTHS[kind]], kind)]
    start += exact * _WIDTHS[kind]
    rest = np.zeros((len(packed_NP), config.k - exact), np.float32)
    terms = config.polynomial_terms or []
    if terms:
        kind = config.term_dtype
        end = start + len(terms) * _WIDTHS[kind]
        rest = rest + _floats(packed_NP[:, start:end], kind) @ _powers(terms, rest.shape[1], config).T
        start = end
    place = 0
    for one in config.residual_bins or []:
        start = _add_residuals(packed_NP, start, rest[:, place : place + one.num_elements], one)
        place += one.num_elements
    found = np.concatenate([*values, rest], axis=1)
    return found.cumsum(1) if config.delta_encoding else found


def _floats(raw: np.ndarray, kind: str) -> np.ndarray:
    raw = np.ascontiguousarray(raw)
    if kind == "bfloat16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return raw.view({"float16": "<f2", "float32": "<f4", "float64": "<f8"}[kind]).astype(np.float32)


def _powers(terms: Sequence[int | str], count: int, config: Compression) -> np.ndarray:
    places = np.linspace(0, 1, count) if config.normalize_t else np.arange(count, dtype=np.float64)
    columns = [
        places**term if isinstance(term, int) else {"sqrt": np.sqrt, "exp": np.exp}[term](places) for term in terms
    ]
    return np.stack(columns, -1).astype(np.float32)


def _add_residuals(packed_NP: np.ndarray, start: int, rest: np.ndarray, settings: ResidualBin) -> int:
    """Adds the residuals of one bin to a part of the log-probabilities; returns where the bin ends."""
    width, bits, count = _WIDTHS[settings.scale_dtype], settings.element_bits, settings.num_elements
    scale = _floats(packed_NP[:, start : start + width], settings.scale_dtype)
    start += width
    end = start + (bits * count + 7) // 8
    flat = np.unpackbits(packed_NP[:, start:end], axis=1)[:, : bits * count].reshape(len(packed_NP), count, bits)
    steps = (flat @ (1 << np.arange(bits - 1, -1, -1))).astype(np.float32)
    rest += scale * (2 * steps - 1 if bits == 1 else steps - 2 ** (bits - 1))
    return end
