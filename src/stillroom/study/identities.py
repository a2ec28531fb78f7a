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
from stillroom.config import EvaluationConfig, LabelsConfig, RunConfig
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


def model_identity(run: RunConfig, corpus: str, labels: object, precision: str) -> Identity:
    """Of a trained model; ``labels`` is the key of what it learns from beside the corpus, or None."""
    return {
        "corpus": corpus,
        "isolate": run.corpus.isolate_documents,
        "model": run.model.canonical(),
        "training": run.training.identity() | {"precision": precision},
        "objective": run.objective.canonical(),
        "labels": labels,
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
