"""Whether the best learning rate stays where it is as a model gets wider, with ``training.base_width`` and without.

    python benchmarks/train_transfer.py --widths 64 128 256

Every model reads the same bytes of the standard library for the same steps; the best rate of a width is the lowest
point of a parabola through the best of the grid and its neighbours.
"""

from __future__ import annotations

import argparse
import json
import math
import sysconfig
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import torch

from stillroom.config import ModelConfig, ObjectiveConfig, TrainingConfig
from stillroom.models import build_model
from stillroom.training import TrainingData, train
from train_competitors import Rows

BYTES, FIRST = 256, 3
"""A byte b is token b + FIRST; smaller ids are the special tokens."""
LENGTH, BATCH, HELDOUT = 128, 8, 128


def byte_rows(num: int) -> Rows:
    """``num`` sequences of bytes, taken at random places from modules of the standard library."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    tokens = np.frombuffer(text, dtype=np.uint8).astype(np.int64) + FIRST
    starts = np.random.default_rng(0).integers(0, len(tokens) - LENGTH, num)
    return Rows(np.stack([tokens[start : start + LENGTH] for start in starts]))


def final_loss(width: int, rate: float, base_width: int | None, steps: int, rows: Rows) -> float:
    """Held-out nats per byte after a run; infinite where it diverged."""
    config = ModelConfig(
        hidden_size=width, intermediate_size=3 * width, num_layers=2, num_heads=width // 16, max_positions=LENGTH
    )
    training = TrainingConfig(
        steps=steps, batch_sequences=BATCH, learning_rate=rate, base_width=base_width, warmup=0.1, schedule="linear",
        final_learning_rate=0.0, validate_every=0, checkpoint_seconds=1e9, non_finite="skip",
    )  # fmt: skip
    data = TrainingData(Rows(rows.tokens[HELDOUT:]), Rows(rows.tokens[:HELDOUT]), isolate=False)
    model = build_model(config, BYTES + FIRST, 0, base_width)
    with tempfile.TemporaryDirectory() as folder:
        loss = train(model, data, training, ObjectiveConfig(), Path(folder), precision_name="bf16").validation_ce
    return loss if math.isfinite(loss) else math.inf


def best_rate(rates: list[float], losses: list[float]) -> float:
    """The rate at the lowest point, between the points of the grid where it lies inside."""
    place = int(np.argmin(losses))
    if place in (0, len(rates) - 1) or not all(map(math.isfinite, losses[place - 1 : place + 2])):
        return rates[place]
    curve = np.polyfit(np.log2(rates[place - 1 : place + 2]), losses[place - 1 : place + 2], 2)
    return float(2 ** (-curve[1] / (2 * curve[0])))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--base-width", type=int, default=64)
    parser.add_argument("--rates", type=float, nargs="+", default=[2.0**-e for e in (11, 10, 9, 8, 7, 6)])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rows = byte_rows(HELDOUT + options.steps * BATCH)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"train-transfer-{date.today().isoformat()}.json"
    result = json.loads(path.read_text())["result"] if path.exists() else {}
    for width in options.widths:
        for base in (None, options.base_width) if width != options.base_width else (None,):
            name = f"width {width}, base_width {base}"
            if name in result:  # measured by an earlier call
                continue
            losses = [final_loss(width, rate, base, options.steps, rows) for rate in options.rates]
            result[name] = {"rates": options.rates, "losses": losses, "best_rate": best_rate(options.rates, losses)}
            print(name, result[name], flush=True)
            record = {"date": date.today().isoformat(), "steps": options.steps, "torch": torch.__version__}
            path.write_text(json.dumps(record | {"result": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
