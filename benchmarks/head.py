"""Time and memory of the fused head beside eager PyTorch, TRL and Liger, in one run.

    python benchmarks/head.py --measure hard --precision bf16
    python benchmarks/head.py --help

Repetitions are interleaved (a, b, c, a, b, c, ...), so that a noisy machine disturbs all alike; a ratio is taken within
each round, and reported as its median with the quartiles. Peers that are not installed are named and left out.
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
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, kl_div, linear

from stillroom.config import ObjectiveConfig
from stillroom.objectives import (
    DenseTarget,
    SparseTarget,
    TeacherLogits,
    fused_linear_cross_entropy,
    hard_target,
    mix,
    token_losses,
)
from stillroom.types import IGNORE_INDEX, Batch, SoftLabels

Step = Callable[[], None]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Sizes:
    """What is multiplied."""

    positions: int = 4096
    vocab: int = 32_768
    width: int = 512
    ids: int = 50


@dataclass
class Inputs:
    """Tensors that every competitor gets: float32 under autocast on a CPU, as in training."""

    hidden: torch.Tensor
    weight: torch.Tensor
    gold: torch.Tensor
    labels: SparseTarget
    teacher: TeacherLogits

    def clear(self) -> None:
        """Drops the gradients, as ``zero_grad(set_to_none=True)`` does."""
        self.hidden.grad = self.weight.grad = None


def make_inputs(sizes: Sizes, device: str, dtype: torch.dtype) -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, scale: float) -> torch.Tensor:
        return (torch.randn(rows, sizes.width, generator=generator) * scale).to(device, dtype)

    scale = sizes.width**-0.5
    gold = torch.randint(0, sizes.vocab, (sizes.positions,), generator=generator).to(device)
    ids = torch.randint(0, sizes.vocab, (sizes.positions, sizes.ids), generator=generator).to(device)
    weights = torch.rand(sizes.positions, sizes.ids, generator=generator).to(device)
    return Inputs(
        normal(sizes.positions, 1.0).requires_grad_(),
        normal(sizes.vocab, 2 * scale).requires_grad_(),
        gold,
        SparseTarget(ids, weights / weights.sum(-1, keepdim=True)),
        TeacherLogits(normal(sizes.positions, 1.0), normal(sizes.vocab, 2 * scale)),
    )


def fused_hard(x: Inputs) -> Step:
    return lambda: fused_linear_cross_entropy(x.hidden, x.weight, hard_target(x.gold)).total.backward()


def fused_labels(x: Inputs) -> Step:
    def step() -> None:
        soft = x.labels.scaled(torch.full_like(x.gold, 0.9, dtype=torch.float32))
        target = mix(x.gold, torch.full_like(x.gold, 0.1, dtype=torch.float32), soft)
        fused_linear_cross_entropy(x.hidden, x.weight, target).total.backward()

    return step


def fused_dense(x: Inputs, hard: bool = True) -> Step:
    def step() -> None:
        gold = hard_target(x.gold, 0.1) if hard else None
        weight = torch.full_like(x.gold, 0.9 if hard else 1.0, dtype=torch.float32)
        target = DenseTarget(x.teacher, weight, gold, divergence="forward-kl")
        fused_linear_cross_entropy(x.hidden, x.weight, target).total.backward()

    return step


def eager_hard(x: Inputs) -> Step:
    return lambda: cross_entropy(linear(x.hidden, x.weight).float(), x.gold, reduction="sum").backward()


def eager_dense(x: Inputs) -> Step:
    def step() -> None:
        log_p = linear(x.hidden, x.weight).float().log_softmax(-1)
        with torch.no_grad():
            log_q = linear(x.teacher.hidden_NE, x.teacher.weight_VE).float().log_softmax(-1)
        soft = kl_div(log_p, log_q, log_target=True, reduction="sum")
        hard = torch.nn.functional.nll_loss(log_p, x.gold, reduction="sum")
        (0.9 * soft + 0.1 * hard).backward()

    return step


def trl_dense(x: Inputs) -> Step:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def step() -> None:
        teacher = (x.teacher.hidden_NE, x.teacher.weight_VE, None)
        ChunkedDivergenceFunction.apply(x.hidden, x.weight, None, *teacher, 0.0)[0].sum().backward()

    return step


def liger_dense(x: Inputs) -> Step:
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.1, weight_soft_loss=0.9, beta=0.0, compiled=False)
    return lambda: loss(x.hidden, x.weight, x.teacher.hidden_NE, x.teacher.weight_VE, x.gold).backward()


def liger_hard(x: Inputs) -> Step:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return lambda: loss(x.weight, x.hidden, x.gold).backward()


COMPETITORS: dict[str, dict[str, Callable[[Inputs], Step]]] = {
    "hard": {
        "fused, hard labels": fused_hard,
        "fused, stored labels": fused_labels,
        "eager, hard labels": eager_hard,
        "liger fused_linear_cross_entropy": liger_hard,
    },
    "dense": {
        "fused, live teacher": fused_dense,
        "fused, live teacher alone": lambda x: fused_dense(x, hard=False),
        "eager, live teacher": eager_dense,
        "trl chunked_divergence": trl_dense,
        "liger chunked_loss": liger_dense,
    },
}
RATIOS = {
    "hard": [
        ("fused, hard labels", "eager, hard labels", 1.0),
        ("fused, stored labels", "fused, hard labels", 1.03),
        ("fused, hard labels", "liger fused_linear_cross_entropy", 1.0),
    ],
    "dense": [
        ("fused, live teacher", "eager, live teacher", 1.0),
        ("fused, live teacher alone", "trl chunked_divergence", 0.7),
        ("fused, live teacher", "liger chunked_loss", 0.7),
    ],
    "step": [("step, stored labels", "step, hard labels", 1.03)],
}


def training_steps(precision: str, device: str, vocab: int) -> dict[str, Step]:
    """The same training step (5M parameters, AdamW) with hard labels and with N = 50 sampled labels."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(0, vocab, (16, 128), device=device)
    targets = torch.cat([tokens[:, 1:], torch.full_like(tokens[:, :1], IGNORE_INDEX)], 1)
    batch = Batch(tokens, targets, torch.zeros_like(tokens, dtype=torch.int32))
    counts = torch.multinomial(torch.arange(1, 201).float().reciprocal(), 50 * tokens.numel(), replacement=True)
    ids = counts.view(*tokens.shape, 50).to(device) * 97 % vocab  # repeats within a row add up, as counts would
    flat = torch.zeros(tokens.shape, device=device)
    labels = SoftLabels(ids, torch.full(ids.shape, 1 / 50, device=device), flat, flat, flat.int())

    def step(objective: ObjectiveConfig, soft: SoftLabels | None) -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            hidden = model.model(input_ids=tokens).last_hidden_state
            losses = token_losses(hidden.flatten(0, 1), model.lm_head.weight, batch, objective, soft)
        (losses.loss_N.sum() / losses.counted_N.sum()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {
        "step, hard labels": lambda: step(ObjectiveConfig(), None),
        "step, stored labels": lambda: step(ObjectiveConfig(alpha=0.9), labels),
    }


def matmul_step(x: Inputs, dtype: torch.dtype) -> Step:
    """The three matmuls that any head must do, with nothing else, in one piece of at most 1,024 positions."""
    hidden, weight = x.hidden.detach()[:1024].to(dtype), x.weight.detach().to(dtype)
    logits = torch.empty(len(hidden), len(weight), dtype=dtype, device=hidden.device)

    def step() -> None:
        for _ in range(max(len(x.hidden) // len(hidden), 1)):
            torch.mm(hidden, weight.t(), out=logits)
            logits @ weight
            logits.t() @ hidden

    return step


def usable(measure: str, inputs: Inputs) -> dict[str, Step]:
    """The competitors that are installed and run on this device; the others are named on stderr."""
    steps = {}
    for name, build in COMPETITORS[measure].items():
        try:
            step = build(inputs)
            if name.startswith("liger fused") and inputs.hidden.device.type == "cpu":
                raise RuntimeError("a Triton kernel, which needs a GPU")
            steps[name] = step
        except (ImportError, RuntimeError) as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return steps


def interleave(
    steps: dict[str, Step], repeats: int, precision: str, device: str, clear: Step
) -> dict[str, list[float]]:
    """Seconds of every step in each of ``repeats`` rounds, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")
    for repeat in range(repeats + 1 if repeats else 0):
        for name, step in steps.items():
            clear()
            _wait(device)
            start = time.perf_counter()
            with autocast:
                step()
            _wait(device)
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles (nothing where nothing was timed)."""
    if not values:
        return {}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high, "num": len(values)}


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
    result: dict[str, object] = {"measure": measure, "precision": precision, "machine": machine(device)}
    if measure == "step":
        steps = training_steps(precision, device, sizes.vocab)
        seconds = interleave(steps, arguments.repeats, "fp32", device, lambda: None)
        memory: dict[str, float] = {}
    else:
        inputs = make_inputs(sizes, device, DTYPES[precision] if device == "cuda" else torch.float32)
        result["sizes"] = asdict(sizes)
        steps = usable(measure, inputs)
        steps["matmuls alone"] = matmul_step(inputs, DTYPES[precision])
        seconds = interleave(steps, arguments.repeats, precision, device, inputs.clear)
        del inputs
        names = [name for name in steps if name != "matmuls alone"]
        memory = {name: added_memory(arguments, measure, name) for name in names} if arguments.memory else {}
    result["seconds"] = {name: spread(values) for name, values in seconds.items()}
    result["memory_added_mib"] = memory
    ratios = []
    for name, other, reach in RATIOS[measure]:
        if name in seconds and other in seconds:
            pairs = [a / b for a, b in zip(seconds[name], seconds[other], strict=True)]
            share = memory[name] / memory[other] if memory else None
            ratios.append({"of": name, "over": other, "reach": reach, "time": spread(pairs), "memory": share})
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
