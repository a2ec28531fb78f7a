"""Ranks candidate teachers for a corpus: measures each into its own folder, compares them, and says which to take."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillroom import checksums
from stillroom.choosing.advice import recommend
from stillroom.choosing.comparing import (
    MeasuredTeacher,
    agreement,
    describe_teacher,
    order_by_loss,
    paired_pass,
    shared_low_entropy,
)
from stillroom.choosing.measure import Bench, Loaded, keep_measured
from stillroom.choosing.positions import HeldOut
from stillroom.choosing.request import (
    Candidate,
    RankSettings,
    TargetStudent,
    candidates,
    check_proxies,
    find_student,
)
from stillroom.corpora import open_corpus
from stillroom.costs import flops_per_token
from stillroom.evaluation.measuring.calibration import ratio_difference
from stillroom.files import fingerprint
from stillroom.results.coverage import pass_at_k
from stillroom.results.json_form import write
from stillroom.results.ranking_file import (
    ProxyOrder,
    Ranking,
    RankingCorpus,
    RankingNumbers,
    RankingText,
    ReferenceStudent,
    SolvedProblems,
    SolverDifference,
)
from stillroom.results_versions import RESULTS_VERSIONS, results_version
from stillroom.study.folders import held_alone, parts
from stillroom.study.interrupts import Stopper
from stillroom.study.progress import StageDisplay
from stillroom.training import Interrupted
from stillroom.types import Estimate


@dataclass(frozen=True)
class RankRequest:
    """What was asked for on the command line."""

    teachers: list[str]
    corpus: str | Path
    student: str | None
    out: Path | None
    settings: RankSettings


@dataclass(frozen=True)
class Prepared:
    """A request whose every name has been found."""

    teachers: list[Candidate]
    student: TargetStudent
    heldout: HeldOut
    settings: RankSettings
    out: Path


def prepare_ranking(request: RankRequest) -> Prepared:
    """Finds everything that a request names; raises ``UserError`` before anything is run or written."""
    corpus = open_corpus(request.corpus)
    settings = request.settings
    teachers = candidates(request.teachers, corpus)
    student = find_student(request.student, request.corpus, corpus, settings)
    check_proxies(student, corpus, settings)
    heldout = HeldOut(corpus, min(settings.heldout_sequences, len(corpus.heldout)))
    name = fingerprint([corpus.identity, _measured(settings)], 8)  # one folder for any set of candidates
    return Prepared(teachers, student, heldout, settings, request.out or Path("rankings") / name)


def rank_teachers(prepared: Prepared, display: StageDisplay) -> Ranking:
    """Measures what is not measured yet and writes ``ranking.json``; returns its content.

    Stopped anywhere, the same call goes on: every part of a candidate is a file of its own, and a proxy student goes on
    from its checkpoint.
    """
    out = prepared.out
    with held_alone(out, "ranking"), Stopper() as stopper, contextlib.ExitStack() as folders:
        bench = Bench(prepared.heldout, prepared.settings, prepared.student, display, stopper)
        for sentence in _older(prepared):
            display.kept(sentence)
        for name, folder in _folders(prepared).items():
            folders.enter_context(parts(folder, keep_measured, functools.partial(display.damaged, name)))
        try:
            numbers = _ranking(prepared, bench)
        except Interrupted:
            stopper.leave()
        ranking = Ranking(**vars(numbers), recommendation=recommend(numbers))
        write(out / "ranking.json", ranking)
        checksums.seal(out, ["ranking.json"])
    return ranking


def _folders(prepared: Prepared) -> dict[str, Path]:
    """Every folder of measures, by what is measured."""
    reference = prepared.student.reference
    measured = [*prepared.teachers, *([] if reference is None else [reference])]
    found = {candidate.name: _folder(prepared, candidate) for candidate in measured}
    return found | ({"hard labels": _control(prepared)} if prepared.settings.proxy_tokens else {})


def _ranking(prepared: Prepared, bench: Bench) -> RankingNumbers:
    heldout, share = prepared.heldout, prepared.settings.low_entropy_share
    measured = {teacher.name: _measure(prepared, bench, teacher) for teacher in prepared.teachers}
    panel = {name: one.positions for name, one in measured.items()}
    proxies = _proxies(prepared, bench)
    student, student_N = _student_nats(prepared, bench, proxies)
    shared_N = shared_low_entropy(panel, heldout, share)
    return RankingNumbers(
        corpus=RankingCorpus(identity=heldout.corpus.identity, sources=tuple(heldout.corpus.source_names)),
        heldout=RankingText(
            sequences=heldout.num_sequences, documents=heldout.num_items, positions=len(heldout.item_N)
        ),
        settings=prepared.settings.canonical(),
        student=student,
        teachers=tuple(
            describe_teacher(teacher, measured[teacher.name], heldout, shared_N, share, student_N)
            for teacher in prepared.teachers
        ),
        teacher_loss=order_by_loss({name: positions.nats_N for name, positions in panel.items()}, heldout),
        proxies=None if proxies is None else _proxy_comparison(proxies, prepared),
        agreement=agreement(panel),
        solvers=_solvers({name: one.problems for name, one in measured.items()}),
    )


def _measure(prepared: Prepared, bench: Bench, teacher: Candidate) -> MeasuredTeacher:
    model, folder = Loaded(teacher.path), _folder(prepared, teacher)
    positions = bench.positions(teacher, model, folder)
    return MeasuredTeacher(
        positions,
        bench.looking_back(teacher, model, folder),
        bench.problems(teacher, model, folder),
        bench.cost(teacher, positions),
    )


def _folder(prepared: Prepared, candidate: Candidate, version: int | None = None) -> Path:
    """A candidate's folder, named by everything that its measures depend on; by default of today's version."""
    mark = [candidate.key, prepared.heldout.corpus.identity, _measured(prepared.settings)]
    name = fingerprint([*mark, results_version("ranking", version)], 8)
    return prepared.out / "teachers" / f"{candidate.slug}-{name}"


def _older(prepared: Prepared) -> Iterator[str]:
    """What to say of folders that another version of results made, while this one's are not there."""
    measured = [*prepared.teachers, *filter(None, [prepared.student.reference])]
    stages = {"ranking": [functools.partial(_folder, prepared, one) for one in measured]}
    if prepared.settings.proxy_tokens:
        proxied = [functools.partial(_proxied, prepared, teacher) for teacher in prepared.teachers]
        stages["model"] = [functools.partial(_control, prepared), *proxied]
    for stage, found in stages.items():
        now = RESULTS_VERSIONS[stage]
        for folder, made in itertools.product(found, range(now - 1, 0, -1)):
            if folder(made).is_dir() and not folder(now).is_dir():
                name = folder(made).relative_to(prepared.out)
                yield f"{name}: made by results version {made}, this is {now}; kept; made again under a new name"


