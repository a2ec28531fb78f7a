"""The stages of a study, each a folder named by what determines it: corpus, teacher, labels, students, evaluations."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stillroom import disk
from stillroom.config import CorpusConfig, EvaluationConfig, RunConfig, StudyConfig, parse
from stillroom.cores import num_cores
from stillroom.corpora import Corpus, SequenceSet, Workers, build_corpus, corpus_identity, open_corpus
from stillroom.corpora.given import check_given
from stillroom.labels import LabelStore, Scores
from stillroom.labels.format.manifest import plan_fingerprint
from stillroom.models import load_model, plan_pretrained_model, use_short_attention
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.places import find_part
from stillroom.results.runs import STEPS
from stillroom.results.schema import StageRecord
from stillroom.study.artifacts import Artifact, ArtifactStore, Keep, StoredLabels
from stillroom.study.budgets import with_budgets
from stillroom.study.buildable import check_models
from stillroom.study.elsewhere import Elsewhere, check_elsewhere
from stillroom.study.evaluations import check_items, evaluate_into, keep_evaluated
from stillroom.study.explain import CORPUS
from stillroom.study.feasible import check_kept, check_study, refuse_unreached
from stillroom.study.folders import LOGS
from stillroom.study.found_labels import WantedLabels, given_labels, labels_made_before
from stillroom.study.identities import (
    Identity,
    evaluation_identity,
    labels_identity,
    model_identity,
    taught_live,
    teaching_key,
)
from stillroom.study.interrupts import Stopper
from stillroom.study.label_stage import identity_in, keep_labelled, label_shown
from stillroom.study.links import NotedPlaces
from stillroom.study.measured_text import text_of
from stillroom.study.mixtures import check_mixture, live_mixture, mixture_scores
from stillroom.study.needs import Needs
from stillroom.study.own_precision import own_precision
from stillroom.study.processes import in_processes
from stillroom.study.progress import StageDisplay, StageProgress
from stillroom.study.runfolder import FinishedParts, study_folder, write_run_folder
from stillroom.study.single import arm_run, check_taught, labelled_tokens, single_study, teacher_run
from stillroom.study.teacherfolders import check_vocabulary, teacher_folder, teacher_hash
from stillroom.study.train_stage import keep_trained, load_here, train_into
from stillroom.teachers import LabelSource, LiveTeacher, ModelScores
from stillroom.training import Hooks, Interrupted
from stillroom.training.distributed import launched_size
from stillroom.types import OnProgress, UserError

_MANY_TOKENS = 20_000_000
"""A corpus of so many is worth starting processes for."""


@dataclass(frozen=True)
class _Stage:
    """What is built: its title, its kind, what determines it, and what its bar counts (nothing: it shows its own)."""

    title: str
    kind: str
    identity: Identity
    unit: str = ""


@dataclass
class Stages:
    """What the stages of one study share. Every stage returns an artifact and is remembered for the run folder."""

    config: StudyConfig
    store: ArtifactStore
    display: StageDisplay
    stopper: Stopper
    record: list[StageRecord] = field(default_factory=list)
    noted: NotedPlaces = field(default_factory=NotedPlaces)
    given_labels: str | None = None
    """A label store to be used instead of one that is made."""
    wait_for: int = 0
    """Training tokens that a given corpus must hold, where it is still growing."""
    given_precision: str | None = None
    """What ``auto`` stands for, where another process that waits for these stages says so."""

    def _build(self, stage: _Stage, make: Callable[[Path, StageProgress], None], keep: Keep | None = None) -> Artifact:
        """Builds or finds an artifact; ``make`` gets the work folder and the progress callback.

        One that is damaged is made again, with what ``keep`` lets stay of it; one of an older version is left alone.
        """
        begin, kind, identity = time.monotonic(), stage.kind, stage.identity
        artifact = self.store.find(kind, identity)
        if artifact is not None:
            self.display.reused(stage.title, is_sealed=artifact.is_sealed)
        else:
            self.display.kept(self.store.older(kind, identity))
            own = contextlib.nullcontext(StageProgress(""))
            with self.display.stage(stage.title, stage.unit) if stage.unit else own as update:
                artifact = self.store.build(
                    kind, identity, lambda work: make(work, update), together=kind in ("model", "labels"), keep=keep,
                    say=lambda damage: self.display.damaged(stage.title, damage),
                )  # fmt: skip
        seconds, damaged = round(time.monotonic() - begin, 2), tuple(map(str, artifact.mended))
        self.record.append(StageRecord(name=stage.title, seconds=seconds, reused=artifact.reused, damaged=damaged))
        return artifact

    @property
    def precision(self) -> str:
        """The precision that ``auto`` stands for on this machine."""
        return self.given_precision or own_precision(self.config.training.precision)

    def corpus(self) -> Corpus:
        """The corpus: given, built or found."""
        if self.config.corpus.path is not None:
            return self._given_corpus(self.config.corpus.path)
        stage = _Stage(CORPUS, "corpus", corpus_identity(self.config.corpus), "tokens")
        artifact = self._build(stage, self._make_corpus)
        self.noted.note(corpus=str(artifact.path / "corpus"))
        return open_corpus(artifact.path / "corpus")

    def _make_corpus(self, work: Path, update: OnProgress) -> None:
        asked = self.config.corpus
        workers = Workers(jobs=num_cores() if asked.train_tokens >= _MANY_TOKENS else 1)
        build_corpus(asked, work / "corpus", update, workers)

    def _given_corpus(self, place: str) -> Corpus:
        """One that was there before the study, or grows."""
        corpus = open_corpus(place, self.wait_for)
        check_given(place, self.config.corpus)
        self.store.mark_owner(corpus.folder)
        self.noted.note(corpus=corpus.place)
        self.display.given("corpus", corpus.place)
        self.record.append(StageRecord(name=CORPUS, seconds=0.0, reused=True))
        return corpus

    def _model_identity(
        self,
        run: RunConfig,
        corpus: Corpus,
        labels: StoredLabels | None,
        live: tuple[Path, str] | None,
        cut: tuple[Path, str] | None = None,
    ) -> Identity:
        taught = labels.key if labels is not None else taught_live(self.config, live[1]) if live is not None else None
        return model_identity(run, corpus.identity, taught, self.precision, None if cut is None else cut[1])

    def trained(
        self,
        title: str,
        run: RunConfig,
        corpus: Corpus,
        labels: StoredLabels | None,
        live: tuple[Path, str] | None = None,
        cut: tuple[Path, str] | None = None,
    ) -> Artifact:
        """A trained model, built or found; it learns from stored labels, from a ``live`` teacher, or from neither.

        ``live`` is the teacher's folder and the hash of what determines it; ``cut`` the same of the one whose weights a
        run that asks for them begins with.
        """
        identity = self._model_identity(run, corpus, labels, live, cut)
        self.noted.note(models={title: self.store.locate("model", identity)[0] / "model"})

        def make(work: Path, update: StageProgress) -> None:
            source: LabelSource | None = None
            mixture = self.config.teacher.mixture
            if labels is not None:
                source = LabelStore.open(labels.store)
            elif live is not None and mixture is not None:
                source = live_mixture(mixture, live[0], corpus, self.config.labels, self.precision)
            elif live is not None:
                load = plan_pretrained_model if launched_size() > 1 else load_model
                source = LiveTeacher(
                    load(live[0]), self.precision, isolate=corpus.isolate, vocab_size=corpus.vocab_size
                )
            with self.stopper.cooperative():
                train_into(
                    work,
                    run=run,
                    corpus=corpus,
                    labels=source,
                    precision_name=self.precision,
                    hooks=Hooks(update, self.stopper.asked, update.loss),
                    teacher=None if cut is None else cut[0],
                )

        def keep(work: Path, damaged: list[str]) -> bool:
            return launched_size() == 1 and keep_trained(work, damaged)

        return self._build(_Stage(title, "model", identity, "tokens"), make, keep)

    def teacher(self, corpus: Corpus) -> tuple[Path, str]:
        """The teacher's model folder and the hash of what determines it."""
        teacher = self.config.teacher
        if teacher.mixture is not None:
            check_mixture(teacher.mixture, corpus)
            for other in teacher.mixture.teachers.values():
                self.store.mark_owner(teacher_folder(other))
        if teacher.training is not None:
            artifact = self.trained("teacher", teacher_run(self.config), corpus, None)
            return artifact.path / "model", artifact.key
        path = teacher.model.path
        if path is None:
            raise UserError("teacher: has neither training nor model.path; give one of them.")
        path = teacher_folder(path)
        self.store.mark_owner(path)
        check_vocabulary(path, corpus)
        if Path(path).exists():
            self.noted.note(models={"teacher": Path(path)})
        return Path(path), teacher_hash(path)

    def labels(self, corpus: Corpus, teacher: tuple[Path, str], tokens: int | None = None) -> StoredLabels | None:
        """Stored labels of every sequence that a distilled arm reads, or of the first ``tokens``.

        None where no arm has a teacher.
        """
        tokens = tokens or labelled_tokens(self.config)
        if not tokens:
            return None
        folder, key = teacher
        sequences = corpus.train.first(tokens)
        owner = identity_in(corpus, teaching_key(self.config, key))
        isolate = self.config.corpus.isolate_documents
        identity = labels_identity(owner, self.config.labels, len(sequences), isolate, self.precision)
        if (found := self._labels_found(corpus, sequences, teacher, identity)) is not None:
            return found

        def make(work: Path, _: OnProgress) -> None:
            asked = (self._scores(folder, corpus), sequences, self.config.labels, work / "labels")
            label_shown(self.display, *asked, identity=owner)

        def keep(work: Path, damaged: list[str]) -> bool:
            return launched_size() == 1 and keep_labelled(work, damaged)

        made = self._build(_Stage("labels", "labels", identity), make, keep)
        self.noted.note(labels=str(made.path / "labels"))
        return StoredLabels(str(made.path / "labels"), made.key, made.path)

    def _labels_found(
        self, corpus: Corpus, sequences: SequenceSet, teacher: tuple[Path, str], identity: Identity
    ) -> StoredLabels | None:
        """The store that was named, or one that another command made of the same; it stands in for the artifact."""
        target, key = self.store.locate("labels", identity)
        if self.given_labels is None and disk.is_finished(target):
            return None
        folder, own = teacher
        names = {teaching_key(self.config, one) for one in (own, teacher_hash(str(folder)))}
        asked = self.config.corpus.isolate_documents, self.precision
        wanted = WantedLabels(corpus, sequences, frozenset(names), self.config.labels, *asked)
        if self.given_labels is not None:
            path = given_labels(self.given_labels, wanted, self.store.root)
        elif (found := labels_made_before(wanted, self.store.root)) is not None:
            path = found
        else:
            return None
        self.store.mark_owner(path)
        self.display.found("labels", path)
        self.record.append(StageRecord(name="labels", seconds=0.0, reused=True))
        self.noted.note(labels=path)
        return StoredLabels(path, key)

    def _scores(self, teacher: Path, corpus: Corpus) -> Scores:
        """What is labelled with: the teacher, or the mixture that it is part of."""
        mixture = self.config.teacher.mixture
        if mixture is not None:
            return mixture_scores(mixture, teacher, corpus, self.precision)
        model = load_here(teacher)
        use_short_attention(model)
        return ModelScores(model, corpus.vocab_size, self.config.corpus.isolate_documents, self.precision)

    def evaluated(
        self, title: str, model: Path, key: str, corpus: Corpus, asked: EvaluationConfig | None = None
    ) -> Artifact:
        """The evaluation of a model folder, built or found; of what the study asks, or of less."""
        asked, sources = asked or self.config.evaluation, self.config.corpus.sources

        def make(work: Path, update: OnProgress) -> None:
            evaluate_into(work, model, asked, text_of(corpus, sources), update)

        identity = evaluation_identity(key, corpus.identity, asked)
        return self._build(_Stage(f"evaluate {title}", "evaluation", identity, "items"), make, keep_evaluated)

    def _taught(
        self, name: str, teacher: tuple[Path, str], labels: StoredLabels | None
    ) -> tuple[StoredLabels | None, tuple[Path, str] | None]:
        """What an arm learns from: the stored labels, the teacher live, or neither."""
        arm = self.config.arms[name]
        stored = labels if ever_needs_teacher(arm) and arm.teacher == "stored" else None
        return stored, teacher if ever_needs_teacher(arm) and arm.teacher == "live" else None

    def over_training(self, name: str, model: Path, key: str, corpus: Corpus) -> dict[int, Artifact]:
        """The evaluations of a model's kept checkpoints by step, without what draws samples, which would take long."""
        suites = tuple(one for one in self.config.evaluation.suites if one in self.config.evaluation.over_training)
        asked = self.config.evaluation.model_copy(update={"suites": suites, "contamination_ngram": 0})
        kept = {int(one.name.rpartition("-")[2]): one for one in (model.parent / STEPS).glob("step-*")}
        return {
            step: self.evaluated(f"{name}@{step}", kept[step], f"{key}@{step}", corpus, asked)
            for step in sorted(kept)
            if suites
        }

    def note_students(self, corpus: Corpus, teacher: tuple[Path, str], labels: StoredLabels | None) -> None:
        """Says where every student will lie, before any is trained."""
        runs = {name: arm_run(self.config, name) for name in self.config.arms}
        identities = {
            name: self._model_identity(run, corpus, *self._taught(name, teacher, labels), teacher)
            for name, run in runs.items()
        }
        places = {name: self.store.locate("model", identity)[0] / "model" for name, identity in identities.items()}
        self.noted.note(models=places)

    def learnt(self, name: str, corpus: Corpus, teacher: tuple[Path, str], labels: StoredLabels | None) -> Artifact:
        """An arm's trained model, built or found."""
        return self.trained(name, arm_run(self.config, name), corpus, *self._taught(name, teacher, labels), teacher)

    def student(
        self, name: str, corpus: Corpus, teacher: tuple[Path, str], labels: StoredLabels | None
    ) -> tuple[Artifact, Artifact]:
        """An arm's trained model and its evaluation, built or found."""
        model = self.learnt(name, corpus, teacher, labels)
        return model, self.evaluated(name, model.path / "model", model.key, corpus)


