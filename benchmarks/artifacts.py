"""What checksums cost: hashing beside what the stage does with the same bytes, as ratios on this machine.

python benchmarks/artifacts.py [--parameters 135]    millions of parameters of the model that is loaded; default 135
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stillroom import checksums
from stillroom.models import load_model


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """The least processor time of some runs, the first one left out: other work on the machine does not count."""
    took = []
    for _ in range(times + 1):
        begin = time.process_time()
        work()
        took.append(time.process_time() - begin)
    return min(took[1:])


def fresh(work: Callable[[], object]) -> Callable[[], object]:
    """The work of a process that has hashed nothing yet."""

    def run() -> object:
        checksums._known.clear()
        return work()

    return run


def hashing(folder: Path, megabytes: int = 512) -> None:
    """Hashing alone, from memory."""
    path = folder / "bytes.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, megabytes << 20, np.uint8))
    checksums.seal(folder, ["bytes.npy"])
    took = seconds(fresh(lambda: checksums.check(folder)))
    print(f"hashing: {megabytes / 1024 / took:.1f} GiB/s of one file, {megabytes} MiB in {took:.3f} s")
    path.unlink()


def loading(folder: Path, millions: float) -> None:
    """A model's load with and without the check, and one batch of what it is loaded for."""
    width, layers = 576, max(1, round((millions * 1e6 - 49152 * 576) / 3.54e6))
    config = LlamaConfig(
        vocab_size=49152, hidden_size=width, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.float32)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(folder / "model")
    without = seconds(lambda: load_model(folder / "model"), 3)
    checksums.seal(folder)
    check = seconds(fresh(lambda: checksums.require(folder / "model")), 3)
    tokens_BT = torch.zeros(8, 256, dtype=torch.int64)
    with torch.no_grad():
        forward = seconds(lambda: model(tokens_BT), 1)
    print(
        f"model of {parameters / 1e6:.0f} M parameters: load {without:.2f} s, check {check:.3f} s "
        f"({100 * check / without:.1f} % of the load, {100 * check / (without + 50 * forward):.2f} % of an evaluation "
        f"of 100,000 tokens, {forward:.2f} s a batch of 2,048)"
    )


def corpus(folder: Path, tokens: int = 1 << 26) -> None:
    """Tokens of a corpus, against the time in which this machine trains on them at 10,000 tokens a second."""
    (folder / "train").mkdir()
    np.save(folder / "train" / "tokens-00000.npy", np.zeros((tokens // 256, 256), np.uint16))
    checksums.seal(folder)
    took = seconds(fresh(lambda: checksums.require(folder / "train")))
    print(f"corpus of {tokens / 1e6:.0f} M tokens: check {took:.3f} s, {1e6 * took / tokens:.5f} µs a token")
    shares = [100 * took / (tokens / speed) for speed in (1e4, 1e6)]
    print(f"    {shares[0]:.5f} % of a pass at 10,000 tokens/s, {shares[1]:.3f} % at a million")


def main() -> None:
    """Prints all of it."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--parameters", type=float, default=135.0)
    millions = asked.parse_args().parameters
    for measure in (hashing, lambda folder: loading(folder, millions), corpus):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder))


if __name__ == "__main__":
    main()
