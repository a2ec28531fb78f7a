"""Speed of the training engine: beside other trainers, beside the machine's matrix rate, over ranks, with checkpoints.

    python benchmarks/train.py --measure trainer
    python benchmarks/train.py --help

Peers run in the same process, in rounds (a, b, c, a, b, c, ...), so that a noisy machine disturbs all alike; a ratio is
taken within each round and reported as its median with the quartiles, beside the ratio of the best times. A peer that
is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from stillroom.training.distributed import own_device
from stillroom.training.hardware import listed_flops, measured_rate
from train_competitors import CLOCKS, ON_GPU, SIZES, WARM, Task, competitors, ours
from train_turns import STEPS, start, turns

RATIOS = {
    "trainer": [
        ("stillroom", "transformers Trainer", 1.2),
        ("stillroom, compiled blocks", "transformers Trainer", 1.2),
    ],
    "gkd": [
        ("stillroom, live teacher", "trl GKDTrainer", 1.3),
        ("stillroom, stored labels", "trl GKDTrainer", 2.5),
    ],
    "peak": [
        ("stillroom", "plain loop", 1.0),
        ("stillroom, compiled blocks", "plain loop, compiled", 1.0),
    ],
}
ISA = "ONEDNN_MAX_CPU_ISA"
"""Variable that keeps matrix products from instructions that a processor has, such as AMX."""
PUBLISHED = {
    "torchtitan, Llama 3.1 8B on H100s, bf16": {
        "fraction_of_peak": [0.33, 0.39], "where": "pytorch/torchtitan, benchmarks/llama3_h100_202412_torchtitan.md",
    },
    "nanochat, its dense model of depth 18": {
        "fraction_of_peak": [0.46, 0.46], "where": "karpathy/nanochat, dev/LOG.md, 2026-02-19",
    },
}  # fmt: skip
"""Other engines' own figures: other models on other machines, so a scale and no race."""


def rounds(runs: dict[str, Callable[[], list[float]]], repeats: int) -> dict[str, list[list[float]]]:
    """Step times of every competitor in every round; one that cannot run is named and left out."""
    times: dict[str, list[list[float]]] = {}
    for number in range(repeats):
        for name in list(runs):
            try:
                times.setdefault(name, []).append(runs[name]())
            except (ImportError, torch.OutOfMemoryError) as error:
                print(f"left out: {name} ({error})", file=sys.stderr)
                del runs[name], times[name]
        print(f"round {number + 1} of {repeats}", file=sys.stderr)
    return times


def ratio(fast: list[list[float]], slow: list[list[float]]) -> dict[str, float]:
    """How many times the tokens per second of ``slow`` ``fast`` reaches."""
    within = [statistics.median(b) / statistics.median(a) for a, b in zip(fast, slow, strict=True)]
    low, middle, high = np.percentile(within, [25, 50, 75])
    best = min(map(min, slow)) / min(map(min, fast))
    return {"median": middle, "low": low, "high": high, "best": best}


def beside_peers(measure: str, task: Task, repeats: int, compiled: bool) -> dict[str, Any]:
    times = rounds(competitors(task, measure, compiled), repeats)
    tokens = task.tokens
    result: dict[str, Any] = {
        "tokens_per_second": {
            name: {
                "median": tokens / statistics.median(second for part in parts for second in part),
                "best": tokens / min(map(min, parts)),
            }
            for name, parts in times.items()
        },
        "ratios": [
            {"of": of, "over": over, "reach": reach} | ratio(times[of], times[over])
            for of, over, reach in RATIOS[measure]
            if of in times and over in times
        ],
    }
    return result


def peak(task: Task, repeats: int, compiled: bool) -> dict[str, Any]:
    """Peers, and the model FLOP/s of each over the matrix rate: that measured here, and that of the data sheet."""
    device = own_device()
    is_gpu = device.type == "cuda"
    rate = measured_rate(torch.bfloat16, 8192 if is_gpu else 512, 0.5, device=device)
    listed = listed_flops(torch.cuda.get_device_name()) if is_gpu else None
    result = beside_peers("peak", task, repeats, compiled)
    for found in result["tokens_per_second"].values():
        found["fraction_of_matrix_rate"] = found["median"] * task.flops / task.tokens / rate
        found["fraction_of_peak"] = listed and found["median"] * task.flops / task.tokens / listed
    return result | {"matrix_rate": rate, "data_sheet": listed, "published": PUBLISHED}


def products_alone(task: Task) -> float:
    """Seconds of a step's products with weights and nothing else: forward, and backward to inputs and to weights.

    In bf16, with the shapes of the student, one after another: no step of these shapes can be faster here.
    """
    weights = [one.weight.detach().bfloat16() for one in task.model().modules() if isinstance(one, torch.nn.Linear)]
    inputs = {size: torch.ones(task.tokens, size, dtype=torch.bfloat16) for one in weights for size in one.shape}
    shortest = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for weight in weights:
            outside, inside = (inputs[size] for size in weight.shape)
            torch.mm(inside, weight.T)
            torch.mm(outside, weight)
            torch.mm(outside.T, inside)
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest


PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