@dataclass(frozen=True)
class _Student:
    """What another process needs to build one arm; the teacher's weights are not hashed again there."""

    config: str
    store: ArtifactStore
    corpus: str
    wait_for: int
    teacher: tuple[Path, str]
    labels: StoredLabels | None
    arm: str
    shown: bool
    """Whether the process prints how far it is."""
    logs: Path | None


def students_ahead(
    stages: Stages, corpus: Corpus, teacher: tuple[Path, str], labels: StoredLabels | None, jobs: int
) -> dict[str, StageRecord]:
    """Builds every arm's model and evaluation in ``jobs`` processes; returns the record of each stage by its name."""
    if launched_size() > 1:
        raise UserError(f"jobs: is {jobs} under torchrun, whose ranks train each student together; leave --jobs out.")
    config = stages.config
    distinct = {arm.fingerprint(): name for name, arm in reversed(config.arms.items())}  # equal arms are one artifact
    shown = stages.display.is_shared
    tasks = [
        _Student(
            config.model_dump_json(),
            stages.store,
            corpus.place,
            stages.wait_for,
            teacher,
            labels,
            name,
            shown,
            stages.display.logs,
        )
        for name in config.arms
        if name in distinct.values()
    ]
    records = [
        record for made in in_processes(_student_task, tasks, jobs, stages.display, "students") for record in made
    ]
    for record in records:
        if record.damaged:
            stages.display.damaged(record.name, record.damaged)
    return {record.name: record for record in records}


