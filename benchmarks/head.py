"""Time and memory of the fused head beside eager PyTorch, TRL, Liger and cut-cross-entropy, in one run.

    python benchmarks/head.py --measure hard --precision bf16
    python benchmarks/head.py --help

Repetitions are interleaved (a, b, c, a, b, c, ...), so that a noisy machine disturbs all alike; a ratio is taken within
each round, and reported as its median with the quartiles, beside the ratio of the best times. Peers that are not
installed are named and left out.
Letters: N positions, V vocabulary, D width, K ids per label.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from head_competitors import COMPETITORS, DTYPES, Inputs, Sizes, Step, make_inputs, matmul_step, training_steps

RATIOS = {
    "hard": [
        ("fused, hard labels", "eager, hard labels", 1.0),
        ("fused, stored labels", "fused, hard labels", 1.03),
        ("fused, hard labels", "liger fused_linear_cross_entropy", 1.0),
        ("fused, hard labels", "cut-cross-entropy", 1.0),
    ],
    "dense": [
        ("fused, live teacher", "eager, live teacher", 1.0),
        ("fused, live teacher alone", "trl chunked_divergence", 0.7),
        ("fused, live teacher", "liger chunked_loss", 0.7),
    ],
    "step": [("step, stored labels", "step, hard labels", 1.03)],
}


TRITON = ("liger fused_linear_cross_entropy", "cut-cross-entropy")


def usable(measure: str, inputs: Inputs, precision: str) -> dict[str, Step]:
    """The competitors that are installed and run on this device; the others are named on stderr."""
    steps, device = {}, inputs.hidden.device.type
    for name, build in COMPETITORS[measure].items():
        try:
            if name in TRITON and device == "cpu":
                raise RuntimeError("a Triton kernel, which needs a GPU")
            step = build(inputs)
            if device == "cuda":  # what a kernel cannot do shows when it runs
                with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
                    step()
                inputs.clear()
            steps[name] = step
        except Exception as error:
            if name.startswith("fused"):
                raise
            print(f"left out: {name} ({error})", file=sys.stderr)
    return steps


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def interleave(
    steps: dict[str, Step], repeats: int, precision: str, device: str, clear: Step, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every step in each of ``repeats`` rounds, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")
    for repeat in range(repeats + 1 if repeats else 0):
        for name, step in steps.items():
            clear()
            _wait(device)
            start = clock()
            with autocast:
                step()
            _wait(device)
            if repeat:
                seconds[name].append(clock() - start)
    return seconds


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles (nothing where nothing was timed)."""
    if not values:
        return {}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high, "best": min(values), "num": len(values)}


def memory_of(arguments: argparse.Namespace, steps: dict[str, Step], inputs: Inputs) -> dict[str, float]:
    """Peak memory (MiB) that one step of each adds: by the allocator on a GPU, else in a process of its own."""
    found = {}
    for name, step in steps.items():
        inputs.clear()
        if arguments.device == "cuda":
            found[name] = measure_memory(step, arguments.precision, "cuda")
        else:
            found[name] = added_memory(arguments, arguments.measure, name)
    return found


