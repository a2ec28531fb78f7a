"""Speed of evaluation beside the usual tools, on this machine, with the results compared.

    python benchmarks/evaluate.py sampling     tokens/s over `generate` of transformers with num_return_sequences
    python benchmarks/evaluate.py likelihood   tokens/s over lm-evaluation-harness's HFLM (needs the extra lm-eval)
    python benchmarks/evaluate.py sandbox      judged programs per second with two workers, in each kind of jail

Every line says what was measured; compare ratios, since small machines are noisy.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from transformers import PreTrainedModel

from stillroom.config import ModelConfig
from stillroom.corpora.tokenizer import train_tokenizer
from stillroom.evaluation import Continuation, Sampling, sample, score_continuations
from stillroom.evaluation.jail import run_program, why_not
from stillroom.evaluation.sandbox import is_right, parse_check
from stillroom.models import build_model

FIVE_MILLION = ModelConfig(hidden_size=256, intermediate_size=768, num_layers=5, num_heads=8)
VOCABULARY = 2048


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def seconds(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """The quickest of some calls, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        call()
        best = min(best, clock() - start)
    return best


def sampling(
    num_prompts: int, num_samples: int, new_tokens: int, repeats: int, precisions: list[str], clock: Callable[[], float]
) -> None:
    full = build_model(FIVE_MILLION, VOCABULARY, seed=0).eval()
    prompts = torch.randint(3, VOCABULARY, (num_prompts, 32), generator=torch.Generator().manual_seed(0))
    total = num_prompts * num_samples * new_tokens
    print(
        f"{num_prompts} prompts x {num_samples} samples x {new_tokens} new tokens, {full.num_parameters():,} parameters"
    )
    kinds = {"fp32": lambda: full, "bf16": lambda: copy.deepcopy(full).bfloat16()}
    for name in precisions:
        model = kinds[name]()
        ours = seconds(lambda model=model: _sample(model, prompts, num_samples, new_tokens), repeats, clock)
        theirs = seconds(lambda model=model: _generate(model, prompts, num_samples, new_tokens), 1, clock)
        print(f"{name}: ours {total / ours:,.0f} tokens/s, generate {total / theirs:,.0f}, ratio {theirs / ours:.2f}")


def _sample(model: PreTrainedModel, prompts: torch.Tensor, num_samples: int, new_tokens: int) -> None:
    sample(
        model,
        prompts.tolist(),
        num_samples=num_samples,
        max_new_tokens=new_tokens,
        settings=[Sampling(1.0)],
        stop=[],
        seed=0,
    )


def _generate(model: PreTrainedModel, prompts: torch.Tensor, num_samples: int, new_tokens: int) -> None:
    with torch.inference_mode():
        model.generate(  # pyright: ignore[reportCallIssue]
            prompts,
            attention_mask=torch.ones_like(prompts),
            num_return_sequences=num_samples,
            do_sample=True,
            top_k=0,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            eos_token_id=None,
            pad_token_id=2,
            use_cache=True,
        )


def likelihood(num_items: int, repeats: int, clock: Callable[[], float]) -> None:
    from lm_eval.models.huggingface import HFLM

    model = build_model(FIVE_MILLION, VOCABULARY, seed=0).eval()
    draw = random.Random(0)
    ids = range(3, VOCABULARY)
    items = []
    for _ in range(num_items // 4):  # four answers to each question
        context = tuple(draw.choices(ids, k=draw.randint(20, 100)))
        items += [Continuation(context, tuple(draw.choices(ids, k=draw.randint(1, 8)))) for _ in range(4)]
    harness = HFLM(pretrained=model, tokenizer=train_tokenizer(["a b"], 300), batch_size=64, device="cpu")
    requests = [(("", ""), list(item.context), list(item.continuation)) for item in items]
    scores: dict[str, list[float]] = {}

    def ours() -> None:
        scores["ours"] = score_continuations(model, items).logprob_I.tolist()

    def theirs() -> None:
        answers = harness._loglikelihood_tokens(requests, disable_tqdm=True)
        scores["theirs"] = [logprob for logprob, _ in answers]

    took, took_theirs = seconds(ours, repeats, clock), seconds(theirs, repeats, clock)
    worst = max(abs(a - b) for a, b in zip(scores["ours"], scores["theirs"], strict=True))
    total = sum(len(item.context) + len(item.continuation) for item in items)
    print(f"{num_items} items, {model.num_parameters():,} parameters, largest difference {worst:.1e} nats")
    print(f"ours {total / took:,.0f} tokens/s, HFLM {total / took_theirs:,.0f}, ratio {took_theirs / took:.2f}")


def sandbox(num_programs: int) -> None:
    program = "def solve(n):\n    return sum(i * i for i in range(n))\n"
    checks = [parse_check("assert solve(10) == 285"), parse_check("assert solve(0) == 0")]
    asked = [check.expression for check in checks]
    for kind in ("bubblewrap", "namespaces"):
        if reason := why_not(kind):
            print(f"{kind}: not here ({reason})")
            continue
        for name in ("cold", "warm"):  # the first programs wait for their jails to start
            start = time.perf_counter()
            run = partial(run_program, expressions=asked, isolation=kind)
            with ThreadPoolExecutor(2) as pool:
                verdicts = [is_right(outcome, checks) for outcome in pool.map(run, [program] * num_programs)]
            rate = num_programs / (time.perf_counter() - start)
            print(f"{kind}, {name}: {rate:.0f} programs/s with 2 workers, all right: {all(verdicts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=["sampling", "likelihood", "sandbox"])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--items", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="processor seconds on a busy machine")
    arguments = parser.parse_args()
    clock = CLOCKS[arguments.clock]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if arguments.measure == "sampling":
        sampling(
            arguments.prompts, arguments.samples, arguments.new_tokens, arguments.repeats, arguments.precisions, clock
        )
    elif arguments.measure == "likelihood":
        likelihood(arguments.items, arguments.repeats, clock)
    else:
        sandbox(200)


if __name__ == "__main__":
    main()