def _student_task(task: _Student) -> tuple[str, list[StageRecord]]:
    display = StageDisplay.of_child(task.shown, task.logs)
    stages = Stages(StudyConfig.model_validate_json(task.config), task.store, display, Stopper())
    stages.student(task.arm, open_corpus(task.corpus, task.wait_for), task.teacher, task.labels)
    return task.arm, stages.record


def make_stage(stages: Stages, kind: str, name: str) -> None:
    """Makes one stage of a study, and what it is made of where that is not there: ``name`` is that of a model."""
    corpus = stages.corpus()
    if kind == "corpus":
        return
    arm = stages.config.arms.get(name)
    is_taught = arm is None or ever_needs_teacher(arm)
    teacher = stages.teacher(corpus) if is_taught or stages.config.student.is_cut else (Path(), "")
    is_labelled = kind == "labels" if arm is None else is_taught and arm.teacher == "stored"
    labels = stages.labels(corpus, teacher) if is_labelled else None
    model, key = teacher
    if arm is not None:
        made = stages.learnt(name, corpus, teacher, labels)
        model, key = made.path / "model", made.key
    if kind == "evaluation":
        stages.over_training(name, model, key, corpus)
        stages.evaluated(name, model, key, corpus)


def run_study(
    config: StudyConfig,
    out: Path | None,
    artifacts: Path | None,
    display: StageDisplay,
    *,
    jobs: int = 1,
    labels: str | None = None,
    wait_for: int = 0,
    on: str = "local",
) -> Path:
    """Runs every stage that is not there yet and returns the run folder, complete but for the report.

    Arguments:
        config: of the study.
        out: the run folder; by default ``runs/NAME-FINGERPRINT``.
        artifacts: what runs share; by default beside the run folder.
        display: what a person sees.
        jobs: students trained and evaluated at once, each in a process with its share of the cores; 1 trains one after
            another on all of them.
        labels: a label store, or a run that holds one, to be used instead of one that is made; refused where it is not
            of the same teacher, tokens and fidelity.
        wait_for: training tokens of ``corpus.path`` that are enough to begin with, where it is still being built.
        on: where stages are made: ``local`` processes, or jobs of ``slurm`` or ``ray``, as ``config.resources`` says.

    Raises ``UserError`` for a mistake, ``KeyboardInterrupt`` or ``SystemExit`` when stopped; in each case what was
    complete is kept and the same call goes on from there.
    """
    begin = time.monotonic()
    resources, config = config.resources, with_budgets(config).for_results()
    check_study(config)
    _check_growing(config.corpus, wait_for)
    _check_labels(config, labels)
    folder = study_folder(config, out)
    artifacts = artifacts or folder.artifacts
    check_elsewhere(config.training.precision, resources, on, jobs, artifacts)
    display.logs = folder.path / LOGS
    store = ArtifactStore(artifacts, Needs.of_run(artifacts, folder.path))
    with Stopper() as stopper, folder.claimed(display.damaged, keeps_logs=on != "local"):
        stages = Stages(
            config, store, display, stopper, noted=NotedPlaces(folder.path), given_labels=labels, wait_for=wait_for
        )
        try:
            took = Elsewhere(config, resources, folder.path, store, on, display, labels, wait_for).make_all()
            made = _all_stages(stages, jobs, took)
        except Interrupted:
            stopper.leave()
        write_run_folder(folder, config, made, stages.record, time.monotonic() - begin)
    return folder.path


