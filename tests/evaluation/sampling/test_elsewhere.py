"""Sampling in another process: the protocol, against a stand-in for vLLM that draws what it is told to draw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from other_python import python_with_vllm
from stillroom.evaluation.measuring.test_time_scaling import Attempts, measure_scaling
from stillroom.evaluation.sampling.draw import Sampling, SamplingRequest
from stillroom.evaluation.sampling.stops import StopTexts
from stillroom.evaluation.sampling.vllm_client import OutOfProcess
from stillroom.types import UserError
from stillroom.worlds.base import Problem

ONE = SamplingRequest(prompts=[[1]], num_samples=1, max_new_tokens=1, settings=[Sampling()], stop=[1], seed=0)
STAND_IN = """
from types import SimpleNamespace as Bag
print("the library says hello on standard output")
class SamplingParams:
    def __init__(self, **given): self.__dict__.update(given)
class LLM:
    def __init__(self, model, **_):
        if model == "broken": raise RuntimeError("no such model")
    def generate(self, prompts, parameters, use_tqdm):
        made = []
        for prompt, own in zip(prompts, parameters):
            ids = prompt["prompt_token_ids"]
            outs = [
                Bag(token_ids=[ids[-1] + i, int(own.temperature * 10)], finish_reason="stop" if i % 2 else "length",
                    stop_reason=own.stop_token_ids[0] if i % 2 else None, cumulative_logprob=-float(i))
                for i in range(own.n)
            ]
            made.append(Bag(outputs=outs))
        return made
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return python_with_vllm(tmp_path, STAND_IN)


def test_samples_come_back_by_setting_and_prompt(elsewhere: Path) -> None:
    steps: list[tuple[int, int]] = []
    drawn = OutOfProcess(elsewhere, Path("model"))(
        None,
        SamplingRequest(
            prompts=[[3, 4], [5]],
            num_samples=2,
            max_new_tokens=4,
            settings=[Sampling(0.5), Sampling(1.0, top_k=3)],
            stop=[9, 1],
            seed=7,
            stop_texts=StopTexts(("x",), ()),
        ),
        progress=lambda *step: steps.append(step),
    )
    assert [[samples.tokens for samples in row] for row in drawn] == [
        [((4, 5), (5, 5, 1)), ((5, 5), (6, 5, 1))],
        [((4, 10), (5, 10, 1)), ((5, 10), (6, 10, 1))],
    ]
    assert drawn[0][0].stopped == (False, True) and drawn[0][0].logprobs == (0.0, -1.0)
    assert steps[-1] == (8, 8)


def test_an_evaluation_can_sample_elsewhere(elsewhere: Path, llama, tokenizer) -> None:
    problems = [Problem("f", text, lambda text: text or None) for text in ("the cat", "a dog")]
    part, records = measure_scaling(
        llama,
        tokenizer,
        problems,
        Attempts(num_samples=4, max_new_tokens=4, settings=[Sampling(1.0)]),
        [1],
        sampler=OutOfProcess(elsewhere, Path("model")),
    )
    assert part.num_problems == 2 and all(len(record.completions) == 4 for record in records)


def test_without_vllm_it_is_one_sentence(tmp_path: Path, elsewhere: Path) -> None:
    with pytest.raises(UserError, match="cannot import vllm"):
        OutOfProcess(Path(sys.executable), Path("model"))(None, ONE)
    with pytest.raises(UserError, match="is no Python interpreter"):
        OutOfProcess(tmp_path / "none", Path("model"))(None, ONE)
    with pytest.raises(UserError, match=r"could not sample from broken .*no such model"):
        OutOfProcess(elsewhere, Path("broken"))(None, ONE)


@pytest.mark.parametrize(
    "said", ["hello", "{}", "[1]", '{"setting": 0, "prompt": 0, "tokens": [[1]], "logprobs": [NaN]}', ""]
)
def test_a_worker_that_says_something_else_is_one_sentence(
    elsewhere: Path, monkeypatch, tmp_path: Path, said: str
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(f"import sys\nsys.stdin.read()\nprint({said!r}) if {said!r} else None\n")
    monkeypatch.setattr("stillroom.evaluation.sampling.vllm_client._WORKER", worker)
    with pytest.raises(UserError, match=r"expected samples|before every prompt was answered"):
        OutOfProcess(elsewhere, Path("model"))(None, ONE)
