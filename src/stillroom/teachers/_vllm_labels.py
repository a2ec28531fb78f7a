"""The likeliest next tokens at every position of some texts by vLLM, in an interpreter that has it.

    PYTHON _vllm_labels.py      talks by lines of JSON on standard input and output; arrays go through files

The first line in holds ``model`` (a folder), ``k`` and ``longest`` (tokens of a text); the first line out has the
``precision``. Each further line in names two files: ``texts``, an .npz of ``ids`` one after another and their
``lengths``, and ``to``, which is written: ``ids`` and ``logprobs`` (N, k) of the distribution behind every token, -inf
where there are fewer, and ``gold_logprob`` and ``gold_rank`` (N) of the token that follows in the text, NaN and -1 at
its end. The line out repeats ``to``. Runs by this file alone: whatever has vLLM need not have this package.
"""

import contextlib
import json
import os
import sys

import numpy as np


def _fill(row, found, following, ids, logprobs, gold):
    largest = sorted((one.rank, token, one.logprob) for token, one in found.items() if one.rank <= ids.shape[1])
    for place, (_, token, logprob) in enumerate(largest[: ids.shape[1]]):
        ids[row, place], logprobs[row, place] = token, logprob
    if following is not None:
        gold["logprob"][row], gold["rank"][row] = found[following].logprob, found[following].rank - 1


def _answer(texts, outputs, k):
    total = sum(map(len, texts))
    ids, logprobs = np.zeros((total, k), np.int32), np.full((total, k), -np.inf, np.float32)
    gold = {"logprob": np.full(total, np.nan, np.float32), "rank": np.full(total, -1, np.int32)}
    row = 0
    for text, output in zip(texts, outputs, strict=True):
        behind = [*output.prompt_logprobs[1:], output.outputs[0].logprobs[0]]
        for found, following in zip(behind, [*text[1:], None], strict=True):
            _fill(row, found, following, ids, logprobs, gold)
            row += 1
    return {"ids": ids, "logprobs": logprobs, "gold_logprob": gold["logprob"], "gold_rank": gold["rank"]}


def _main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints must not run into the answers
    asked = json.loads(sys.stdin.readline())
    k = asked["k"]
    os.environ.setdefault(
        "VLLM_CPU_KVCACHE_SPACE", "4"
    )  # GiB; without it nearly all of a machine's memory is asked for
    with contextlib.redirect_stdout(sys.stderr):
        from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

        engine = LLM(
            model=asked["model"],
            max_logprobs=k,
            max_model_len=asked["longest"] + 1,
            enable_prefix_caching=False,
            seed=0,
        )
        how = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=k, logprobs=k, detokenize=False)
        precision = str(engine.llm_engine.model_config.dtype).removeprefix("torch.")
        print(json.dumps({"precision": precision}), file=answers, flush=True)
        for line in sys.stdin:
            files = json.loads(line)
            with np.load(files["texts"]) as given:
                texts = [part.tolist() for part in np.split(given["ids"], np.cumsum(given["lengths"])[:-1])]
            outputs = engine.generate([{"prompt_token_ids": text} for text in texts], how, use_tqdm=False)
            np.savez(files["to"], **_answer(texts, outputs, k))
            print(json.dumps({"to": files["to"]}), file=answers, flush=True)


if __name__ == "__main__":
    _main()