def _measured(settings: RankSettings) -> Mapping[str, object]:
    """The settings that a candidate's own measures depend on."""
    others = {"low_entropy_share", "label_tokens", "proxy_tokens", "proxy_seeds", "proxy_alpha"}
    return {name: value for name, value in settings.canonical().items() if name not in others}


def _proxies(prepared: Prepared, bench: Bench) -> dict[str, np.ndarray] | None:
    """Held-out nats (seeds, N) of the proxy students by teacher, and of hard labels under the empty name."""
    if not prepared.settings.proxy_tokens:
        return None
    found = {"": bench.proxies("hard labels", None, _control(prepared))}
    for teacher in prepared.teachers:
        found[teacher.name] = bench.proxies(teacher.name, teacher.path, _proxied(prepared, teacher))
    return found


def _proxied(prepared: Prepared, teacher: Candidate, version: int | None = None) -> Path:
    """The folder of a teacher's proxy students; by default of today's version."""
    mark = [*_proxy_mark(prepared, version), teacher.key, prepared.settings.proxy_alpha]
    return _folder(prepared, teacher) / fingerprint(mark, 8)


def _proxy_mark(prepared: Prepared, version: int | None = None) -> list[object]:
    """What a proxy student of hard labels depends on."""
    student, heldout = prepared.student, prepared.heldout
    mark = [student.model.canonical(), student.training.identity(), heldout.corpus.identity]
    return [*mark, heldout.num_sequences, results_version("model", version)]


def _control(prepared: Prepared, version: int | None = None) -> Path:
    """The folder of the proxy students of hard labels; by default of today's version."""
    return prepared.out / "hard-labels" / fingerprint(_proxy_mark(prepared, version), 8)


def _student_nats(
    prepared: Prepared, bench: Bench, proxies: dict[str, np.ndarray] | None
) -> tuple[ReferenceStudent | None, np.ndarray | None]:
    """The supervised student's record and held-out nats (N,): the one that was named, else the hard-label proxy."""
    reference = prepared.student.reference
    if reference is not None:
        positions = bench.positions(reference, Loaded(reference.path), _folder(prepared, reference))
        name, path, nats_N = reference.name, reference.path, positions.nats_N
    elif proxies is not None:
        name, path, nats_N = "hard-label proxy", None, proxies[""].mean(axis=0)
    else:
        return None, None
    return ReferenceStudent(name=name, path=path, ce=float(nats_N.mean())), nats_N


def _proxy_comparison(proxies: dict[str, np.ndarray], prepared: Prepared) -> ProxyOrder:
    """The proxies' order with paired differences, each one's loss, and each one's difference from hard labels."""
    settings, heldout, student = prepared.settings, prepared.heldout, prepared.student
    distilled = {name: values for name, values in proxies.items() if name}
    gains = {name: _difference(values, proxies[""], heldout) for name, values in distilled.items()}
    rate = flops_per_token(
        student.model, heldout.corpus.vocab_size, heldout.corpus.train.sequence_length, backward=True
    )
    losses = {name: tuple(float(run.mean()) for run in values) for name, values in proxies.items()}
    return ProxyOrder(
        **vars(order_by_loss(distilled, heldout)),
        tokens=settings.proxy_tokens,
        seeds=settings.proxy_seeds,
        alpha=settings.proxy_alpha,
        flops_each=rate * settings.proxy_tokens,
        ce={name: losses[name] for name in distilled},
        hard_labels_ce=losses[""],
        against_hard_labels=gains,
    )


def _difference(first: np.ndarray, second: np.ndarray, heldout: HeldOut) -> Estimate:
    difference_I = heldout.per_item(first.mean(axis=0)) - heldout.per_item(second.mean(axis=0))
    tokens_I = heldout.per_item(np.ones(len(heldout.item_N)))
    return ratio_difference(difference_I, tokens_I, heldout.strata_I)


def _solvers(parts: Mapping[str, SolvedProblems | None]) -> tuple[SolverDifference, ...]:
    """Paired differences of pass@k, k the largest that was sampled, for every ordered pair of candidates."""
    measured = {name: part for name, part in parts.items() if part is not None}
    pairs = [(first, second) for first in measured for second in measured if first != second]
    level = 1 - 0.05 / max(1, len(measured) - 1)
    found = []
    for first, second in pairs:
        k = max(measured[first].pass_at)
        values = [pass_at_k(part.num_samples, part.num_correct, k) for part in (measured[first], measured[second])]
        difference = paired_pass(values[0], values[1], level)
        found.append(SolverDifference(name=first, against=second, k=k, difference=difference))
    return tuple(found)
