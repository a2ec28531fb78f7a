"""What determines each stage's result: configuration, inputs by their hashes, and the version of its results.

Never the source or the release: an artifact is what it is whoever made it. ``ArtifactStore`` hashes these into names.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stillroom
from stillroom.config import EvaluationConfig, LabelsConfig, MixtureConfig, RunConfig, StudyConfig
from stillroom.files import fingerprint
from stillroom.results_versions import results_version

Identity = Mapping[str, Any]
"""What an artifact's name is a hash of: JSON values by field."""
MADE_BY = "made_by"
"""Where ``identity.json`` says what made the artifact, which its name does not depend on."""
VERSIONS = ("results_version", "code")
"""Fields that tell versions of results; earlier releases named artifacts by a hash of their source, in ``code``."""
_MISSING = "nothing"


@functools.cache
def source_hash() -> str:
    """A hash of the package's source, to tell afterwards what made a result."""
    root = Path(stillroom.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def model_identity(run: RunConfig, corpus: str, labels: object, precision: str, teacher: str | None = None) -> Identity:
    """Of a trained model; ``labels`` is the key of what it learns from beside the corpus, or None.

    ``teacher`` is that of the model whose weights it begins with, where it does.
    """
    begins = {"cut_from": teacher} if run.model.is_cut else {}
    return {
        "corpus": corpus,
        "isolate": run.corpus.isolate_documents,
        "model": run.model.canonical(),
        "training": run.training.identity() | {"precision": precision},
        "objective": run.objective.canonical(),
        "labels": labels,
        **begins,
        **results_version("model"),
    }


def labels_identity(
    owner: Mapping[str, object], config: LabelsConfig, sequences: int, isolate: bool, precision: str
) -> Identity:
    """Of a label store; ``owner`` is what the store says that its labels are of."""
    return {
        "identity": dict(owner),
        "labels": config.canonical(),
        "sequences": sequences,
        "isolate": isolate,
        "precision": precision,
        **results_version("labels"),
    }


def labels_owner(corpus: Identity, teacher: str) -> Identity:
    """What a store says that its labels are of, by a corpus's manifest and its teacher's hash."""
    sizes = {"vocab_size": corpus["vocab_size"], "corpus": corpus["identity"]}
    return {"teacher": teacher, "tokenizer": corpus["tokenizer_hash"], **sizes}


def mixture_key(config: MixtureConfig, own_key: str) -> str:
    """A hash of what determines the mixture's labels."""
    from stillroom.study.teacherfolders import teacher_folder, teacher_hash  # on demand: it looks into weights by torch

    hashes = {name: teacher_hash(teacher_folder(path)) for name, path in config.teachers.items()}
    return fingerprint([own_key, hashes, config.rule, dict(config.weights), dict(config.domains)])


def teaching_key(config: StudyConfig, own_key: str) -> str:
    """The hash of what gives a study's labels: its teacher's own, or that of the mixture that it is part of."""
    mixture = config.teacher.mixture
    return own_key if mixture is None else mixture_key(mixture, own_key)


def taught_live(config: StudyConfig, own_key: str) -> object:
    """What an arm that asks the teacher at every step depends on: of a mixture, also what it keeps of the labels."""
    key = teaching_key(config, own_key)
    return key if config.teacher.mixture is None else [key, config.labels.canonical()]


def evaluation_identity(model: str, corpus: str, config: EvaluationConfig) -> Identity:
    """Of a model's evaluation."""
    return {"model": model, "corpus": corpus, "evaluation": config.canonical(), **results_version("evaluation")}


@dataclass(frozen=True)
class Mismatch:
    """A field, with dots where it is inside another, that two identities do not share."""

    field: str
    found: object
    wanted: object

    def __str__(self) -> str:
        return f"{self.field} is {self.found}, here {self.wanted}"


def mismatches(found: object, wanted: object, place: str = "") -> Iterator[Mismatch]:
    """Every field in which an identity that was found differs from the one that is wanted."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for name in dict.fromkeys([*wanted, *found]):
            inner = f"{place}.{name}" if place else name
            yield from mismatches(found.get(name, _MISSING), wanted.get(name, _MISSING), inner)
    elif found != wanted:
        yield Mismatch(place, found, wanted)
