"""Tokens per second of the recall sampler on one core, beside a loop that draws one token at a time.

    python benchmarks/sandbox_recall.py

The loop is what a direct reading of the method gives: one ``Generator.choice`` with the row's probabilities per token,
and a dictionary of how often each trigger was seen. V = 65, T = 256, K = 5.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from stillroom.worlds.recall import RecallOptions, RecallWorld


def one_at_a_time(world: RecallWorld, num: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and process codes (num, length), drawn token by token."""
    generator = np.random.default_rng(seed)
    size, rows = world.vocab_size, world.bigrams.rows_VV
    sequences, processes = [], []
    for _ in range(num):
        answers = {int(trigger): int(generator.integers(size)) for trigger in world.fixed_K}
        tokens = [int(generator.choice(size, p=world.bigrams.unigram_V))]
        process, seen = [0], dict.fromkeys(answers, 0)
        while len(tokens) < length:
            last = tokens[-1]
            if last in answers:
                seen[last] += 1
                process.append(seen[last])
                tokens.append(answers[last])
            else:
                process.append(0)
                tokens.append(int(generator.choice(size, p=rows[last])))
        sequences.append(tokens)
        processes.append(process)
    return np.array(sequences), np.array(processes)


def rate(draw: Callable[[], object], tokens: int, repeats: int) -> float:
    """Tokens per second, the best of some repeats."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        draw()
        times.append(time.perf_counter() - begin)
    return tokens / min(times)


def main() -> None:
    """Prints both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=256, help="tokens per sequence")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256, 1024], help="sequences asked for at once")
    arguments = parser.parse_args()
    world, length = RecallWorld(RecallOptions()), arguments.length
    slow = rate(lambda: one_at_a_time(world, 40, length, 0), 40 * length, 3)
    print(f"one token at a time: {slow:,.0f} tokens/s")
    for batch in arguments.batch:
        fast = rate(lambda batch=batch: world.sample(range(batch), length, 0), batch * length, 10)
        print(f"{batch} sequences at once: {fast:,.0f} tokens/s, {fast / slow:.0f} times as many")


if __name__ == "__main__":
    main()
