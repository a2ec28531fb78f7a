"""The run folder: everything that a report reads, copied out of the artifacts, and nothing else."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import stillroom
from stillroom.config import RoutingConfig, StudyConfig, to_yaml
from stillroom.corpora import Corpus
from stillroom.costs import flops_per_token, size_of_path
from stillroom.disk import copy_file
from stillroom.files import read_json, write_json
from stillroom.labels import LabelStore
from stillroom.models import precision_name
from stillroom.study.artifacts import Artifact, StoredLabels
from stillroom.study.budgets import spent
from stillroom.study.comparisons import write_comparison
from stillroom.study.folders import check_run_folder, written
from stillroom.study.worth_file import write_worth
from stillroom.training.distributed import own_device

_BINS = 40
PROFILE = "labels/profile.json"


def run_folder(config: StudyConfig, out: Path | None) -> Path:
    """The run folder of a study; refuses one that another configuration made. Writes nothing."""
    folder = out or Path("runs") / f"{config.name}-{config.fingerprint()[:8]}"
    check_run_folder(folder, to_yaml(config, "study"))
    return folder


def write_run_folder(
    folder: Path,
    config: StudyConfig,
    corpus: Corpus,
    teacher_model: Path,
    models: dict[str, Artifact],
    labels: StoredLabels | None,
    evaluations: dict[str, Artifact],
    stages: list[dict[str, Any]],
    seconds: float,
) -> None:
    """Copies metrics, evaluations and samples of every model; writes study, comparison and environment; seals it."""
    copies = ("evaluation.json", "metrics.jsonl", "samples.jsonl")
    names = [f"models/{name}/{file}" for name in evaluations for file in copies]
    with written(
        folder,
        to_yaml(config, "study"),
        [*names, PROFILE, "comparison.json", "worth.json", "environment.json", "study.json"],
    ):
        _copy_results(folder, teacher_model, models, evaluations)
        records = [_teacher_record(config, corpus, teacher_model)]
        records += [_arm_record(config, corpus, name, artifact) for name, artifact in models.items()]
        if labels is not None:
            rules = [arm.routing for arm in config.arms.values() if arm.routing is not None]
            write_json(folder / PROFILE, entropy_profile(LabelStore.open(labels.store), corpus, rules))
        arms = {name: folder / "models" / name for name in config.arms if name in evaluations}
        if len(arms) > 1:
            write_comparison(folder / "comparison.json", arms, config.evaluation.ks, seed=config.evaluation.seed)
            write_worth(folder, config, records)
        write_json(folder / "environment.json", environment(config))
        study: dict[str, Any] = {
            "name": config.name,
            "fingerprint": config.fingerprint(),
            "models": records,
            "labels": None if labels is None else _labels_record(LabelStore.open(labels.store)),
            "stages": stages,
            "total_seconds": round(seconds, 1),
            "notes": [],
            "places": _places(folder, corpus, teacher_model, models, labels, evaluations),
        }
        write_json(folder / "study.json", study)


def _copy_results(
    folder: Path, teacher_model: Path, models: dict[str, Artifact], evaluations: dict[str, Artifact]
) -> None:
    sources = {"teacher": teacher_model.parent} | {name: artifact.path for name, artifact in models.items()}
    for name, evaluation in evaluations.items():
        target = folder / "models" / name
        target.mkdir(parents=True, exist_ok=True)
        files = [
            sources[name] / "metrics.jsonl",
            evaluation.path / "evaluation.json",
            evaluation.path / "samples.jsonl",
        ]
        for file in files:
            if file.exists():
                copy_file(file, target / file.name)


def _places(
    folder: Path,
    corpus: Corpus,
    teacher_model: Path,
    models: dict[str, Artifact],
    labels: StoredLabels | None,
    evaluations: dict[str, Artifact],
) -> dict[str, Any]:
    """Where everything that the run was made of lies, from the run folder.

    ``stillroom teachers`` goes by the corpus and the models' weights, ``stillroom inspect --verify`` by all.
    """

    def seen_from_here(path: Path) -> str:
        return os.path.relpath(path, folder)

    weights = {"teacher": teacher_model} | {name: artifact.path / "model" for name, artifact in models.items()}
    return {
        "corpus": seen_from_here(corpus.folder),
        "models": {name: seen_from_here(path) for name, path in weights.items() if path.exists()},
        "labels": seen_from_here(Path(labels.store)) if labels is not None else None,
        "evaluations": {name: seen_from_here(artifact.path) for name, artifact in evaluations.items()},
    }


def _teacher_record(config: StudyConfig, corpus: Corpus, model: Path) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": "teacher", "role": "teacher", "label": "Teacher", "folder": "models/teacher", "alpha": 0.0,
        "routing": None, "teacher_flops": 0.0,
    }  # fmt: skip
    if config.teacher.training is None:
        return record | {"distinct_tokens": 0, "epochs": 0.0, "tokens": 0, "student_flops": 0.0, "seconds": 0.0} | {
            "parameters": size_of_path(model).parameters
        }  # fmt: skip
    result = read_json(model.parent / "result.json")
    rate = flops_per_token(config.teacher.model, corpus.vocab_size, corpus.train.sequence_length, backward=True)
    return record | _took(result, config.teacher.training.epochs, rate * result["tokens"])


def _arm_record(config: StudyConfig, corpus: Corpus, name: str, artifact: Artifact) -> dict[str, Any]:
    arm = config.arms[name]
    result = read_json(artifact.path / "result.json")
    took = spent(config, arm, corpus.vocab_size, result["distinct_tokens"], result["tokens"])
    routing = None if arm.routing is None else {"rule": arm.routing.rule, "share": arm.routing.share}
    return {
        "name": name, "role": "student", "label": arm_label(config, name), "folder": f"models/{name}",
        "alpha": arm.highest_alpha, "routing": routing, "teacher_flops": took.teacher,
    } | _took(result, arm.epochs, took.student)  # fmt: skip


def _took(result: dict[str, Any], epochs: float, flops: float) -> dict[str, Any]:
    return {
        "parameters": result["parameters"],
        "distinct_tokens": result["distinct_tokens"],
        "epochs": epochs,
        "tokens": result["tokens"],
        "student_flops": flops,
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
        "codec": manifest.settings.codec.name,
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
