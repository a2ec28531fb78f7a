"""The precision that ``auto`` stands for in this process, without torch where the system tells what torch would.

Names of artifacts depend on it, and whoever asks for names alone should not wait for torch.
"""

from __future__ import annotations

from pathlib import Path

_ACCELERATORS = ("nvidia*", "nvhost*", "nvgpu*", "nvmap", "dxg", "kfd")
"""Files in ``/dev`` of systems with a device that torch might use as CUDA."""
_BF16 = {"avx512_bf16", "amx_bf16"}
"""Flags of processors that multiply bf16."""


def own_precision(name: str) -> str:
    """``auto`` resolved for the device that this process uses (``models.precision_name``); else the name itself."""
    if name != "auto":
        return name
    flags = _processor_flags()
    if flags is not None:
        return "bf16" if flags & _BF16 else "fp32"
    from stillroom.models import precision_name
    from stillroom.training.distributed import own_device

    return precision_name(name, own_device())


def _processor_flags() -> set[str] | None:
    """What Linux says of an x86 processor that computes alone; None where torch has to be asked."""
    if any(next(Path("/dev").glob(pattern), None) for pattern in _ACCELERATORS):
        return None
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
