"""Measures one candidate into its folder, part by part; a part that is there is not measured again.

A folder holds ``positions.npz``, ``looking-back.json``, ``problems.json`` and one ``proxy-*`` folder per proxy student.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from transformers import PreTrainedModel

from stillroom.analysis import head_scores
from stillroom.choosing.positions import HeldOut, Positions, read_positions
from stillroom.choosing.request import Candidate, RankSettings, TargetStudent
from stillroom.config import CorpusConfig, LabelsConfig, ObjectiveConfig, RunConfig, parse
from stillroom.corpora import Corpus
from stillroom.evaluation import Attempts, Sampling, measure_copying, solve, summarise_samples
from stillroom.evaluation.suites.icl import CopyingConfig, copying_tokens
from stillroom.labels import price
from stillroom.models import load_model
from stillroom.results.json_form import read, write
from stillroom.results.ranking_file import BestHead, LabellingCost, LookingBack, SolvedProblems
from stillroom.study.interrupts import Stopper
from stillroom.study.own_precision import own_precision
from stillroom.study.progress import StageDisplay
from stillroom.study.train_stage import load_here, train_into
from stillroom.teachers import LiveTeacher
from stillroom.training import Hooks
from stillroom.types import Estimate, OnProgress
from stillroom.worlds.problems_world import problems

KS = (1, 2, 4, 8, 16)
FINISHED, BEGUN = 0.9, 0.3
"""Accuracy on repeated random tokens from which a model's copying counts as finished, and as begun."""


class Loaded:
    """A candidate's model, loaded when it is first needed: a candidate whose parts are all there is never loaded."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._model: PreTrainedModel | None = None

    def __call__(self) -> PreTrainedModel:
        """The model in evaluation mode."""
        if self._model is None:
            self._model = load_here(self.path)
        return self._model


@dataclass(frozen=True)
class Bench:
    """What all candidates are measured with."""

    heldout: HeldOut
    settings: RankSettings
    student: TargetStudent
    display: StageDisplay
    stopper: Stopper

    @property
    def corpus(self) -> Corpus:
        """The corpus that students will be trained on."""
        return self.heldout.corpus

    def positions(self, candidate: Candidate, model: Loaded, folder: Path) -> Positions:
        """One forward pass over the held-out text, made or found."""
        path = folder / "positions.npz"
        if not path.exists():
            with self.display.stage(f"{candidate.name}: held-out text", "sequences") as update:
                read_positions(model(), self.heldout, update).save(path)
        return Positions.load(path)

    def looking_back(self, candidate: Candidate, model: Loaded, folder: Path) -> LookingBack:
        """Copying of repeated random tokens and the best induction head, measured or found."""
        path = folder / "looking-back.json"
        if not path.exists():
            with self.display.stage(f"{candidate.name}: copying and heads", "sequences") as update:
                write(path, _looking_back(model(), self, update))
        return read(LookingBack, path)

    def problems(self, candidate: Candidate, model: Loaded, folder: Path) -> SolvedProblems | None:
        """pass@k, with every problem's right samples, measured or found; None without a source of problems."""
        options = problem_options(self.corpus)
        if not self.settings.problems or options is None:
            return None
        path = folder / "problems.json"
        if not path.exists():
            with self.display.stage(f"{candidate.name}: problems", "items") as update:
                write(path, _problems(model(), self, options, update))
        return read(SolvedProblems, path)

    def cost(self, candidate: Candidate, positions: Positions) -> LabellingCost:
        """What labelling takes: FLOPs, bytes of the default codec, and hours at the speed just measured."""
        tokens = self.settings.label_tokens or self.corpus.train.num_tokens
        asked = price(
            tokens,
            candidate.forward_flops,
            LabelsConfig(),
            self.corpus.vocab_size,
            tokens_per_second=float(positions.tokens_per_second),
        )
        return LabellingCost(
            tokens=tokens,
            flops=asked.teacher_flops,
            bytes=asked.num_bytes,
            bytes_per_token=asked.bytes_per_token,
            hours=asked.hours,
        )

    def proxies(self, name: str, teacher: str | None, folder: Path) -> NDArray[np.float64]:
        """Held-out nats (seeds, N) of proxy students of a teacher, or of hard labels where there is none."""
        rows = []
        for number in range(self.settings.proxy_seeds):
            seed = self.settings.seed + number
            work = folder / f"proxy-{seed}"
            if not (work / "positions.npz").exists():
                if not (work / "result.json").exists():
                    self._train(f"{name}: proxy student, seed {seed}", teacher, seed, work)
                read_positions(load_here(work / "model"), self.heldout).save(work / "positions.npz")
            rows.append(Positions.load(work / "positions.npz").nats_N)
        return np.stack(rows)

    def _train(self, title: str, teacher: str | None, seed: int, work: Path) -> None:
        """A student of the proxy budget; killed, it goes on from its newest checkpoint."""
        training = self.student.training.model_copy(update={"seed": seed})
        precision = own_precision(training.precision)
        alpha = self.settings.proxy_alpha if teacher else 0.0
        run = RunConfig(
            name="proxy",
            corpus=parse(CorpusConfig, {"path": self.corpus.place}, "corpus"),
            model=self.student.model.drawn(),
            training=training,
            objective=ObjectiveConfig(alpha=alpha),
        )
        known = {"isolate": self.corpus.isolate, "vocab_size": self.corpus.vocab_size}
        source = LiveTeacher(load_model(teacher), precision, **known) if teacher else None
        with self.display.stage(title) as update, self.stopper.cooperative():
            train_into(
                work, run=run, corpus=self.corpus, labels=source,
                precision_name=precision, hooks=Hooks(update, self.stopper.asked, update.loss),
            )  # fmt: skip


