"""Supervised tuning trains on answers alone; reinforcement rewards what a verifier accepts."""

from __future__ import annotations

import importlib.util
import io
import json

import pytest
import torch
from rich.console import Console

from ranked import SHAPE, save
from stillroom import disk
from stillroom.choosing.tuning.reinforce import ReinforcedConfig, reinforce, reward_function
from stillroom.choosing.tuning.supervise import SupervisedConfig, supervise, worked_problems
from stillroom.corpora import Corpus, load_tokenizer
from stillroom.files import read_json, write_json
from stillroom.models import build_model, load_model
from stillroom.results_versions import RESULTS_VERSIONS
from stillroom.study.progress import StageDisplay
from stillroom.study.verifying import verify
from stillroom.types import IGNORE_INDEX, UserError
from stillroom.vocabulary import Vocabulary
from stillroom.worlds.problems_world import problems

FAMILIES = {"families": "between pair_sum"}
CONFIG = SupervisedConfig(
    families="between pair_sum", problems=96, heldout_problems=24, sequence_length=96, epochs=4, batch_sequences=8,
    learning_rate=1e-2,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory):
    return save(build_model(SHAPE, tiny_corpus.vocab_size, 0), tiny_corpus, tmp_path_factory.mktemp("base") / "model")


def test_targets_are_the_answers_and_nothing_else(tiny_corpus):
    tokenizer = tiny_corpus.tokenizer
    data = worked_problems(tokenizer, num=20, length=96, seed=0, split="train", options=FAMILIES)
    batch = data.batch(range(len(data)))
    found = 0
    for row in range(len(data)):
        for number in range(int(batch.document_BT[row].max()) + 1):
            inside = batch.document_BT[row] == number
            tokens, targets = batch.tokens_BT[row][inside], batch.targets_BT[row][inside]
            counted = targets != IGNORE_INDEX
            if not counted.any():
                assert (tokens == tokenizer.eos_token_id).all()  # what fills the rest of a sequence
                continue
            found += 1
            assert torch.equal(targets[:-1][counted[:-1]], tokens[1:][counted[:-1]])
            prompt = tokenizer.decode(tokens[: int(counted.nonzero()[0]) + 1])
            assert prompt.startswith("<|bos|>Q:") and prompt.endswith("\nA:")
            answer = tokenizer.decode(targets[counted])
            assert answer.endswith("<|eos|>") and any(letter.isdigit() for letter in answer)
    assert found == 20


def test_a_held_out_problem_is_never_trained_on(tiny_corpus):
    tokenizer = tiny_corpus.tokenizer

    def prompts(split):
        data = worked_problems(tokenizer, num=40, length=96, seed=0, split=split, options={"families": "between"})
        text = tokenizer.decode(torch.from_numpy(data.tokens_ST).flatten())
        return {part.split("\nA:")[0] for part in text.split("<|bos|>")[1:]}

    assert not prompts("train") & prompts("heldout")


def test_supervised_tuning_lowers_the_loss_of_answers_and_is_done_once(base, tmp_path, monkeypatch):
    out = tmp_path / "tuned"
    folder = supervise(str(base), CONFIG, out, StageDisplay())
    first = json.loads((out / "result.json").read_text())
    short = CONFIG.model_copy(update={"epochs": 0.3})
    supervise(str(base), short, tmp_path / "short", StageDisplay())
    assert first["answer_ce"] < 0.8 * json.loads((tmp_path / "short" / "result.json").read_text())["answer_ce"]
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert supervise(str(base), CONFIG, out, StageDisplay()) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert load_tokenizer(folder)("A: 7")["input_ids"] == load_tokenizer(base)("A: 7")["input_ids"]
    with pytest.raises(UserError, match=r"tuned otherwise \(in its tuning.json config.epochs is 4.0, here 0.3\)"):
        supervise(str(base), short, out, StageDisplay())
    for made, now in ((1, 2), (3, 2)):
        write_json(
            out / "tuning.json", read_json(out / "tuning.json") | ({"results_version": made} if made > 1 else {})
        )
        monkeypatch.setitem(RESULTS_VERSIONS, "tuning", now)
        with pytest.raises(UserError, match=f"results_version is {made if made > 1 else 'nothing'}, here 2"):
            supervise(str(base), CONFIG, out, StageDisplay())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="no tuned model"):
        supervise(str(base), CONFIG, tmp_path / "full", StageDisplay())


