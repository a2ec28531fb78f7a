"""A base model tuned on worked problems: the answers alone are trained on, as a model of instructions is made.

Letters: B sequences, T positions. ``study/reinforce.py`` makes the third kind of teacher from the same problems.
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
from pydantic import Field, JsonValue
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from stillroom import checksums
from stillroom.checksums import hash_of
from stillroom.config import ObjectiveConfig, Strict, TrainingConfig
from stillroom.corpora import load_tokenizer
from stillroom.costs import size_of_path
from stillroom.files import read_json_object, write_bytes, write_json
from stillroom.models import export_model, load_model
from stillroom.places import find_part
from stillroom.results_versions import results_version
from stillroom.strict import Factor, Items, PositiveFloat, Seed
from stillroom.study.folders import held_alone, set_damage_aside
from stillroom.study.identities import VERSIONS, mismatches, source_hash
from stillroom.study.interrupts import Stopper
from stillroom.study.own_precision import own_precision
from stillroom.study.progress import StageDisplay
from stillroom.study.teacherfolders import teacher_hash
from stillroom.training import Hooks, Interrupted, TrainingData, train
from stillroom.training.errors import DivergedError
from stillroom.training.finite import all_finite
from stillroom.types import IGNORE_INDEX, Batch, UserError
from stillroom.vocabulary import Vocabulary, encode, encode_documents
from stillroom.worlds.base import Split
from stillroom.worlds.text_worlds import make_world

_ANSWER = "\nA:"
"""What a prompt of the problems world ends in."""
Record: TypeAlias = Mapping[str, JsonValue]
"""What a file of a tuned model says, whichever way it was tuned: its identity, or what came of it."""


class ProblemFamilies(Strict):
    """Which problems a model is tuned on."""

    families: str = ""
    """Names of the problems world's families, with spaces between; empty means all."""

    @property
    def options(self) -> dict[str, str]:
        """Options of the problems world."""
        return {"families": self.families} if self.families.strip() else {}


class SupervisedConfig(ProblemFamilies):
    """How a base model is tuned on worked problems."""

    problems: Items = 4096
    """Worked problems to train on, from the training split."""
    heldout_problems: Items = 256
    sequence_length: Annotated[int, Field(ge=8, le=65_536)] = 128
    epochs: Factor = 2.0
    batch_sequences: Items = 16
    learning_rate: PositiveFloat = 3e-4
    seed: Seed = 0


@dataclass(frozen=True)
class WorkedProblems:
    """Prompts and answers packed whole into sequences; only answers and the end of a document are targets.

    Prompt and answer are encoded apart, exactly as a prompt is when answers to it are sampled. What is left of a
    sequence is filled with the closing token, a document of its own without targets.
    """

    tokens_ST: np.ndarray
    targets_ST: np.ndarray
    document_ST: np.ndarray

    @property
    def sequence_length(self) -> int:
        """T, in tokens."""
        return self.tokens_ST.shape[1]

    def __len__(self) -> int:
        return len(self.tokens_ST)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The sequences with these numbers, in this order."""
        rows = list(indices)
        return Batch(
            torch.from_numpy(self.tokens_ST[rows]),
            torch.from_numpy(self.targets_ST[rows]),
            torch.from_numpy(self.document_ST[rows]),
        )


def worked_problems(
    tokenizer: PreTrainedTokenizerBase, *, num: int, length: int, seed: int, split: Split, options: Mapping[str, str]
) -> WorkedProblems:
    """``num`` worked problems of the problems world, in packed sequences of ``length`` tokens."""
    vocabulary = Vocabulary.of(tokenizer)
    if vocabulary.eos is None:
        raise UserError("teachers supervise: the base's tokenizer has no eos token, which ends an answer; use another.")
    texts = list(itertools.islice(make_world("problems", options).documents(seed, split), num))
    parts = [text.partition(_ANSWER) for text in texts]
    prompts = encode_documents(tokenizer, [question + mark for question, mark, _ in parts])
    answers = encode(tokenizer, [answer for *_, answer in parts])
    documents = (
        ([*vocabulary.start, *prompt], [*answer, vocabulary.eos])
        for prompt, answer in zip(prompts, answers, strict=True)
    )
    rows = list(_packed(documents, length, vocabulary.eos))
    if not rows:
        raise UserError(f"teachers supervise: no problem fits into sequence_length {length}; raise it.")
    return WorkedProblems(*(np.stack(column) for column in zip(*rows, strict=True)))


def _packed(
    documents: Iterator[tuple[list[int], list[int]]], length: int, filler: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows of tokens, targets and document numbers, each (T,); a document longer than a row is left out."""
    tokens: list[int] = []
    targets: list[int] = []
    numbers: list[int] = []
    count = 0

    def row() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        spare = length - len(tokens)
        return (
            np.array(tokens + [filler] * spare, dtype=np.int64),
            np.array(targets + [IGNORE_INDEX] * spare, dtype=np.int64),
            np.array(numbers + [count] * spare, dtype=np.int32),
        )

    for prompt, answer in documents:
        size = len(prompt) + len(answer)
        if size > length:
            continue
        if len(tokens) + size > length:
            yield row()
            tokens, targets, numbers, count = [], [], [], 0
        tokens += prompt + answer
        targets += [IGNORE_INDEX] * (len(prompt) - 1) + answer + [IGNORE_INDEX]
        numbers += [count] * size
        count += 1
    if tokens:
        yield row()