def keep_measured(folder: Path, damaged: list[str]) -> bool:
    """Takes proxy students of which something is damaged out of a candidate's folder; other parts stand alone."""
    for name in damaged:
        for above in (folder / name).parents:
            if above.name.startswith("proxy-") and above != folder:
                shutil.rmtree(above, ignore_errors=True)
    return True


def problem_options(corpus: Corpus) -> Mapping[str, JsonValue] | None:
    """The options of the corpus's own problems source; None where it has none."""
    sources = corpus.manifest["source_configs"].values()
    return next((dict(source["options"]) for source in sources if source["kind"] == "problems"), None)


def _looking_back(model: PreTrainedModel, bench: Bench, progress: OnProgress) -> LookingBack:
    settings, corpus = bench.settings, bench.corpus
    asked = CopyingConfig(
        copying_sequences=settings.copying_sequences,
        copying_period=settings.copying_period,
        copying_repeats=settings.copying_repeats,
        seed=settings.seed,
    )
    tokens_BT = copying_tokens(asked, corpus.tokenizer, corpus.heldout)
    period, repeats = settings.copying_period, settings.copying_repeats
    copying = measure_copying(model, tokens_BT, period=period, repeats=repeats, seed=settings.seed)
    scores = head_scores(
        model, tokens_BT, period=period, start=tokens_BT.shape[1] - period * repeats, progress=progress
    )
    best = int(scores.prefix_matching.argmax())
    layer, head = divmod(best, scores.prefix_matching.shape[1])
    return LookingBack(
        copying=copying,
        induction=induction_state(copying.accuracy_repeat),
        best_head=BestHead(
            layer=scores.layer(layer),
            head=head,
            prefix_matching=float(scores.prefix_matching[layer, head]),
            copying=None if scores.copying is None else float(scores.copying[layer, head]),
        ),
        prefix_matching=tuple(map(tuple, scores.prefix_matching.tolist())),
    )


def induction_state(accuracy: Estimate | None) -> str:
    """``finished``, ``begun`` or ``not begun``: by the interval of the accuracy on repeated random tokens.

    Finished where the whole interval is at ``FINISHED`` or above, not begun where it is below ``BEGUN``. Between the
    two a teacher is in its phase transition, where its labels did most harm to a student's own copying.
    """
    assert accuracy is not None  # measured right here
    if accuracy.low >= FINISHED:
        return "finished"
    return "not begun" if accuracy.high < BEGUN else "begun"


def _problems(
    model: PreTrainedModel, bench: Bench, options: Mapping[str, JsonValue], progress: OnProgress
) -> SolvedProblems:
    settings = bench.settings
    items = problems(settings.problems, settings.seed, options=options)
    (graded,) = solve(
        model,
        bench.corpus.tokenizer,
        items,
        Attempts(
            num_samples=settings.samples_per_problem,
            max_new_tokens=settings.max_new_tokens,
            settings=[Sampling(settings.temperature)],
            seed=settings.seed,
        ),
        progress=progress,
    )
    found = summarise_samples(graded, KS, settings.seed)
    return SolvedProblems(
        temperature=settings.temperature,
        num_samples=settings.samples_per_problem,
        num_correct=tuple(one.num_right for one in graded),
        pass_at=found.pass_at,
        unique_correct=found.unique_correct,
    )
