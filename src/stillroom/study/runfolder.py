"""The run folder: everything that a report reads, copied out of the artifacts, and nothing else."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import stillroom
from stillroom.config import RoutingConfig, StudyConfig, to_yaml
from stillroom.corpora import Corpus
from stillroom.files import read_json, write_json, write_text
from stillroom.models import flops_per_token, precision_name
from stillroom.study.artifacts import Artifact
from stillroom.study.compare import write_comparison
from stillroom.study.worth import write_worth
from stillroom.teachers import LabelStore
from stillroom.training.distributed import own_device
from stillroom.types import UserError

_BINS = 40


def check_folder(config: StudyConfig, out: Path | None) -> Path:
    """The run folder of a study; refuses one that another configuration made. Writes nothing."""
    folder = out or Path("runs") / f"{config.name}-{config.fingerprint()[:8]}"
    existing = folder / "config.yaml"
    if existing.exists() and existing.read_text(encoding="utf-8") != to_yaml(config, "study"):
        raise UserError(
            f"{folder}: was made by another configuration (its config.yaml differs from this one); choose another "
            "--out or run that config.yaml."
        )
    if folder.exists() and not existing.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is no run folder; choose another --out, nothing there was touched.")
    return folder


def claim_folder(folder: Path, config: StudyConfig) -> None:
    """Creates the run folder with its resolved configuration, which runs again as it is."""
    write_text(folder / "config.yaml", to_yaml(config, "study"))


def write_run_folder(
    folder: Path,
    config: StudyConfig,
    corpus: Corpus,
    teacher_model: Path,
    models: dict[str, Artifact],
    labels: Artifact | None,
    evaluations: dict[str, Artifact],
    stages: list[dict[str, Any]],
    seconds: float,
) -> None:
    """Copies metrics, evaluations and samples of every model; writes study, comparison and environment."""
    records = [_teacher_record(config, corpus, teacher_model)]
    sources = {"teacher": teacher_model.parent} | {name: artifact.path for name, artifact in models.items()}
    for name, artifact in models.items():
        records.append(_arm_record(config, corpus, name, artifact))
    for name, evaluation in evaluations.items():
        target = folder / "models" / name
        target.mkdir(parents=True, exist_ok=True)
        _copy(sources[name] / "metrics.jsonl", target)
        for file in ("evaluation.json", "samples.jsonl"):
            _copy(evaluation.path / file, target)
    study: dict[str, Any] = {
        "name": config.name,
        "fingerprint": config.fingerprint(),
        "models": records,
        "labels": None,
        "stages": stages,
        "total_seconds": round(seconds, 1),
        "notes": [],
        "places": _places(
            folder,
            corpus,
            {"teacher": teacher_model} | {name: artifact.path / "model" for name, artifact in models.items()},
        ),
    }
    if labels is not None:
        opened = LabelStore.open(labels.path / "labels")
        study["labels"] = _labels_record(opened)
        rules = [arm.routing for arm in config.arms.values() if arm.routing is not None]
        write_json(folder / "labels" / "profile.json", entropy_profile(opened, corpus, rules))
    arms = {name: folder / "models" / name for name in config.arms if name in evaluations}
    if len(arms) > 1:
        write_comparison(folder / "comparison.json", arms, config.evaluation.ks, seed=config.evaluation.seed)
        write_worth(folder, config, records)
    write_json(folder / "environment.json", environment(config))
    write_json(folder / "study.json", study)


def _places(folder: Path, corpus: Corpus, models: dict[str, Path]) -> dict[str, Any]:
    """Where the corpus and the models' weights lie, from the run folder: what ``stillroom teachers`` goes by."""

    def seen_from_here(path: Path) -> str:
        return os.path.relpath(path, folder)

    weights = {name: seen_from_here(path) for name, path in models.items() if path.exists()}
    return {"corpus": seen_from_here(corpus.folder), "models": weights}


def _copy(file: Path, folder: Path) -> None:
    if file.exists():
        shutil.copyfile(file, folder / f".{file.name}")
        (folder / f".{file.name}").replace(folder / file.name)


def _teacher_record(config: StudyConfig, corpus: Corpus, model: Path) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": "teacher", "role": "teacher", "label": "Teacher", "folder": "models/teacher", "alpha": 0.0,
        "routing": None, "teacher_flops": 0.0,
    }  # fmt: skip
    if config.teacher.training is None:
        return record | {"distinct_tokens": 0, "epochs": 0.0, "tokens": 0, "student_flops": 0.0, "seconds": 0.0} | {
            "parameters": int(sum(value.numel() for value in _weights(model)))
        }  # fmt: skip
    result = read_json(model.parent / "result.json")
    rate = flops_per_token(config.teacher.model, corpus.vocab_size, corpus.train.sequence_length, backward=True)
    return record | _took(result, config.teacher.training.epochs, rate)


