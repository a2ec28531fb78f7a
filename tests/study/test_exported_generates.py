"""What a run exports is used as people use it: ``transformers.pipeline``, ``AutoTokenizer`` and ``generate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
    pipeline,
)

from stillroom.config import CorpusConfig, ModelConfig, RunConfig, SourceConfig, TrainingConfig
from stillroom.corpora import Corpus, build_corpus, train_tokenizer
from stillroom.models import build_model, empty_model, read_config
from stillroom.study.export import ARCHITECTURE, describe_start
from stillroom.study.train_stage import train_into
from stillroom.training import Hooks
from tokenizer_kinds import KEEPS

MODEL = ModelConfig(hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, max_positions=64)
TEXT = "the cat sat and the cat ate"


def _one_mark() -> PreTrainedTokenizerBase:
    """As GPT-2's: one token for both ends, and none to pad with."""
    made = KEEPS["byte-level"]()
    made.bos_token = made.eos_token
    return made


KINDS = {
    "trained here": lambda: train_tokenizer([TEXT] * 9, 300),
    "one mark": _one_mark,
    **{kind: KEEPS[kind] for kind in ("byte-level", "byte-level, a space first", "Llama 2", "Gemma", "characters")},
}


def _text(folder: Path) -> Path:
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"{TEXT} {'abcde'[number % 5] * (number + 1)} {TEXT}")
    return folder


def _trained(root: Path, tokenizer: PreTrainedTokenizerBase, model: ModelConfig = MODEL) -> tuple[Corpus, Path]:
    tokenizer.save_pretrained(root / "tokenizer")
    config = CorpusConfig(
        sources={"text": SourceConfig(kind="files", path=str(_text(root / "text")))}, sequence_length=32,
        tokenizer=str(root / "tokenizer"), train_tokens=512, heldout_tokens=32,
    )  # fmt: skip
    corpus = build_corpus(config, root / "corpus")
    training = TrainingConfig(tokens=512, batch_sequences=8, validate_every=0, learning_rate=1e-2)
    (root / "run").mkdir()
    run = RunConfig(name="small", corpus=config, model=model, training=training)
    train_into(root / "run", run=run, corpus=corpus, labels=None, precision_name="fp32", hooks=Hooks())
    return corpus, root / "run" / "model"


def _greedy(folder: Path, ids: list[int], num: int) -> list[int]:
    """What the model writes, without a cache and without any setting but its end of text."""
    model, eos = (
        AutoModelForCausalLM.from_pretrained(folder).eval(),
        GenerationConfig.from_pretrained(folder).eos_token_id,
    )
    written = list(ids)
    for _ in range(num):
        with torch.no_grad():
            written.append(int(model(torch.tensor([written]), use_cache=False).logits[0, -1].argmax()))
        if written[-1] == eos:
            break
    return written[len(ids) :]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_writes_what_the_model_learnt_to_write(tmp_path: Path, kind: str) -> None:
    corpus, folder = _trained(tmp_path, KINDS[kind]())
    bos, eos = corpus.manifest["bos"], corpus.manifest["eos"]
    config, generation = AutoConfig.from_pretrained(folder), GenerationConfig.from_pretrained(folder)
    assert config.use_cache is True and (config.bos_token_id, config.eos_token_id) == (bos, eos)
    assert (generation.bos_token_id, generation.eos_token_id) == (bos, eos) and generation.pad_token_id is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXT)["input_ids"]
    assert ids == [bos, *corpus.tokenizer(TEXT, add_special_tokens=False)["input_ids"]]
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == TEXT
    (asked,) = pipeline("text-generation", model=str(folder))(
        TEXT, max_new_tokens=6, do_sample=False, return_full_text=False
    )
    assert asked["generated_text"] == tokenizer.decode(
        [*ids, *_greedy(folder, ids, 6)], skip_special_tokens=True
    ).removeprefix(tokenizer.decode(ids, skip_special_tokens=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("sets", [{}, {"eos_token_id": [2, 7]}], ids=["no ids", "ends of its own"])
def test_a_pretrained_student_is_exported_with_its_cache_and_its_marks(tmp_path: Path, sets: dict) -> None:
    """Whoever trained it before saved it without: a training loop of transformers puts the cache off."""
    (tmp_path / "first").mkdir()
    _, before = _trained(tmp_path / "first", KINDS["byte-level"]())
    ids = {"bos_token_id": None, "eos_token_id": None}
    for name, more in (("config.json", {}), ("generation_config.json", {"top_k": 7, "do_sample": True, **sets})):
        said = json.loads((before / name).read_text())
        (before / name).write_text(json.dumps(said | {"use_cache": False} | ids | more))
    (tmp_path / "again").mkdir()
    corpus, folder = _trained(tmp_path / "again", KINDS["byte-level"](), ModelConfig(path=str(before)))
    assert AutoConfig.from_pretrained(folder).use_cache is True
    assert GenerationConfig.from_pretrained(folder).use_cache is not False
    said, eos = GenerationConfig.from_pretrained(folder), corpus.manifest["eos"]
    assert AutoTokenizer.from_pretrained(folder)("the")["input_ids"][0] == corpus.manifest["bos"] == said.bos_token_id
    assert said.eos_token_id == sets.get("eos_token_id", eos) and said.pad_token_id is not None and said.top_k == 7
    assert AutoConfig.from_pretrained(folder).eos_token_id == eos


def test_what_a_model_says_of_generation_outlives_a_checkpoint(tmp_path: Path) -> None:
    model = build_model(MODEL, 40, 0)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [1, 7]
    describe_start(tmp_path, model, KEEPS["byte-level"](), {})
    again = empty_model(read_config(tmp_path / ARCHITECTURE), tmp_path / ARCHITECTURE)
    assert again.generation_config is not None and again.generation_config.eos_token_id == [1, 7]