def test_a_problem_too_long_for_a_sequence_is_said_so(base, tmp_path):
    with pytest.raises(UserError, match="raise it"):
        supervise(str(base), CONFIG.model_copy(update={"sequence_length": 8}), tmp_path / "x", StageDisplay())


def test_the_reward_is_what_the_verifier_says_of_answers_that_end(tiny_corpus):
    items = problems(2, 0, split="train", options={"families": "between"})
    vocabulary = Vocabulary.of(tiny_corpus.tokenizer)
    low, high = (int(word) for word in items[1].prompt.split("\n")[0].split() if word.isdigit())

    def ids(text, end):
        return [*tiny_corpus.tokenizer(text)["input_ids"], *([vocabulary.eos] if end else [])]

    reward = reward_function(items, vocabulary)
    answers = [ids(f" {low + 1}", True), ids(f" {low + 1}", False), ids(f" {high}", True), ids(f" {low + 2}\nQ", False)]
    assert reward(completion_ids=answers, number=[1] * 4, prompts=[], completions=[]) == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.skipif(importlib.util.find_spec("trl") is not None, reason="TRL is installed")
def test_without_trl_one_sentence_says_what_to_install(base, tmp_path):
    with pytest.raises(UserError, match=r"stillroom\[rl\]"):
        reinforce(str(base), ReinforcedConfig(families="between", steps=1), tmp_path / "rl", StageDisplay())
    assert not (tmp_path / "rl").exists()


@pytest.mark.filterwarnings("ignore")
def test_reinforcement_raises_the_reward(base, tmp_path):
    pytest.importorskip("trl", reason="needs the extra rl; run it where TRL is installed")
    begin = CONFIG.model_copy(update={"families": "between", "problems": 1024, "epochs": 12})
    start = supervise(str(base), begin, tmp_path / "start", StageDisplay())
    config = ReinforcedConfig(
        families="between", problems=64, steps=80, prompts_per_step=8, samples_per_prompt=8, max_new_tokens=8,
        learning_rate=1e-3,
    )  # fmt: skip
    folder = reinforce(str(start), config, tmp_path / "rl", StageDisplay())
    result = json.loads((tmp_path / "rl" / "result.json").read_text())
    assert result["mean_reward_last_fifth"] > result["mean_reward_first_fifth"] + 0.03  # 1,024 samples each: two errors
    model = load_model(folder)
    assert model.generation_config is not None and model.generation_config.eos_token_id == 1
    assert not (tmp_path / "rl" / "checkpoints").exists()


def test_a_second_process_is_told_to_wait(base, tmp_path):
    with disk.held(tmp_path / ".tuned.lock"), pytest.raises(UserError, match="another process is tuning into it now"):
        supervise(str(base), CONFIG, tmp_path / "tuned", StageDisplay())
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize("name", ["model/model.safetensors", "metrics.jsonl", "result.json", "tuning.json"])
def test_a_damaged_tuned_model_is_set_aside_and_tuned_again(base, tmp_path, name):
    short = CONFIG.model_copy(update={"epochs": 0.3})
    out = tmp_path / "tuned"
    folder = supervise(str(base), short, out, StageDisplay())
    before = (folder / "model.safetensors").read_bytes()
    file = out / name
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 8
    file.write_bytes(damaged)
    assert [one.faults != () for one in verify(out)] == [True]
    shown = io.StringIO()
    supervise(str(base), short, out, StageDisplay(Console(file=shown, width=1000)))
    assert f"{file} is damaged" in shown.getvalue()
    assert (folder / "model.safetensors").read_bytes() == before
    assert not any(one.faults for one in verify(out))
    assert file.with_name(f".{file.name}.damaged").read_bytes() == damaged
