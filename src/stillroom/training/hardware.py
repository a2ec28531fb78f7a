"""What the machine could do at best and what it holds: the measures that speed and memory are told in."""

from __future__ import annotations

import resource
import time
from functools import lru_cache

import torch

_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "B200": 2250e12, "4090": 165e12}
"""Dense bf16 FLOP/s of one device, by a part of its name (makers' data sheets)."""


@lru_cache(maxsize=4)
def peak_flops(device_type: str, precision_name: str) -> float | None:
    """FLOP/s that matrix products reach at best: from the data sheet of a GPU, measured now (0.1 s) on a processor.

    None for a GPU that is not in the table, and for fp32 on a GPU.
    """
    if device_type == "cpu":
        return measured_rate(torch.bfloat16 if precision_name == "bf16" else torch.float32)
    name = torch.cuda.get_device_name()
    found = [rate for part, rate in _PEAKS.items() if part in name]
    return found[0] if found and precision_name == "bf16" else None


def measured_rate(dtype: torch.dtype, size: int = 1024, seconds: float = 0.1) -> float:
    """FLOP/s of square matrix products on this processor with the threads that PyTorch has now; the best of several."""
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    torch.mm(left, right)
    shortest, until = float("inf"), time.perf_counter() + seconds
    while (begin := time.perf_counter()) < until:
        torch.mm(left, right)
        shortest = min(shortest, time.perf_counter() - begin)
    return 2.0 * size**3 / shortest


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process has held: of the GPU where there is one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
