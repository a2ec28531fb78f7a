"""What the contract costs when a model is loaded: ``load_model`` beside ``from_pretrained`` of transformers.

    python benchmarks/load.py                      a random model of SmolLM2-135M's shape, in fp32 and bf16
    python benchmarks/load.py --model FOLDER       another model
    python benchmarks/load.py --clock processor    processor seconds, on a busy machine

Rounds alternate, with a warm page cache. ``again`` is a load of files that were found right before, ``first`` one that
looks at every weight and runs what else is run once per model; the latter reads weights that a mapped file leaves on
the disk until a model's first use, so ``read`` gives ``from_pretrained`` followed by one pass over its weights.
Ratios are medians over rounds of the ratio within a round, with the middle half of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from stillroom.models import load_model

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def smollm_shape() -> LlamaConfig:
    """The sizes of SmolLM2-135M."""
    return LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, pad_token_id=None,
    )  # fmt: skip


def calls(folder: Path, dtype: torch.dtype, notes: Path) -> dict[str, Callable[[], object]]:
    """What is timed: each loads the model once."""

    def bare() -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)  # pyright: ignore

    def read() -> list[bool]:
        return [bool(value.sum().isfinite()) for value in bare().parameters()]

    def again() -> object:
        os.environ["STILLROOM_CACHE"] = str(notes)
        return load_model(folder, dtype=dtype)

    def first() -> object:
        os.environ["STILLROOM_CACHE"] = "/dev/null/none"
        return load_model(folder, dtype=dtype)

    return {"bare": bare, "again": again, "read": read, "first": first}


def measure(
    folder: Path, dtype: torch.dtype, rounds: int, clock: Callable[[], float], notes: Path
) -> dict[str, object]:
    """Medians in seconds and ratios to ``bare`` within rounds, of which the first is thrown away."""
    timed = calls(folder, dtype, notes)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds + 1):
        for name, call in timed.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    taken = {name: np.array(values[1:]) for name, values in seconds.items()}
    result: dict[str, object] = {f"{name}_seconds": float(np.median(values)) for name, values in taken.items()}
    for name, base in (("again", "bare"), ("first", "bare"), ("first", "read")):
        low, middle, high = np.quantile(taken[name] / taken[base], [0.25, 0.5, 0.75])
        result[f"{name}_over_{base}"] = [round(float(value), 3) for value in (low, middle, high)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; default: a random one of SmolLM2-135M's shape")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--out", type=Path, help="JSON file to write the numbers to")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    results: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for stored in (torch.float32, torch.bfloat16):
            folder = arguments.model or Path(scratch) / str(stored)
            if arguments.model is None:
                torch.manual_seed(0)
                LlamaForCausalLM(smollm_shape()).to(stored).save_pretrained(folder)  # pyright: ignore
            time.sleep(2.5)  # files that were just written are looked at again
            for wanted in dict.fromkeys((stored, torch.float32)):
                name = f"{stored} as {wanted}".replace("torch.", "")
                clock = CLOCKS[arguments.clock]
                results[name] = measure(folder, wanted, arguments.rounds, clock, Path(scratch) / "notes")
                print(name, json.dumps(results[name]))
            if arguments.model is not None:
                break
    if arguments.out is not None:
        about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "clock": arguments.clock}
        arguments.out.write_text(json.dumps(about | results, indent=2) + "\n")


if __name__ == "__main__":
    main()
