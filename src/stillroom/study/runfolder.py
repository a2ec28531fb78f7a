"""The run folder: everything that a report reads, copied out of the artifacts, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.config import RoutingConfig, StudyConfig
from stillroom.corpora import Corpus
from stillroom.costs import flops_per_token, size_of_path
from stillroom.disk import copy_file
from stillroom.files import read_json
from stillroom.labels import LabelStore
from stillroom.objectives.schedules import ever_needs_teacher, highest_alpha
from stillroom.results.compare import write_comparison
from stillroom.results.json_form import write
from stillroom.results.runs import PROFILE, STEPS, checkpoint_of
from stillroom.results.schema import (
    EntropyProfile,
    Histogram,
    LabelsRecord,
    ModelRecord,
    Places,
    RoutingRecord,
    SourceProfile,
    StageRecord,
    StudyRecord,
    baseline_of,
)
from stillroom.study.artifacts import Artifact, StoredLabels
from stillroom.study.budgets import spent
from stillroom.study.environment import this_environment
from stillroom.study.folders import RunFolder
from stillroom.study.ladder import write_worth
from stillroom.study.links import link_parts, seen_from
from stillroom.study.own_precision import own_precision

_BINS = 40


@dataclass(frozen=True)
class FinishedParts:
    """What a study made: the teacher's model, students and evaluations by name, and the labels where it has some."""

    corpus: Corpus
    teacher_model: Path
    models: Mapping[str, Artifact]
    labels: StoredLabels | None
    evaluations: Mapping[str, Artifact]


def study_folder(config: StudyConfig, out: Path | None) -> RunFolder:
    """The run folder of a study; refuses one that another configuration made. Writes nothing."""
    return RunFolder.of(config, "study", config.name, out)


def write_run_folder(
    run: RunFolder, config: StudyConfig, made: FinishedParts, stages: Sequence[StageRecord], seconds: float
) -> None:
    """Copies metrics, evaluations and samples of every model; writes study, comparison and environment; seals it."""
    folder = run.path
    copies = ("evaluation.json", "metrics.jsonl", "samples.jsonl")
    names = [f"{_home(made, name)}/{file}" for name in made.evaluations for file in copies]
    names += [PROFILE, "comparison.json", "worth.json", "environment.json", "study.json"]
    with run.written(names):
        _forget_earlier_profile(folder)
        _copy_results(folder, made)
        records = [_teacher_record(config, made)]
        records += [_arm_record(config, made.corpus, name, artifact) for name, artifact in made.models.items()]
        store = None if made.labels is None else LabelStore.open(made.labels.store)
        if store is not None:
            rules = [arm.routing for arm in config.arms.values() if arm.routing is not None]
            write(folder / PROFILE, entropy_profile(store, made.corpus, rules))
        base = baseline_of(records)
        names = sorted(config.arms, key=lambda name: base is None or name != base.name)  # the baseline comes first
        arms = {name: folder / "models" / name for name in names if name in made.evaluations}
        if len(arms) > 1:
            write_comparison(folder / "comparison.json", arms, config.evaluation.ks, seed=config.evaluation.seed)
            kept = {name: folder / _home(made, name) for name in made.evaluations if "@" in name}
            write_worth(folder / "worth.json", config, records, arms | kept)
        precision = own_precision(config.training.precision)
        write(folder / "environment.json", this_environment(precision))
        study = StudyRecord(
            name=config.name,
            fingerprint=config.fingerprint(),
            models=tuple(records),
            labels=None if store is None else _labels_record(store),
            stages=tuple(stages),
            total_seconds=round(seconds, 1),
            places=_places(folder, made),
        )
        write(folder / "study.json", study)
        if study.places is not None:
            link_parts(folder, study.places)


def _forget_earlier_profile(folder: Path) -> None:
    """Earlier versions kept the profile where the link to the labels is now."""
    if not (folder / "labels").is_symlink():
        (folder / "labels" / PROFILE).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / "labels").rmdir()


def _home(made: FinishedParts, name: str) -> str:
    """Where in the run's folder the results of a model are, or of a kept checkpoint of one."""
    if name in ("teacher", *made.models):
        return f"models/{name}"
    model, step = checkpoint_of(name)
    return f"models/{model}/{STEPS}/{step}"


def _copy_results(folder: Path, made: FinishedParts) -> None:
    sources = {"teacher": made.teacher_model.parent} | {name: artifact.path for name, artifact in made.models.items()}
    for name, evaluation in made.evaluations.items():
        target = folder / _home(made, name)
        target.mkdir(parents=True, exist_ok=True)
        measured = (evaluation.path / file for file in ("evaluation.json", "samples.jsonl"))
        metrics = [sources[name] / "metrics.jsonl"] if name in sources else []
        for file in (*metrics, *measured):
            if file.exists():
                copy_file(file, target / file.name)


