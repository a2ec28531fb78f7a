"""Label stores that are there already, whoever made them: found by teacher, tokens and fidelity instead of by a name.

artifacts/.stores/KEY.json      where a store lies that ``label`` made of a corpus among the artifacts
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.config import LabelsConfig
from stillroom.corpora import Corpus, SequenceSet
from stillroom.files import disk_errors, fingerprint, read_json_object, write_json
from stillroom.labels import LabelStore
from stillroom.labels.format.layout import record_keys
from stillroom.labels.format.manifest import Manifest
from stillroom.labels.settings import settings_of
from stillroom.places import find_part
from stillroom.results_versions import RESULTS_VERSIONS, results_version
from stillroom.study.artifacts import identity_of
from stillroom.study.teacherfolders import check_labelled, teacher_hash
from stillroom.types import UserError

STORES = ".stores"
_CHUNK = 4096


@dataclass(frozen=True)
class WantedLabels:
    """What labels must be to stand in for those that a stage would make."""

    corpus: Corpus
    sequences: SequenceSet
    teachers: frozenset[str]
    """The hashes by which a store may name the teacher: of its weights, and of what it was trained from."""
    config: LabelsConfig
    isolate: bool
    precision: str

    def require(self, store: LabelStore, teacher: str) -> None:
        """Raises a ``UserError`` that says in what a store differs; ``teacher`` is the hash of its teacher."""
        check_labelled(store, self.corpus)
        name, found = store.place.name, _settings(store.manifest)
        if teacher not in self.teachers:
            raise UserError(
                f"labels {name}: are of another teacher ({teacher}) than the one here; name labels of this teacher, or "
                "leave --labels out."
            )
        wanted = _about(settings_of(self.config).canonical(), self.isolate, self.precision)
        for field, value in wanted.items():
            if found[field] != value:
                raise UserError(
                    f"labels {name}: {field} is {found[field]}, expected {value} as configured; set {field} as the "
                    "labels have it, or leave --labels out."
                )
        self._require_tokens(store)

    def _require_tokens(self, store: LabelStore) -> None:
        manifest, count = store.manifest, len(self.sequences)
        if manifest.identity["corpus"] == self.corpus.identity and manifest.num_sequences >= count:
            return
        for start in range(0, count, _CHUNK):
            tokens = self.sequences.tokens(range(start, min(start + _CHUNK, count)))
            lacking = int((store.index.find(record_keys(tokens)) < 0).sum())
            if lacking:
                raise UserError(
                    f"labels {store.place.name}: lack {lacking} of the sequences {start} to {start + len(tokens) - 1} "
                    f"of the {count} that are trained on; label them too, or leave --labels out."
                )


def _about(settings: Mapping[str, object], isolate: bool, precision: str) -> dict[str, object]:
    """What labels of one sequence depend on beside the teacher; how they lie in shards is not of it."""
    labels = {f"labels.{name}": value for name, value in settings.items() if name != "shard_sequences"}
    return {**labels, "corpus.isolate_documents": isolate, "training.precision": precision}


def _settings(manifest: Manifest) -> dict[str, object]:
    return _about(manifest.settings.canonical(), manifest.isolate_documents, manifest.precision)


def given_labels(given: str, wanted: WantedLabels, artifacts: Path) -> str:
    """The store that was named, every byte checked; refused where it does not fit."""
    path = find_part("labels", given).path
    store = LabelStore.open(path)
    wanted.require(store, _teacher_of(store, artifacts))
    _verify(store)
    return path


def labels_made_before(wanted: WantedLabels, artifacts: Path) -> str | None:
    """A whole store that fits, among the artifacts or where ``label`` put it; None where there is none."""
    for path in _known_stores(artifacts):
        with contextlib.suppress(UserError):  # one that does not fit, is damaged or gone is not used
            store = LabelStore.open(path)
            wanted.require(store, _teacher_of(store, artifacts))
            _verify(store)
            return path
    return None


def remember_store(corpus: Corpus, store: Path) -> None:
    """Notes a finished store beside the artifacts that its corpus is one of, so that studies there find it."""
    artifact = corpus.folder.resolve().parent
    if (artifact / "identity.json").is_file() and artifact.name.startswith("corpus-"):
        where = str(store.absolute())
        with disk_errors(artifact.parent):
            write_json(
                artifact.parent / STORES / f"{fingerprint(where)}.json", {"store": where} | results_version("labels")
            )


def _known_stores(artifacts: Path) -> Iterator[str]:
    """Those of this version's results, among the artifacts and as ``label`` noted them."""
    for file in sorted(artifacts.glob("labels-*/labels/manifest.json")):
        with contextlib.suppress(UserError):
            if _is_of_today(identity_of(file.parents[1])):
                yield str(file.parent)
    for file in sorted((artifacts / STORES).glob("*.json")):
        with contextlib.suppress(UserError):
            if _is_of_today(values := read_json_object(file)):
                yield str(values.get("store"))


def _is_of_today(values: Mapping[str, Any]) -> bool:
    return values.get("results_version", 1) == RESULTS_VERSIONS["labels"]


def _teacher_of(store: LabelStore, artifacts: Path) -> str:
    """The hash of a store's teacher: of its weights where it names a model that is trained among the artifacts."""
    named = str(store.manifest.identity["teacher"])
    model = artifacts / f"model-{named}" / "model"
    return teacher_hash(str(model)) if named.isalnum() and model.is_dir() else named


def _verify(store: LabelStore) -> None:
    if "://" not in store.place.url:
        for _ in store.verify():
            pass
