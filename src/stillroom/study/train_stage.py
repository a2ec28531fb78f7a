"""Trains one model of a study into a folder: weights, tokenizer, metrics, and what it took.

A finished folder holds ``model/`` (Hugging Face layout), ``metrics.jsonl``, ``config.yaml`` and ``result.json``; while
the run is under way it holds what ``stillroom export`` needs (see ``training.export``).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import PreTrainedModel

from stillroom.config import ModelConfig, RunConfig, to_yaml
from stillroom.corpora import Corpus, save_opening
from stillroom.costs import STATE_BYTES
from stillroom.files import read_json, write_json, write_text
from stillroom.labels import LabelStore
from stillroom.models import ModelPlan, build_model, give_ids, load_model, num_positions, plan_model, read_config
from stillroom.results.runs import STEPS
from stillroom.study.export import (
    RunRecord,
    StartRecord,
    describe_start,
    export_checkpoint,
    export_run,
    forget_start,
    gathered,
    model_card,
    trunk,
)
from stillroom.study.teacherfolders import check_labelled, check_vocabulary
from stillroom.teachers import LabelSource, LiveTeacher
from stillroom.training import Hooks, Ranks, TrainingData, TrainingResult, join, train
from stillroom.training.checkpoint import found, step_of
from stillroom.training.distributed import launched_rank, launched_size, own_device
from stillroom.types import UserError

_DERIVED = ("config.yaml", "identity.json", "model/README.md")
_OF_TOKENIZER = ("model/tokenizer", "model/special_tokens_map", "model/added_tokens", "model/vocab", "model/merges")


def load_here(path: str | Path) -> PreTrainedModel:
    """A pretrained model on the device of this process: a GPU where there is one."""
    return load_model(path).to(own_device())  # pyright: ignore[reportArgumentType]


def check_length(model: ModelConfig, corpus: Corpus, field: str) -> None:
    """Refuses sequences that are longer than the positions of a pretrained model (others are checked in the recipe)."""
    if model.path is None:
        return
    longest = num_positions(read_config(model.path))
    length = corpus.train.sequence_length
    if longest is not None and length > longest:
        raise UserError(f"corpus.sequence_length is {length} but {field} {model.path} covers {longest}; shorten it.")


def _state_bytes(model: PreTrainedModel, labels: LabelSource | None) -> float:
    """Bytes of weights, gradients and two moments in fp32, and of a live teacher's weights."""
    held = float(STATE_BYTES) * model.num_parameters()
    return held + 4.0 * labels.model.num_parameters() if isinstance(labels, LiveTeacher) else held


def train_into(
    folder: Path,
    *,
    run: RunConfig,
    corpus: Corpus,
    labels: LabelSource | None,
    precision_name: str,
    hooks: Hooks,
    teacher: Path | None = None,
) -> None:
    """Trains the model of ``run`` on ``corpus``; continues where a killed call stopped.

    ``teacher`` is the model that a student's first weights are cut from, where ``run`` asks for that.
    """
    if (folder / "result.json").is_file() and launched_size() == 1:
        _complete(folder, run, corpus)
        return
    model_config, training, objective = run.model, run.training, run.objective
    if isinstance(labels, LabelStore):
        check_labelled(labels, corpus)
    check_length(model_config, corpus, "model.path")
    if launched_rank() == 0:
        write_text(folder / "config.yaml", to_yaml(run, "run"))
    if model_config.path is not None:
        check_vocabulary(model_config.path, corpus, "model.path")
    source = _begun(run, corpus, teacher)
    model = (source.model if isinstance(source, ModelPlan) else source).train()
    data = TrainingData(
        corpus.train.first(training.tokens),
        corpus.heldout,
        labels,
        isolate=run.corpus.isolate_documents,
        label_temperature=labels.manifest.settings.temperature if isinstance(labels, LabelStore) else 1.0,
        shuffle_sequences=corpus.train.shuffle_sequences,
    )
    ranks = join(training.parallel, _state_bytes(model, labels))
    start: StartRecord = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "distinct_tokens": len(data.train) * data.train.sequence_length,
        "corpus": corpus.identity,
    }
    give_ids(model, corpus.special_ids)
    if ranks.is_first:
        describe_start(folder, model, corpus.tokenizer, start)
    result = train(
        source, data, training, objective, folder,
        precision_name=precision_name, hooks=hooks, ranks=ranks,
    )  # fmt: skip
    _finish(folder, run, corpus, start, model, result, ranks)


def _begun(run: RunConfig, corpus: Corpus, teacher: Path | None) -> PreTrainedModel | ModelPlan:
    """The model that is trained as it begins, or what it will be where several processes make it."""
    make, training = plan_model if launched_size() > 1 else build_model, run.training
    shape = trunk(run.model, run.objective.heads)
    return make(shape, corpus.vocab_size, training.seed, training.base_width, corpus.special_ids, teacher)


def keep_trained(folder: Path, damaged: list[str]) -> bool:
    """Whether ``train_into`` can make damaged files of a finished run anew without training again."""
    return all(name in _DERIVED or name.startswith(_OF_TOKENIZER) for name in damaged)


def _complete(folder: Path, run: RunConfig, corpus: Corpus) -> None:
    """Writes what follows from a trained model's ``result.json``, its configuration and the corpus."""
    write_text(folder / "config.yaml", to_yaml(run, "run"))
    save_opening(corpus.tokenizer, folder / "model")
    write_text(folder / "model" / "README.md", model_card(run, read_json(folder / "result.json")))
    _tidy(folder)


def _keep_steps(folder: Path, run: RunConfig) -> None:
    """Makes models of the checkpoints that were asked for, which go with the others."""
    for checkpoint in found(folder / "checkpoints"):
        step = step_of(checkpoint)
        target = folder / STEPS / f"step-{step}"
        if run.training.keeps(step) and not target.exists():
            export_checkpoint(folder, target, step)


def _tidy(folder: Path) -> None:
    """Removes what a run under way needs: it has done its work."""
    forget_start(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _finish(
    folder: Path,
    run: RunConfig,
    corpus: Corpus,
    start: StartRecord,
    model: PreTrainedModel,
    result: TrainingResult,
    ranks: Ranks,
) -> None:
    """Writes ``model/`` and ``result.json`` on the first rank; all ranks must call it."""
    whole = gathered(model, ranks)
    further = gathered(result.further, ranks) if result.further is not None else None
    if whole is not None:
        record: RunRecord = {
            **start,
            "tokens": result.tokens,
            "steps": result.steps,
            "seconds": round(result.seconds, 2),
            "validation_ce": result.validation_ce,
        }
        save_opening(corpus.tokenizer, folder / "model")
        export_run(folder / "model", run, record, model, whole, further)
        _keep_steps(folder, run)
        write_json(folder / "result.json", record)
        _tidy(folder)
    ranks.barrier()