def added_memory(arguments: argparse.Namespace, measure: str, name: str) -> float:
    """Peak memory (MiB) that one step adds, in a process of its own."""
    command = [sys.executable, __file__, "--measure", measure, "--precision", arguments.precision]
    command += ["--device", arguments.device, "--memory-of", name]
    command += [part for key in ("positions", "vocab", "width") for part in (f"--{key}", str(getattr(arguments, key)))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def measure_memory(step: Step, precision: str, device: str) -> float:
    """MiB above what was in use before: resident memory of the process, or the CUDA allocator's peak."""
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
        before = _resident("VmRSS")
        step()
        return (_resident("VmHWM") - before) / 2**10


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def machine(device: str) -> dict[str, str | int]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":?")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu.split(":")[1].strip(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
    }


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """All numbers of one measure in one precision."""
    sizes = Sizes(arguments.positions, arguments.vocab, arguments.width)
    measure, precision, device = arguments.measure, arguments.precision, arguments.device
    result: dict[str, object] = {
        "measure": measure,
        "precision": precision,
        "clock": arguments.clock,
        "machine": machine(device),
    }
    if measure == "step":
        steps = training_steps(precision, device, sizes.vocab)
        seconds = interleave(steps, arguments.repeats, "fp32", device, lambda: None, CLOCKS[arguments.clock])
        memory: dict[str, float] = {}
    else:
        inputs = make_inputs(sizes, device, DTYPES[precision] if device == "cuda" else torch.float32)
        result["sizes"] = asdict(sizes)
        steps = usable(measure, inputs, precision)
        steps["matmuls alone"] = matmul_step(inputs, DTYPES[precision])
        seconds = interleave(steps, arguments.repeats, precision, device, inputs.clear, CLOCKS[arguments.clock])
        del steps["matmuls alone"]
        memory = memory_of(arguments, steps, inputs) if arguments.memory else {}
    result["seconds"] = {name: spread(values) for name, values in seconds.items()}
    result["memory_added_mib"] = memory
    ratios = []
    for name, other, reach in RATIOS[measure]:
        if name in seconds and other in seconds:
            pairs = [a / b for a, b in zip(seconds[name], seconds[other], strict=True)]
            share = memory[name] / memory[other] if memory else None
            best = min(seconds[name]) / min(seconds[other]) if pairs else None
            ratio = {"of": name, "over": other, "reach": reach, "time": spread(pairs), "best_over_best": best}
            ratios.append({**ratio, "memory": share})
    result["ratios"] = ratios
    if measure == "hard" and arguments.repeats:
        rate = [b / a for a, b in zip(seconds["fused, hard labels"], seconds["matmuls alone"], strict=True)]
        flop = 6 * sizes.positions * sizes.vocab * sizes.width
        result["flops_over_matmul_rate"] = spread(rate)
        result["matmul_gflops"] = flop / statistics.median(seconds["matmuls alone"]) / 1e9
    return result


def _interval(value: dict[str, float]) -> str:
    return f"{value['median']:8.3f} [{value['low']:.3f}, {value['high']:.3f}]" if value else "not timed"


def show(result: dict) -> None:
    print(f"{result['measure']}, {result['precision']}, {result['machine']['device']}")
    for name, value in result["seconds"].items():
        memory = result["memory_added_mib"].get(name)
        memory_text = "" if memory is None else f"  {memory:8.0f} MiB added"
        print(f"  {name:34s} {_interval(value)} {'s' if value else ''}{memory_text}")
    for ratio in result["ratios"]:
        time_ratio, memory = ratio["time"], ratio["memory"]
        text = "" if memory is None else f"  memory {memory:.3f}"
        best = ratio["best_over_best"]
        text = text if best is None else f"  best/best {best:.3f}{text}"
        print(f"  {ratio['of']} / {ratio['over']}: time {_interval(time_ratio)}{text} (reach {ratio['reach']})")
    if "flops_over_matmul_rate" in result:
        value = result["flops_over_matmul_rate"]
        print(f"  FLOP/s over the matmul rate ({result['matmul_gflops']:.0f} GFLOP/s): {value['median']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=["hard", "dense", "step"], default="hard")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--positions", type=int, default=Sizes.positions, help="N (8192 for the GPU table)")
    parser.add_argument("--vocab", type=int, default=Sizes.vocab, help="V (131072 for the GPU table)")
    parser.add_argument("--width", type=int, default=Sizes.width, help="D (4096 for the GPU table)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; 0 for memory alone")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor seconds, for a shared machine")
    parser.add_argument("--memory", action="store_true", help="also measure peak memory, one process per competitor")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        sizes = Sizes(arguments.positions, arguments.vocab, arguments.width)
        dtype = DTYPES[arguments.precision] if arguments.device == "cuda" else torch.float32
        step = COMPETITORS[arguments.measure][arguments.memory_of](make_inputs(sizes, arguments.device, dtype))
        print(measure_memory(step, arguments.precision, arguments.device))
        return
    result = run(arguments)
    show(result)
    arguments.out.mkdir(parents=True, exist_ok=True)
    kind = arguments.measure if arguments.repeats else f"{arguments.measure}-memory"
    path = arguments.out / f"head-{kind}-{arguments.precision}-{arguments.device}-{date.today()}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
