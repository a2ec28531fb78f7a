"""Run by itself: what torch says of this machine and how long imports take, as JSON on standard output.

In a process of its own, so that a torch that is missing, broken or slow harms nobody who asks.
"""

from __future__ import annotations

import importlib
import json
import time
from types import ModuleType


def _timed(name: str) -> tuple[ModuleType, float]:
    """A module with all the names that it lists, and the seconds that took."""
    start = time.perf_counter()
    module = importlib.import_module(name)
    if name.startswith("stillroom."):
        for one in module.__all__:
            getattr(module, one)
    return module, time.perf_counter() - start


def _device(torch: ModuleType) -> str:
    if not torch.cuda.is_available():
        return "cpu"
    return f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"


def _facts() -> dict[str, object]:
    torch, of_torch = _timed("torch")
    _, of_objectives = _timed("stillroom.objectives")
    models, of_models = _timed("stillroom.models")
    return {
        "cuda": torch.version.cuda or torch.version.hip or "",
        "device": _device(torch),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or "",
        "multiplies_bf16": models.multiplies_bf16("cuda" if torch.cuda.is_available() else "cpu"),
        "threads": torch.get_num_threads(),
        "import_seconds": {"torch": of_torch, "stillroom.objectives": of_objectives, "stillroom.models": of_models},
    }


if __name__ == "__main__":
    print(json.dumps(_facts()))
