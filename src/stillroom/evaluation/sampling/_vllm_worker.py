"""Draws completions with vLLM, in an interpreter that has it: one JSON object in, JSON lines out.

    PYTHON _vllm_worker.py < request.json > answers.jsonl

The request holds ``model`` (a folder), ``prompts`` (token ids), ``num_samples``, ``max_new_tokens``, ``settings`` (each
with temperature, top_k, top_p and min_p, null for none), ``stop`` (ids), ``stop_texts`` and ``seed``. One answer a line
for every setting and prompt: ``setting`` and ``prompt`` (their numbers), ``tokens``, ``stopped`` and ``logprobs``. Runs
by this file alone: whatever has vLLM need not have this package.
"""

import contextlib
import json
import os
import sys


def _parameters(kind, request, setting, number):
    return kind(
        n=request["num_samples"],
        temperature=setting["temperature"],
        top_k=-1 if setting["top_k"] is None else setting["top_k"],
        top_p=1.0 if setting["top_p"] is None else setting["top_p"],
        min_p=0.0 if setting["min_p"] is None else setting["min_p"],
        max_tokens=request["max_new_tokens"],
        stop_token_ids=request["stop"],
        stop=request["stop_texts"] or None,
        include_stop_str_in_output=True,
        ignore_eos=True,
        logprobs=0,
        seed=request["seed"] * 1_000_003 + number,
    )


def _answer(number, prompt, output, stop):
    tokens, stopped = [], []
    for one in output.outputs:
        ids = list(one.token_ids)
        ended = one.finish_reason == "stop"
        if ended and isinstance(one.stop_reason, int) and (not ids or ids[-1] != one.stop_reason):
            ids.append(one.stop_reason)
        tokens.append(ids)
        stopped.append(ended or (bool(ids) and ids[-1] in stop))
    logprobs = [float(one.cumulative_logprob or 0.0) for one in output.outputs]
    return {"setting": number, "prompt": prompt, "tokens": tokens, "stopped": stopped, "logprobs": logprobs}


def _main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints must not run into the answers
    request = json.load(sys.stdin)
    os.environ.setdefault(
        "VLLM_CPU_KVCACHE_SPACE", "4"
    )  # GiB; without it nearly all of a machine's memory is asked for
    with contextlib.redirect_stdout(sys.stderr):
        from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

        engine = LLM(model=request["model"], enable_prefix_caching=True, seed=request["seed"])
        prompts = [{"prompt_token_ids": prompt} for prompt in request["prompts"]]
        for number, setting in enumerate(request["settings"]):
            parameters = [_parameters(SamplingParams, request, setting, place) for place in range(len(prompts))]
            outputs = engine.generate(prompts, parameters, use_tqdm=False)
            for place, output in enumerate(outputs):
                answers.write(json.dumps(_answer(number, place, output, request["stop"])) + "\n")
                answers.flush()


if __name__ == "__main__":
    _main()