def _weights(model: Path) -> list[torch.Tensor]:
    return [tensor for file in sorted(model.glob("*.safetensors")) for tensor in load_file(file).values()]


def _arm_record(config: StudyConfig, corpus: Corpus, name: str, artifact: Artifact) -> dict[str, Any]:
    arm = config.arms[name]
    result = read_json(artifact.path / "result.json")
    length = corpus.train.sequence_length
    rate = flops_per_token(config.student, corpus.vocab_size, length, backward=True)
    labelling = 0.0
    if arm.highest_alpha > 0:
        forward = flops_per_token(config.teacher.model, corpus.vocab_size, length, backward=False)
        labelling = forward * result["distinct_tokens"]
    routing = None if arm.routing is None else {"rule": arm.routing.rule, "share": arm.routing.share}
    return {
        "name": name, "role": "student", "label": arm_label(config, name), "folder": f"models/{name}",
        "alpha": arm.highest_alpha, "routing": routing, "teacher_flops": labelling,
    } | _took(result, arm.epochs, rate)  # fmt: skip


def _took(result: dict[str, Any], epochs: float, flops: float) -> dict[str, Any]:
    return {
        "parameters": result["parameters"],
        "distinct_tokens": result["distinct_tokens"],
        "epochs": epochs,
        "tokens": result["tokens"],
        "student_flops": flops * result["tokens"],
        "seconds": result["seconds"],
    }


def arm_label(config: StudyConfig, name: str) -> str:
    """What to call an arm in a figure: SPT or DPT-90, with what differs from the plain one."""
    arm = config.arms[name]
    label = "SPT" if arm.highest_alpha == 0 else f"DPT-{arm.highest_alpha * 100:g}"
    if arm.data != 1:
        label += f"-{arm.data:g}x"
    if arm.epochs != 1:
        label += f", {arm.epochs:g} epochs"
    if arm.routing is not None:
        rule = "" if arm.routing.rule == "low-entropy" else f" ({arm.routing.rule})"
        label += f", {arm.routing.share * 100:g} % routed{rule}"
    if arm.seed is not None:
        label += f", seed {arm.seed}"
    return label


def _labels_record(store: LabelStore) -> dict[str, Any]:
    manifest = store.manifest
    return {
        "codec": manifest.config.codec,
        "tokens": manifest.num_tokens,
        "bytes_per_token": manifest.bytes_per_token,
        "mean_kl_nats": manifest.fidelity.get("mean_kl_nats"),
        "teacher_entropy_nats": manifest.teacher_entropy_nats,
    }


def entropy_profile(store: LabelStore, corpus: Corpus, rules: list[RoutingConfig]) -> dict[str, Any]:
    """Histogram of the teacher's entropy over the labelled positions that have a target, in all and by source.

    ``routing_threshold_nats`` is the mean over sequences of the entropy below which the first low-entropy rule routes.
    """
    edges = np.linspace(0.0, float(np.log(corpus.vocab_size)), _BINS + 1)
    counts = {name: np.zeros(_BINS) for name in corpus.source_names}
    sums = {name: [0.0, 0] for name in corpus.source_names}
    share = next((rule.share for rule in rules if rule.rule == "low-entropy"), None)
    thresholds: list[float] = []
    sequences = corpus.train.first(store.manifest.num_sequences * corpus.train.sequence_length)
    for start in range(0, len(sequences), 256):
        indices = range(start, min(start + 256, len(sequences)))
        batch = sequences.batch(indices)
        entropy_BT = store.lookup(batch.tokens_BT).entropy.numpy()
        counted_BT = (batch.targets_BT >= 0).numpy()
        for row, index in enumerate(indices):
            name = corpus.source_names[sequences.source[index]]
            values = entropy_BT[row][counted_BT[row]]
            counts[name] += np.histogram(values, edges)[0]
            sums[name][0] += float(values.sum())
            sums[name][1] += values.size
            if share is not None and values.size:
                thresholds.append(float(np.quantile(values, share)))
    together = np.sum(list(counts.values()), axis=0)
    total = sum(int(number) for _, number in sums.values())
    return {
        "entropy_histogram": {
            "edges_nats": edges.round(6).tolist(),
            "counts": together.astype(int).tolist(),
        },
        "by_source": {
            name: {"counts": counts[name].astype(int).tolist(), "mean_nats": sums[name][0] / sums[name][1]}
            for name in corpus.source_names
            if sums[name][1]
        },
        "routing_threshold_nats": float(np.mean(thresholds)) if thresholds else None,
        "mean_entropy_nats": sum(value for value, _ in sums.values()) / max(1, total),
    }


def environment(config: StudyConfig) -> dict[str, Any]:
    """What the numbers were made with."""
    return {
        "stillroom": stillroom.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.machine(),
        "cores": torch.get_num_threads(),
        "precision": precision_name(config.training.precision, own_device()),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