def _places(folder: Path, made: FinishedParts) -> Places:
    """Where everything that the run was made of lies, from the run folder.

    ``stillroom teachers`` goes by the corpus and the models' weights, ``stillroom inspect --verify`` by all.
    """
    weights = {"teacher": made.teacher_model} | {name: one.path / "model" for name, one in made.models.items()}
    return Places(
        corpus=seen_from(folder, made.corpus.place),
        models={name: seen_from(folder, path) for name, path in weights.items() if path.exists()},
        labels=None if made.labels is None else seen_from(folder, made.labels.store),
        evaluations={name: seen_from(folder, artifact.path) for name, artifact in made.evaluations.items()},
    )


def _teacher_record(config: StudyConfig, made: FinishedParts) -> ModelRecord:
    model = made.teacher_model
    known = {"name": "teacher", "role": "teacher", "label": "Teacher", "folder": "models/teacher"}
    if config.teacher.training is None:
        return ModelRecord(**known, parameters=size_of_path(model).parameters)  # type: ignore[arg-type]
    took = _took(model.parent, config.teacher.training.epochs)
    length = made.corpus.train.sequence_length
    rate = flops_per_token(config.teacher.model, made.corpus.vocab_size, length, backward=True)
    return ModelRecord(**known, **took, student_flops=rate * took["tokens"])  # type: ignore[arg-type]


def _arm_record(config: StudyConfig, corpus: Corpus, name: str, artifact: Artifact) -> ModelRecord:
    arm = config.arms[name]
    took = _took(artifact.path, arm.epochs)
    cost = spent(config, arm, corpus.vocab_size, took["distinct_tokens"], took["tokens"])
    return ModelRecord(
        name=name,
        role="student",
        label=arm_label(config, name),
        folder=f"models/{name}",
        alpha=highest_alpha(arm),
        routing=None if arm.routing is None else RoutingRecord(rule=arm.routing.rule, share=arm.routing.share),
        teacher_flops=cost.teacher,
        student_flops=cost.student,
        **took,
    )


def _took(folder: Path, epochs: float) -> dict[str, Any]:
    """What ``result.json`` of a trained model says that it took."""
    result = read_json(folder / "result.json")
    return {name: result[name] for name in ("parameters", "distinct_tokens", "tokens", "seconds")} | {"epochs": epochs}


def arm_label(config: StudyConfig, name: str) -> str:
    """What to call an arm in a figure: SPT or DPT-90, with what differs from the plain one."""
    arm = config.arms[name]
    label = "SPT" if not ever_needs_teacher(arm) else f"DPT-{highest_alpha(arm) * 100:g}"
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


def _labels_record(store: LabelStore) -> LabelsRecord:
    manifest = store.manifest
    fidelity = manifest.fidelity.get("mean_kl_nats")
    return LabelsRecord(
        codec=manifest.settings.codec.name,
        tokens=manifest.num_tokens,
        bytes_per_token=manifest.bytes_per_token,
        mean_kl_nats=None if fidelity is None else float(fidelity),
        teacher_entropy_nats=manifest.teacher_entropy_nats,
    )


def entropy_profile(store: LabelStore, corpus: Corpus, rules: Sequence[RoutingConfig]) -> EntropyProfile:
    """Histogram of the teacher's entropy over the labelled positions that have a target, in all and by source."""
    edges = np.linspace(0.0, float(np.log(corpus.vocab_size)), _BINS + 1)
    counts = {name: np.zeros(_BINS, np.int64) for name in corpus.source_names}
    sums, nums = dict.fromkeys(corpus.source_names, 0.0), dict.fromkeys(corpus.source_names, 0)
    share = next((rule.share for rule in rules if rule.rule == "low-entropy"), None)
    thresholds: list[float] = []
    sequences = corpus.train.first(store.manifest.num_sequences * corpus.train.sequence_length)
    for start in range(0, len(sequences), 256):
        indices = range(start, min(start + 256, len(sequences)))
        batch = sequences.batch(indices)
        entropy_BT = store.lookup(batch.tokens_BT).entropy.numpy()
        counted_BT = (batch.targets_BT >= 0).numpy()
        for row, index in enumerate(indices):
            name, values = corpus.source_names[sequences.source[index]], entropy_BT[row][counted_BT[row]]
            counts[name] += np.histogram(values, edges)[0]
            sums[name] += float(values.sum())
            nums[name] += values.size
            if share is not None and values.size:
                thresholds.append(float(np.quantile(values, share)))
    return EntropyProfile(
        entropy_histogram=Histogram(
            edges_nats=tuple(edges.round(6).tolist()), counts=tuple(np.sum(list(counts.values()), axis=0).tolist())
        ),
        by_source={
            name: SourceProfile(counts=tuple(counts[name].tolist()), mean_nats=sums[name] / nums[name])
            for name in corpus.source_names
            if nums[name]
        },
        routing_threshold_nats=float(np.mean(thresholds)) if thresholds else None,
        mean_entropy_nats=sum(sums.values()) / max(1, sum(nums.values())),
    )
