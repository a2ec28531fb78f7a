"""The run folder: everything that a report reads, copied out of the artifacts, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from stillroom.config import RoutingConfig, StudyConfig
from stillroom.corpora import Corpus
from stillroom.disk import copy_file
from stillroom.files import read_json, write_json
from stillroom.labels import LabelStore
from stillroom.models import flops_per_token, precision_name
from stillroom.results.json_form import write
from stillroom.study.artifacts import Artifact, StoredLabels
from stillroom.study.comparisons import write_comparison
from stillroom.study.environment import this_environment
from stillroom.study.folders import RunFolder
from stillroom.study.worth_file import write_worth
from stillroom.training.distributed import own_device

_BINS = 40
PROFILE = "labels/profile.json"


@dataclass(frozen=True)
class Made:
    """What the stages of a study made."""

    corpus: Corpus
    teacher: Path
    """The model folder."""
    models: dict[str, Artifact]
    labels: StoredLabels | None
    evaluations: dict[str, Artifact]


def study_folder(config: StudyConfig, out: Path | None) -> RunFolder:
    """The run folder of a study; refuses one that another configuration made. Writes nothing."""
    return RunFolder.of(config, "study", config.name, out)


def write_run_folder(
    run: RunFolder, config: StudyConfig, made: Made, stages: Sequence[Mapping[str, object]], seconds: float
) -> None:
    """Copies metrics, evaluations and samples of every model; writes study, comparison and environment; seals it."""
    folder, corpus, labels = run.path, made.corpus, made.labels
    copies = ("evaluation.json", "metrics.jsonl", "samples.jsonl")
    names = [f"models/{name}/{file}" for name in made.evaluations for file in copies]
    with run.written([*names, PROFILE, "comparison.json", "worth.json", "environment.json", "study.json"]):
        _copy_results(folder, made)
        records = [_teacher_record(config, corpus, made.teacher)]
        records += [_arm_record(config, corpus, name, artifact) for name, artifact in made.models.items()]
        if labels is not None:
            rules = [arm.routing for arm in config.arms.values() if arm.routing is not None]
            write_json(folder / PROFILE, entropy_profile(LabelStore.open(labels.store), corpus, rules))
        arms = {name: folder / "models" / name for name in config.arms if name in made.evaluations}
        if len(arms) > 1:
            write_comparison(folder / "comparison.json", arms, config.evaluation.ks, seed=config.evaluation.seed)
            write_worth(folder, config, records)
        precision = precision_name(config.training.precision, own_device())
        write(folder / "environment.json", this_environment(precision))
        study: dict[str, Any] = {
            "name": config.name,
            "fingerprint": config.fingerprint(),
            "models": records,
            "labels": None if labels is None else _labels_record(LabelStore.open(labels.store)),
            "stages": stages,
            "total_seconds": round(seconds, 1),
            "notes": [],
            "places": _places(folder, made),
        }
        write_json(folder / "study.json", study)


def _copy_results(folder: Path, made: Made) -> None:
    sources = {"teacher": made.teacher.parent} | {name: artifact.path for name, artifact in made.models.items()}
    for name, evaluation in made.evaluations.items():
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


def _places(folder: Path, made: Made) -> Mapping[str, object]:
    """Where everything that the run was made of lies, from the run folder.

    ``stillroom teachers`` goes by the corpus and the models' weights, ``stillroom inspect --verify`` by all.
    """

    def seen_from_here(path: Path) -> str:
        return os.path.relpath(path, folder)

    weights = {"teacher": made.teacher} | {name: artifact.path / "model" for name, artifact in made.models.items()}
    return {
        "corpus": seen_from_here(made.corpus.folder),
        "models": {name: seen_from_here(path) for name, path in weights.items() if path.exists()},
        "labels": seen_from_here(Path(made.labels.store)) if made.labels is not None else None,
        "evaluations": {name: seen_from_here(artifact.path) for name, artifact in made.evaluations.items()},
    }


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