def _check_labels(config: StudyConfig, labels: str | None) -> None:
    if labels is not None and not labelled_tokens(config):
        raise UserError(f"--labels {labels}: no arm of {config.name} learns from stored labels; leave it out.")


def _check_growing(corpus: CorpusConfig, wait_for: int) -> None:
    if wait_for and corpus.path is None:
        raise UserError(
            f"--wait-for {wait_for}: the recipe builds its corpus itself, before all else; build it by stillroom "
            "corpus build --wait-for beside this and name it by --corpus."
        )


def _all_stages(stages: Stages, jobs: int, took: Mapping[str, StageRecord]) -> FinishedParts:
    """Corpus, teacher's model, students, labels and evaluations of a study, built or found.

    ``took`` is what stages took that were made ahead by others.
    """
    corpus = stages.corpus()
    check_items(stages.config, corpus)
    teacher = stages.teacher(corpus)
    labels = stages.labels(corpus, teacher)
    stages.note_students(corpus, teacher, labels)
    evaluations = {"teacher": stages.evaluated("teacher", *teacher, corpus)}
    if jobs > 1:
        took = {**took, **students_ahead(stages, corpus, teacher, labels, jobs)}
    models: dict[str, Artifact] = {}
    for name in stages.config.arms:
        models[name], evaluations[name] = stages.student(name, corpus, teacher, labels)
    trained = {name: (one.path / "model", one.key) for name, one in models.items()}
    for name, (model, key) in ({"teacher": teacher} | trained).items():
        steps = stages.over_training(name, model, key, corpus)
        evaluations |= {f"{name}@{step}": evaluation for step, evaluation in steps.items()}
    stages.record = [took.get(record.name, record) for record in stages.record]
    return FinishedParts(corpus, teacher[0], models, labels, evaluations)