def products_within(task: Task, parallel: dict[str, bool], steps: int = 5) -> float:
    """Seconds of a step's matrix products inside of it, by torch's profiler, those of attention too.

    No change to anything else can make the step shorter.
    """
    profiler, done = profile(activities=[ProfilerActivity.CPU]), 0

    def mark(_: float) -> None:
        nonlocal done
        done += 1
        if done == WARM:
            profiler.start()
        elif done == WARM + steps:
            profiler.stop()

    ours(task, steps=WARM + steps, pause=mark, parallel=parallel)
    found = [one.self_cpu_time_total for one in profiler.key_averages() if one.key in PRODUCTS]
    return sum(found) / steps / 1e6


def fraction(task: Task, repeats: int, compiled: bool) -> dict[str, Any]:
    """Model FLOP/s of a step over the best matrix rate, and its time over that of its products; measured in turn."""
    result: dict[str, Any] = {}
    for size in [task.size] if task.size in ON_GPU else [name for name in SIZES if name not in ON_GPU]:
        sized = replace(task, size=size)
        for compile_ in (False, True) if compiled else (False,):
            rate = measured_rate(torch.bfloat16, seconds=0.3)
            seconds, alone, within = [], [], []
            for _ in range(repeats):
                alone.append(products_alone(sized))
                seconds.append(min(ours(sized, steps=5, parallel={"compile": compile_})))
                within.append(products_within(sized, {"compile": compile_}))
            rate = max(rate, measured_rate(torch.bfloat16, seconds=0.3))
            result[size + (", compiled blocks" if compile_ else "")] = {
                "matrix_rate": rate,
                "fraction_of_peak": sized.flops / min(seconds) / rate,
                "fraction_of_peak_of_products_alone": sized.flops / min(alone) / rate,
                "fraction_of_peak_were_all_else_free": sized.flops / min(within) / rate,
                "step_over_products": [step / product for step, product in zip(seconds, alone, strict=True)],
                "tokens_per_second": sized.tokens / min(seconds),
            }
    return result


def ranks(task: Task, repeats: int) -> dict[str, Any]:
    """Tokens per second of two gloo ranks with one thread each over one process with two threads.

    ``without messages`` is what two processes with half the batch each reach that know nothing of one another.
    """
    competitors = {
        "one process": start(task, threads=2),
        "two ranks": start(task, threads=1, num=2, as_ranks=True),
        "two ranks, sharded": start(task, threads=1, num=2, as_ranks=True, parallel={"replicas": 1}),
        "without messages": start(replace(task, batch=task.batch // 2), threads=1, num=2),
    }
    times = turns(competitors, repeats)
    base = times.pop("one process")
    seconds = {name: statistics.median(map(statistics.median, parts)) for name, parts in times.items()}
    return {
        name: ratio(parts, base) | {"reach": 0.85, "step_seconds": seconds[name]} for name, parts in times.items()
    } | {"one process": {"step_seconds": statistics.median(map(statistics.median, base))}}


def checkpoints(task: Task, repeats: int, threads: int) -> dict[str, Any]:
    """Time lost to a checkpoint every 50 steps: five turns with one over five turns without, taken alternately."""
    competitors = {
        "plain": start(task, threads=threads),
        "saving": start(task, threads=threads, checkpoint_steps=5 * STEPS),
    }
    times = turns(competitors, 5 * repeats)
    sums = {
        name: [sum(map(sum, parts[first : first + 5])) for first in range(0, len(parts), 5)]
        for name, parts in times.items()
    }
    lost = [with_ / without - 1 for with_, without in zip(sums["saving"], sums["plain"], strict=True)]
    low, middle, high = np.percentile(lost, [25, 50, 75])
    return {"median": middle, "low": low, "high": high, "reach": 0.03, "seconds": sums}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measure", choices=[*RATIOS, "fraction", "ranks", "checkpoints"], required=True)
    parser.add_argument("--size", choices=list(SIZES), default="1M")
    parser.add_argument("--batch", type=int, help="sequences (of 128 tokens: 16; of the sizes for a GPU: see ON_GPU)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: time of this process alone")
    parser.add_argument(
        "--compiled", action="store_true", help="torch.compile every block too (minutes the first time)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = {"batch": 16, **ON_GPU.get(options.size, {})} | ({"batch": options.batch} if options.batch else {})
    task = Task(options.size, clock=options.clock, **sizes)
    if options.measure == "peak":
        result = peak(task, options.repeats, options.compiled)
    elif options.measure in RATIOS:
        result = beside_peers(options.measure, task, options.repeats, options.compiled)
    elif options.measure == "fraction":
        result = fraction(task, options.repeats, options.compiled)
    elif options.measure == "ranks":
        result = ranks(task, options.repeats)
    else:
        result = checkpoints(task, options.repeats, options.threads)
    device = own_device().type
    record = {
        "measure": options.measure, "size": options.size, "batch": task.batch, "repeats": options.repeats,
        "clock": options.clock,
        "command": " ".join(["python", *sys.argv]), "date": date.today().isoformat(), "threads": options.threads,
        "processor": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "torch": torch.__version__, "instructions": os.environ.get(ISA, "all"), "result": result,
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    part = f"-{os.environ[ISA].lower()}" if ISA in os.environ else ""
    path = options.out / f"train-{options.measure}-{options.size}-{device}{part}-{date.today().isoformat()}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
