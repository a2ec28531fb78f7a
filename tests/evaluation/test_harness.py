"""The adapter for lm-evaluation-harness: its tasks on a few local records of their form, and its own model beside."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lm_eval", reason="pip install 'stillroom[lm-eval]'")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytestmark = pytest.mark.filterwarnings("default")  # the harness and what it imports warn of themselves

from stillroom.evaluation.harness import HarnessModel, run_harness  # noqa: E402
from stillroom.types import UserError  # noqa: E402

COPA = {"premise": "The man broke his toe.", "choice1": "He got a hole in his sock.", "choice2": "He dropped a hammer."}
RACE = {
    "article": "The cat sat.",
    "problems": str([{"question": "Who sat?", "answer": "B", "options": ["dog", "cat", "cow", "man"]}]),
}
DROP = {
    "section_id": "s",
    "query_id": "q",
    "passage": "The cat sat on the mat for 3 days.",
    "question": "How long?",
    "answer": {"number": "3", "date": {"day": "", "month": "", "year": ""}, "spans": [], "worker_id": "", "hit_id": ""},
    "validated_answers": {
        "number": ["3", ""],
        "date": [{"day": "", "month": "", "year": ""}] * 2,
        "spans": [[], ["three"]],
        "worker_id": ["", ""],
        "hit_id": ["", ""],
    },
}
HELLASWAG = {
    "ind": 0,
    "activity_label": "Cat",
    "ctx_a": "The cat",
    "ctx_b": "sat on",
    "ctx": "The cat sat on",
    "endings": ["the mat.", "a dog", "12 + 30", "naive"],
    "label": "0",
}
ALIASES = {"aliases": ["Paris", "paris"], "value": "Paris"}
DATA: dict[str, tuple[str, dict[str, dict]]] = {
    "Rowan/hellaswag": ("default", {"validation": HELLASWAG}),
    "aps/super_glue": ("copa", {"validation": COPA | {"question": "cause", "idx": 0, "label": 1}}),
    "EleutherAI/race": ("high", {"test": RACE}),
    "EleutherAI/drop": ("default", {"validation": DROP}),
    "google-research-datasets/nq_open": ("default", {"validation": {"question": "who sat", "answer": ["cat"]}}),
    "mandarjoshi/trivia_qa": ("rc.nocontext", {"validation": {"question": "Where?", "answer": ALIASES}}),
    "RMT-team/babilong-1k-samples": ("0k", {"qa1": {"input": "Ann is in.", "question": "Where?", "target": "in"}}),
    "openai/gsm8k": (
        "main",
        {"test": {"question": "1 + 2?", "answer": "It is 3.\n#### 3"}},
    ),
    "google-research-datasets/mbpp": (
        "full",
        {
            split: {
                "task_id": 1,
                "text": "Write add.",
                "code": "def add(a, b):\n    return a + b",
                "test_list": ["assert add(1, 2) == 3", "assert add(2, 2) == 4", "assert add(0, 0) == 0"],
                "test_setup_code": "",
            }
            for split in ("prompt", "test")
        },
    ),
    "HuggingFaceH4/MATH-500": (
        "default",
        {"test": {"problem": "1/2?", "solution": r"It is $\boxed{\frac{1}{2}}$.", "answer": r"\frac{1}{2}"}},
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder laid out as the hub lays out its datasets, eight records in each split."""
    root = tmp_path_factory.mktemp("hub")
    for name, (configuration, given) in DATA.items():
        splits = {"train": next(iter(given.values())), **given}
        folder = root / name
        folder.mkdir(parents=True)
        listed = "".join(f"      - split: {split}\n        path: {split}.jsonl\n" for split in splits)
        head = f"configs:\n  - config_name: {configuration}\n    data_files:\n{listed}"
        (folder / "README.md").write_text(f"---\n{head}---\n")
        for split, record in splits.items():
            (folder / f"{split}.jsonl").write_text(f"{json.dumps(record)}\n" * 8)
    return root


@pytest.fixture
def ours(make_llama, tokenizer, tmp_path, monkeypatch: pytest.MonkeyPatch) -> HarnessModel:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    tokenizer.name_or_path = str(tmp_path / "tokenizer")
    model = make_llama()
    model.config.max_position_embeddings = 2048
    return HarnessModel(model, tokenizer, max_new_tokens=8)


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("hellaswag", "acc_norm"),
        ("copa", "acc"),
        ("race", "acc"),
        ("drop", "f1"),
        ("nq_open", "exact_match (remove_whitespace)"),
        ("triviaqa", "exact_match (remove_whitespace)"),
        ("babilong_qa1", "acc"),
        ("gsm8k", "exact_match (strict-match)"),
    ],
)
def test_tasks_of_the_harness_run_on_local_records_of_their_form(ours, data, task: str, metric: str) -> None:
    before = os.getcwd()
    results = run_harness(ours, [task], data=data, metadata={"max_seq_lengths": "0k"})
    assert os.getcwd() == before
    part = results[task][metric]
    assert part.num == 8 and 0.0 <= part.value <= 1.0 and part.low <= part.value <= part.high
    assert not part.missing