def open_base(base: str, config: Strict, kind: str, out: Path) -> tuple[str, Record]:
    """The base's model folder, and what determines the tuned model; refuses an ``out`` that holds another one."""
    path = find_part("model", base).path
    identity: Record = {
        "kind": kind,
        "base": teacher_hash(path),
        "config": config.canonical(),
        **results_version("tuning"),
    }
    found = out / "tuning.json"
    if checksums.sealed_hash(out, "identity.json") == hash_of(_identity_text(identity)):
        return path, identity  # whatever has become of the rest: it is made again
    if found.exists():
        made = {key: value for key, value in read_json_object(found).items() if key in {*identity, *VERSIONS}}
        for differing in mismatches(made, identity):
            raise UserError(
                f"{out}: holds a model that was tuned otherwise (in its tuning.json {differing}); choose another "
                "--out, nothing there was touched."
            )
    if out.exists() and not found.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is no tuned model; choose another --out, nothing there was touched.")
    return path, identity


def _identity_text(identity: Record) -> bytes:
    return json.dumps(identity, sort_keys=True).encode()


def begin_tuning(out: Path, identity: Record, about: Record) -> None:
    """Writes down in ``out`` what is being tuned, before it is."""
    write_json(out / "tuning.json", {**identity, **about})


def finish_tuning(out: Path, identity: Record, record: Record) -> None:
    """Writes ``result.json``, seals the folder, and removes what is of use only while tuning goes on."""
    write_bytes(out / "identity.json", _identity_text(identity))
    write_json(out / "result.json", record)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    checksums.seal(out)


def is_tuned(out: Path, title: str, display: StageDisplay) -> bool:
    """Whether ``out`` holds the finished model; one that is damaged is set aside, to be tuned again."""
    if set_damage_aside(out, _forget_result, functools.partial(display.damaged, title)):
        return False
    if not (out / "result.json").exists():
        return False
    display.reused(title, is_sealed=checksums.is_sealed(out))
    return True


def _forget_result(out: Path, damaged: list[str]) -> bool:
    for name in ("result.json", "metrics.jsonl"):
        (out / name).unlink(missing_ok=True)
    return False


def supervise(base: str, config: SupervisedConfig, out: Path, display: StageDisplay) -> Path:
    """Tunes ``base`` into ``out/model`` (Hugging Face layout) and returns that folder; continues after a stop."""
    path, identity = open_base(base, config, "supervised", out)
    with held_alone(out, "tuning"):
        if not is_tuned(out, "supervised tuning", display):
            _supervise(path, identity, config, out, display)
    return out / "model"


def _supervise(path: str, identity: Record, config: SupervisedConfig, out: Path, display: StageDisplay) -> None:
    data, tokenizer = _data(path, config)
    model = load_model(path).train()
    begin_tuning(out, identity, {"path": path, "source": source_hash()})
    precision = own_precision("auto")
    with Stopper() as stopper, display.stage("supervised tuning") as update, stopper.cooperative():
        try:
            result = train(
                model, data, _training(config), ObjectiveConfig(), out,
                precision_name=precision, hooks=Hooks(update, stopper.asked, update.loss),
            )  # fmt: skip
        except Interrupted:
            stopper.leave()
    save_tuned(model, tokenizer, out)
    record = {"steps": result.steps, "tokens": result.tokens, "answer_ce": result.validation_ce}
    finish_tuning(out, identity, {**record, "seconds": round(result.seconds, 2)})


def _data(path: str, config: SupervisedConfig) -> tuple[TrainingData, PreTrainedTokenizerBase]:
    tokenizer = load_tokenizer(path)
    splits: tuple[tuple[Split, int], ...] = (("train", config.problems), ("heldout", config.heldout_problems))
    parts = [
        worked_problems(
            tokenizer, num=num, length=config.sequence_length, seed=config.seed, split=split, options=config.options
        )
        for split, num in splits
    ]
    return TrainingData(parts[0], parts[1]), tokenizer


def _training(config: SupervisedConfig) -> TrainingConfig:
    return TrainingConfig(
        epochs=config.epochs,
        batch_sequences=config.batch_sequences,
        learning_rate=config.learning_rate,
        validate_every=0,
        seed=config.seed,
    )


def save_tuned(model: Any, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Writes ``out/model``: weights, configuration and the base's tokenizer; refuses weights that are not finite."""
    if not all_finite(model.parameters()):
        raise DivergedError(f"{out}: tuning left weights that are not finite; lower --learning-rate.")
    export_model(model, out / "model")
    tokenizer.save_pretrained(out / "model")


def print_supervised_plan(base: str, config: SupervisedConfig, out: Path, console: Console) -> None:
    """Prints what supervised tuning will take; writes nothing."""
    path, _ = open_base(base, config, "supervised", out)
    data, _ = _data(path, config)
    size = size_of_path(path)
    tokens = len(data.train) * data.train.sequence_length * config.epochs
    rate = size.flops_per_token(config.sequence_length, backward=True)
    console.print(
        f"{config.problems:,} worked problems in {len(data.train):,} sequences of {config.sequence_length} tokens, "
        f"{config.epochs:g} passes: {tokens:,.0f} tokens, about {rate * tokens:.2e} FLOPs with "
        f"{size.parameters / 1e6:.2f} M parameters. Nothing was written.",
        highlight=False,
    )
