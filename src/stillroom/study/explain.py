"""What a study would use again and what it would make, and why: what ``stillroom study --explain`` does.

Reads identities and names alone: it trains, measures and writes nothing, and does not look for damage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from stillroom.config import StudyConfig
from stillroom.console import line
from stillroom.corpora import corpus_identity
from stillroom.corpora.given import manifest_of
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.budgets import with_budgets
from stillroom.study.folders import RunFolder
from stillroom.study.identities import (
    Identity,
    Mismatch,
    evaluation_identity,
    labels_identity,
    labels_owner,
    model_identity,
    taught_live,
    teaching_key,
)
from stillroom.study.own_precision import own_precision
from stillroom.study.single import arm_run, labelled_tokens, teacher_run
from stillroom.types import UserError

CORPUS = "corpus and tokenizer"
_FIELDS = 3
"""Differing fields that are named; of more their number."""


@dataclass(frozen=True)
class Explained:
    """A stage: whether its artifact is there, what that is or would be called, and why."""

    stage: str
    artifact: str
    is_there: bool
    why: str
    kind: str
    name: str = ""
    """Of the model that is trained or evaluated."""
    after: str = ""
    """The stage that must be done before."""


@dataclass
class _Plan:
    """The stages of a study in the order in which they run; each is a key that later ones depend on, or None."""

    config: StudyConfig
    store: ArtifactStore
    precision: str
    says_why: bool = True
    """Whether what is not there is compared with what is."""
    found: list[Explained] = field(default_factory=list)

    def stage(
        self, title: str, kind: str, identity: Identity | None, because: str = "", *, name: str = "", after: str = ""
    ) -> str | None:
        """Adds a stage; one without an identity depends on what is not there yet, which ``because`` names."""
        if identity is None:
            self.found.append(Explained(title, f"{kind}-?", False, because, kind, name, after))
            return None
        folder, key = self.store.locate(kind, identity)
        is_there = self.store.place(folder.name) is not None
        why = "" if is_there or not self.says_why else self._why(kind, identity)
        self.found.append(Explained(title, folder.name, is_there, why, kind, name, after))
        return key

    def _why(self, kind: str, identity: Identity) -> str:
        folder, _ = self.store.locate(kind, identity)
        if folder.with_name(f".{folder.name}.unfinished").is_dir():
            return "was begun and is gone on with"
        if (older := self.store.older(kind, identity)) is not None:
            return older
        nearest = self.store.nearest(kind, identity)
        if nearest is None:
            return f"there is no {kind} in {self.store.root}"
        differing = [self._input(one) or str(one) for one in nearest[1]]
        more = f" and {len(differing) - _FIELDS} more" if len(differing) > _FIELDS else ""
        return f"unlike {nearest[0].name}, the nearest: {'; '.join(differing[:_FIELDS])}{more}"

    def _input(self, difference: Mismatch) -> str | None:
        """What to say of a field that holds the key of an earlier stage's artifact."""
        keys = {one.artifact.rpartition("-")[2]: one for one in self.found}
        stage = keys.get(str(difference.wanted))
        if stage is None:
            return None
        return (
            f"{difference.field} is {difference.found}, here {stage.artifact}{'' if stage.is_there else ', made first'}"
        )

    def all(self) -> list[Explained]:
        """Every stage."""
        config = self.config
        corpus = self._corpus()
        teacher = self._teacher(corpus)
        labels = self._labels(corpus, teacher)
        self._evaluation("teacher", teacher, corpus)
        for name, arm in config.arms.items():
            stored = ever_needs_teacher(arm) and arm.teacher == "stored"
            live = ever_needs_teacher(arm) and arm.teacher == "live"
            taught = labels if stored else taught_live(config, teacher) if live else None
            is_known = labels is not None or not stored
            identity = self._of_arm(name, corpus, taught, teacher) if is_known else None
            after = "labels" if stored else "teacher" if live or config.student.is_cut else CORPUS
            model = self.stage(name, "model", identity, "its labels are made first", name=name, after=after)
            self._evaluation(name, model, corpus)
        return self.found

    def _of_arm(self, name: str, corpus: str, taught: object, teacher: str) -> Identity:
        return model_identity(arm_run(self.config, name), corpus, taught, self.precision, teacher)

    def _corpus(self) -> str:
        """The hash of the corpus: a stage where it is built."""
        asked = self.config.corpus
        if asked.path is not None:
            return str(manifest_of(asked.path)["identity"])
        return str(self.stage(CORPUS, "corpus", corpus_identity(asked)))

    def _teacher(self, corpus: str) -> str:
        """The hash of the teacher: a stage where it is trained."""
        teacher = self.config.teacher
        if teacher.training is None:
            if teacher.model.path is None:
                raise UserError("teacher: has neither training nor model.path; give one of them.")
            from stillroom.study.teacherfolders import teacher_hash  # on demand: it looks into weights by torch

            return teacher_hash(teacher.model.path)
        identity = model_identity(teacher_run(self.config), corpus, None, self.precision)
        return str(self.stage("teacher", "model", identity, name="teacher", after=CORPUS))

    def _labels(self, corpus: str, teacher: str) -> str | None:
        tokens = labelled_tokens(self.config)
        if not tokens:
            return None
        given = self.config.corpus.path is not None
        made = None if given else self.store.place(f"corpus-{corpus}", "corpus/corpus.json")
        if not given and made is None:
            return self.stage("labels", "labels", None, "its corpus is made first", after="teacher")
        manifest = manifest_of(self.config.corpus.path or f"{made}/corpus")
        owner = labels_owner(manifest, teaching_key(self.config, teacher))
        asked = self.config.corpus
        sequences = max(1, tokens // asked.sequence_length)
        identity = labels_identity(owner, self.config.labels, sequences, asked.isolate_documents, self.precision)
        return self.stage("labels", "labels", identity, after="teacher")

    def _evaluation(self, name: str, model: str | None, corpus: str) -> None:
        identity = None if model is None else evaluation_identity(model, corpus, self.config.evaluation)
        self.stage(f"evaluate {name}", "evaluation", identity, "its model is made first", name=name, after=name)


def explain_study(config: StudyConfig, out: Path | None, artifacts: Path | None) -> list[Explained]:
    """Every stage of a study: whether it would be used again or made, and why. Writes nothing.

    ``out`` and ``artifacts`` are as in ``run_study``.
    """
    config = with_budgets(config).for_results()
    folder = RunFolder.of(config, "study", config.name, out)
    return stages_of(config, ArtifactStore(artifacts or folder.artifacts), says_why=True)


def stages_of(config: StudyConfig, store: ArtifactStore, says_why: bool = False) -> list[Explained]:
    """Every stage of a study whose budgets are worked out, and whether its artifact is there."""
    return _Plan(config, store, own_precision(config.training.precision), says_why).all()


def print_explained(stages: list[Explained], console: Console) -> None:
    """A line for every stage."""
    for one in stages:
        if one.is_there:
            console.print(
                line(("✓", "green"), f" {one.stage}: ", one.artifact, (" is used again", "dim")), soft_wrap=True
            )
        else:
            console.print(line(("+", "yellow"), f" {one.stage}: {one.artifact} is made: {one.why}"), soft_wrap=True)
    made = sum(not one.is_there for one in stages)
    console.print(f"{made} of {len(stages)} stages would be made; nothing was written.", style="dim")