def run_single(
    config: RunConfig | StudyConfig,
    arm: str | None,
    artifacts: Path,
    display: StageDisplay,
    labels: str | None = None,
    wait_for: int = 0,
) -> Path:
    """Trains one model, with the teacher and labels that it needs; returns its folder.

    ``labels`` and ``wait_for`` are as in a study.
    """
    if isinstance(config, StudyConfig):
        config = with_budgets(config)
        check_kept(config)
        run = teacher_run(config) if arm == "teacher" else arm_run(config, arm or "")
    elif labels is not None and config.teaching is None:
        run = parse(RunConfig, config.model_dump() | {"labels": labels}, "--labels")
    else:
        run = config
    if isinstance(config, RunConfig):
        refuse_unreached([run.training], run)  # before its teacher is trained
    check_taught(run)
    check_models(single_study(run))
    _check_growing(run.corpus, wait_for)
    if labels is not None and not ever_needs_teacher(run.objective):
        raise UserError(f"--labels {labels}: {run.name} learns from hard labels alone; leave it out.")
    with Stopper() as stopper:
        needs = Needs.of_training(artifacts, run.name, run.fingerprint())
        stages = Stages(single_study(run), ArtifactStore(artifacts, needs), display, stopper)
        stages.given_labels, stages.wait_for = labels, wait_for
        try:
            corpus = stages.corpus()
            artifact = stages.trained(run.name, run, corpus, *_taught(run, stages, corpus))
        except Interrupted:
            stopper.leave()
        needs.settle(artifact.path)
    return artifact.path


def _taught(
    run: RunConfig, stages: Stages, corpus: Corpus
) -> tuple[StoredLabels | None, tuple[Path, str] | None, tuple[Path, str] | None]:
    """The stored labels, or the live teacher, that a run learns from; neither where its alpha stays 0. Then the teacher
    whose weights it begins with, where it does.
    """
    if not ever_needs_teacher(run.objective):
        return None, None, stages.teacher(corpus) if run.model.is_cut else None
    if run.labels is not None:
        path = find_part("labels", run.labels).path
        stages.store.mark_owner(path)
        return StoredLabels(path, plan_fingerprint(LabelStore.open(path).manifest)), None, None
    teacher = stages.teacher(corpus)
    if run.teaching is None or run.teaching.source == "live":
        return None, teacher, teacher
    return stages.labels(corpus, teacher, run.teaching.labelled_tokens or run.training.tokens), None, teacher
