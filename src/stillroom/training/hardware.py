"""What the machine could do at best and what it holds: the measures that speed and memory are told in."""

from __future__ import annotations

import re
import resource
import time
from functools import lru_cache

import torch

CPU = torch.device("cpu")
_PEAKS = {
    "B200": 2250e12,
    "MI300X": 1307e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "4090": 165e12,
    "3090": 71e12,
}
"""Dense bf16 FLOP/s of one device by words of its name, the most particular first (makers' data sheets)."""


@lru_cache(maxsize=4)
def peak_flops(device_type: str, precision_name: str) -> float | None:
    """FLOP/s that matrix products reach at best: from the data sheet of a GPU, measured now (0.1 s) on a processor.

    None for a GPU that is not in the table, and for fp32 on a GPU.
    """
    if device_type == "cpu":
        return measured_rate(torch.bfloat16 if precision_name == "bf16" else torch.float32)
    return listed_flops(torch.cuda.get_device_name()) if precision_name == "bf16" else None


def listed_flops(name: str) -> float | None:
    """Dense bf16 FLOP/s of the GPU with this name by its data sheet; None for an unknown one or a part of one (MIG)."""
    words = set(re.split(r"[\s-]+", name))
    if "MIG" in words:
        return None
    return next((rate for part, rate in _PEAKS.items() if words.issuperset(part.split())), None)


def measured_rate(
    dtype: torch.dtype, size: int = 1024, seconds: float = 0.1, *, rows: int | None = None, device: torch.device = CPU
) -> float:
    """FLOP/s of matrix products (``rows`` x size by size x size), with the threads that PyTorch has now on a processor.

    The best of what fits into ``seconds``. ``rows`` left out: as many as columns.
    """
    rows = size if rows is None else rows
    left = torch.ones(rows, size, dtype=dtype, device=device)
    right = torch.ones(size, size, dtype=dtype, device=device)

    def product() -> float:
        begin = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    product()  # the first one loads and chooses kernels
    shortest, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        shortest = min(shortest, product())
    return 2.0 * rows * size**2 / shortest


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process has held: of the GPU where there is one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
