"""Muon in fp32 beside torch's own, whose products are in bf16, on this machine: seconds of one optimizer step.

    OMP_NUM_THREADS=1 python benchmarks/muon.py --out benchmarks/results/muon.json

Both step the hidden matrices of the quickstart's student and teacher, in turns, by processor time. The floor is the
products of five iterations at the rate that one large product of the same precision reaches here.
"""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.optim import Muon

from stillroom.files import write_json
from stillroom.models import multiplies_bf16
from stillroom.training.full_precision_muon import FullPrecisionMuon

MODELS = {"student": (128, 384, 3), "teacher": (224, 608, 4)}
"""Width, width of the MLP, layers."""
KINDS: dict[str, tuple[type[Muon], torch.dtype]] = {
    "bf16": (Muon, torch.bfloat16),
    "fp32": (FullPrecisionMuon, torch.float32),
}
ITERATIONS = 5


def matrices(width: int, inner: int, layers: int) -> list[nn.Parameter]:
    """The hidden matrices of a model, with gradients."""
    shapes = [(width, width)] * 4 + [(inner, width)] * 2 + [(width, inner)]
    made = [nn.Parameter(torch.randn(shape)) for _ in range(layers) for shape in shapes]
    for parameter in made:
        parameter.grad = torch.randn_like(parameter)
    return made


def flops(parameters: list[nn.Parameter]) -> float:
    """Of the products of one step: Gram matrix, its square, and the product with the matrix."""
    total = 0.0
    for parameter in parameters:
        small, large = sorted(parameter.shape)
        total += ITERATIONS * (4.0 * small * small * large + 2.0 * small**3)
    return total


def rate(dtype: torch.dtype, size: int = 512) -> float:
    """FLOP/s of one product of square matrices, the best of five."""
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return max(2.0 * size**3 / seconds(lambda: left @ right) for _ in range(5))


def seconds(run: Any) -> float:
    """Processor time of one call."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def measure(repeats: int) -> dict[str, Any]:
    """Median milliseconds of each, their ratio round by round, and the fraction of the floor."""
    made: dict[str, Any] = {}
    rates = {name: rate(dtype) for name, (_, dtype) in KINDS.items()}
    for model, shape in MODELS.items():
        parameters = matrices(*shape)
        optimizers = {name: kind(parameters, lr=1e-6) for name, (kind, _) in KINDS.items()}
        for optimizer in optimizers.values():
            optimizer.step()
        times: dict[str, list[float]] = {name: [] for name in KINDS}
        for _ in range(repeats):
            for name, optimizer in optimizers.items():
                times[name].append(seconds(optimizer.step))
        ratios = sorted(slow / fast for slow, fast in zip(times["bf16"], times["fp32"], strict=True))
        made[model] = {f"{name}_ms": 1e3 * median(found) for name, found in times.items()}
        made[model] |= {"bf16_over_fp32": median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
        work = flops(parameters)
        made[model]["fraction_of_rate"] = {name: work / median(times[name]) / rates[name] for name in KINDS}
    return made | {"gflops": {name: value / 1e9 for name, value in rates.items()}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    found = measure(arguments.repeats)
    for model in MODELS:
        line = found[model]
        print(
            f"{model}: bf16 {line['bf16_ms']:.1f} ms, fp32 {line['fp32_ms']:.1f} ms, "
            f"ratio {line['bf16_over_fp32']:.1f} ({line['lowest']:.1f} to {line['highest']:.1f}); "
            f"fraction of the matrix rate {line['fraction_of_rate']}"
        )
    if arguments.out:
        about = {
            "date": datetime.date.today().isoformat(),
            "native_bf16": multiplies_bf16("cpu"),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        write_json(arguments.out, about | found)