def test_mathematics_of_the_harness(ours, data) -> None:
    pytest.importorskip("math_verify")
    antlr = pytest.importorskip("importlib.metadata").version("antlr4-python3-runtime")
    if not antlr.startswith("4.11"):
        pytest.skip("the harness grades mathematics with antlr4-python3-runtime 4.11 only")
    assert "minerva_math500" in run_harness(ours, ["minerva_math500"], data=data)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_mbpp_of_the_harness_is_judged_in_the_sandbox(ours, data, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_harness(ours, ["mbpp"], data=data)["mbpp_sandboxed"]["acc"].value == 0.0
    monkeypatch.setattr(ours, "generate_until", lambda requests, **_: ["def add(a, b): return a + b"] * len(requests))
    assert run_harness(ours, ["mbpp"], data=data)["mbpp_sandboxed"]["acc"].value == 1.0


def test_needles_of_the_harness(ours) -> None:
    pytest.importorskip("wonderwords")
    pytest.importorskip("nltk").download = lambda *_, **__: True
    try:
        results = run_harness(ours, ["niah_single_1"], metadata={"max_seq_lengths": [1024]}, limit=2)
    except (UserError, LookupError) as error:
        pytest.skip(f"its items need a download: {error}")
    assert "niah_single_1" in results


def test_an_unknown_task_is_one_sentence(ours, tmp_path) -> None:
    with pytest.raises(UserError, match="hellaswagg could not be loaded"):
        run_harness(ours, ["hellaswagg"])
    with pytest.raises(UserError, match="is no folder"):
        run_harness(ours, ["hellaswag"], data=tmp_path / "none")


class Request:
    def __init__(self, *arguments) -> None:
        self.args = arguments


PAIRS = [
    ("the cat", " sat"),
    ("the cat", " on the mat."),
    ("a dog;", " the"),
    ("", "12 + 30 = 42"),
    ("x " * 300, " end"),
]


@pytest.fixture
def theirs(ours):
    from lm_eval.models.huggingface import HFLM

    model = ours.model
    model.config.max_position_embeddings = 128
    return HFLM(pretrained=model, tokenizer=ours.tokenizer, batch_size=2, device="cpu", max_length=128)


def test_scores_are_those_of_its_own_model(ours, theirs) -> None:
    plain = HarnessModel(ours.model, ours.tokenizer, opens=False)
    requests = [Request(*pair) for pair in PAIRS]
    mine, other = plain.loglikelihood(requests, disable_tqdm=True), theirs.loglikelihood(requests, disable_tqdm=True)
    np.testing.assert_allclose([one for one, _ in mine], [one for one, _ in other], atol=1e-3)
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in other]
    texts = [Request("the cat sat on the mat. " * 30), Request("a dog")]
    rolling = theirs.loglikelihood_rolling(texts, disable_tqdm=True)
    np.testing.assert_allclose(plain.loglikelihood_rolling(texts), rolling, rtol=1e-4)


def test_what_it_writes_is_what_its_own_model_writes(ours, theirs) -> None:
    plain = HarnessModel(ours.model, ours.tokenizer, opens=False)
    asked = {"until": ["e", "\n\n"], "max_gen_toks": 12, "do_sample": False}
    requests = [Request(context, asked) for context in ("the cat", "12 + 30", "a dog; the")]
    assert plain.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


def test_documents_are_opened_unless_told_otherwise(ours) -> None:
    (opened,) = ours.loglikelihood([Request("the cat", " sat")], disable_tqdm=True)
    ids = torch.tensor([[0, *ours.tokenizer("the cat sat", add_special_tokens=False)["input_ids"]]])
    context = len(ours.tokenizer("the cat", add_special_tokens=False)["input_ids"]) + 1
    with torch.no_grad():
        logprobs = ours.model.eval()(ids).logits.log_softmax(-1)[0]
    expected = sum(float(logprobs[place - 1, ids[0, place]]) for place in range(context, ids.shape[1]))
    assert opened[0] == pytest.approx(expected, abs=1e-4)
