"""A little of every stage of a study, done now, so that a plan tells what it will take on this machine.

Nothing is kept. What is too large for a trial, or not there, is left out; the plan then says so and goes by FLOPs.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stillroom.config import EvaluationConfig, ModelConfig, ObjectiveConfig, RunConfig, StudyConfig
from stillroom.corpora import Corpus, build_corpus, open_corpus, save_opening
from stillroom.corpora.given import is_growing
from stillroom.costs import num_parameters, size_of
from stillroom.files import read_json_lines
from stillroom.labels import Scores
from stillroom.models import build_model, export_model, use_short_attention
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.study.evaluations import evaluate_into
from stillroom.study.label_stage import identity_in
from stillroom.study.label_trial import try_labelling
from stillroom.study.measured_text import text_of
from stillroom.study.mixtures import mixture_scores
from stillroom.study.own_precision import own_precision
from stillroom.study.progress import StageProgress
from stillroom.study.single import arm_run, labelled_tokens, teacher_run
from stillroom.study.spans import MOST_PARAMETERS, Span, Trials
from stillroom.study.teacherfolders import check_vocabulary, teacher_folder
from stillroom.study.train_stage import load_here
from stillroom.teachers import ModelScores
from stillroom.training import TrainingData, train
from stillroom.types import UserError

MOST_PRETRAINED = 400_000_000
"""Of a model that is loaded for one."""
_CORPUS_TOKENS = 65_536
_STEPS = 5
_PARTS = 16
"""An evaluation is tried on one and on two parts of its items of so many."""
_ITEMS = ("heldout_sequences", "copying_sequences", "counterfactual_items", "recall_sequences", "rule_items",
          "retrieval_items", "problems", "contamination_sequences")  # fmt: skip


def try_stages(config: StudyConfig) -> Trials:
    """A little of every stage of a study whose models are small enough to be tried."""
    trials = Trials()
    if config.corpus.path is not None and ("://" in config.corpus.path or is_growing(config.corpus.path)):
        trials.missing.append("corpus: it would have to be fetched, or waited for")
        return trials
    sources = config.corpus.sources.values() if config.corpus.path is None else ()
    if any(source.kind == "hub" or "://" in str(source.path) for source in sources):
        trials.missing.append("corpus: its text would have to be fetched")
        return trials
    with tempfile.TemporaryDirectory(prefix="stillroom-trial-") as scratch, trials.trying("corpus"):
        _Trial(config, Path(scratch), trials).all()
    trials.tried += trials.seconds
    return trials


@dataclass
class _Trial:
    config: StudyConfig
    scratch: Path
    trials: Trials

    def all(self) -> None:
        """Corpus, teacher, labels, students and their evaluations, each where it can be."""
        config, seconds = self.config, self.trials.seconds
        corpus = self._corpus()
        rate = None
        if config.student.path is None and _is_small(config.student, corpus.vocab_size):
            rate = self._training(arm_run(config, next(iter(config.arms))), corpus)
        if config.teacher.training is not None and _is_small(config.teacher.model, corpus.vocab_size):
            run = teacher_run(config)
            seconds["teacher"] = _trained(run, self._training(run, corpus), corpus)
        if labelled_tokens(config) or any(map(ever_needs_teacher, config.arms.values())):
            with self.trials.trying("labels"):
                self._labels(corpus)
        for name, arm in config.arms.items():
            if rate is None:
                break
            taken = _trained(arm_run(config, name), rate, corpus)
            if ever_needs_teacher(arm):
                taken = taken.times(1.0, 1.4)  # the soft term
            seconds[name] = taken
        with self.trials.trying("evaluation"):
            self._evaluations(corpus)

    def _corpus(self) -> Corpus:
        """A small corpus of the same text; what it took, less the training of its tokenizer, grows with the tokens."""
        asked = self.config.corpus
        if asked.path is not None:
            self.trials.seconds["corpus"] = Span(0.0, 0.0)
            return open_corpus(asked.path)
        length, whole = asked.sequence_length, asked.train_tokens + asked.heldout_tokens
        tokens = min(asked.train_tokens, max(_CORPUS_TOKENS, 16 * length))
        heldout = min(asked.heldout_tokens, max(64 * length, 2048))
        small: dict[str, int | str] = {"train_tokens": tokens, "heldout_tokens": heldout}
        first = _took(lambda: build_corpus(asked.model_copy(update=small), self.scratch / "corpus"))
        again, fixed = first, 0.0
        if asked.tokenizer is None:
            small["tokenizer"] = str(self.scratch / "corpus" / "tokenizer")
            again = _took(lambda: build_corpus(asked.model_copy(update=small), self.scratch / "again"))
            fixed = max(0.0, first - again)
        grown = again * whole / (tokens + heldout)
        self.trials.seconds["corpus"] = Span(0.5 * fixed + 0.2 * grown, 2.0 * (fixed + grown))
        return open_corpus(self.scratch / "corpus")

    def _training(self, run: RunConfig, corpus: Corpus) -> float:
        """Tokens per second of some steps with hard labels, of which the slower half counts."""
        training, folder = run.training, self.scratch / f"training-{run.name}"
        batch = min(training.batch_sequences, max(1, len(corpus.train) // 2))
        changes = {
            "batch_sequences": batch, "micro_batch_sequences": None, "steps": _STEPS, "flops": None, "tracker": "none",
            "validate_every": 0, "checkpoint_seconds": 1e9, "checkpoint_steps": None, "keep_every": 0,
        }  # fmt: skip
        model = build_model(
            run.model.drawn(), corpus.vocab_size, training.seed, training.base_width, corpus.special_ids
        )
        heldout = corpus.heldout.first(2 * corpus.heldout.sequence_length)
        data, quick = TrainingData(corpus.train, heldout), training.model_copy(update=changes)
        precision = own_precision(training.precision)
        train(model.train(), data, quick, ObjectiveConfig(), folder, precision_name=precision)
        export_model(model, folder / "model")
        save_opening(corpus.tokenizer, folder / "model")
        lines = [line for line in read_json_lines(folder / "metrics.jsonl") if "tokens_per_second" in line]
        rates = sorted(float(str(line["tokens_per_second"])) for line in lines[1:])  # the first step warms up
        return rates[(len(rates) - 1) // 2]

    def _labels(self, corpus: Corpus) -> None:
        """Of the teacher that is there, or of one of its shape, which is as fast and says another thing."""
        owner = identity_in(corpus, "trial")
        found = try_labelling(self._scores(corpus), corpus.train, self.config.labels, owner)
        if tokens := labelled_tokens(self.config):
            self.trials.seconds["labels"] = Span.around(found.seconds(tokens))
        if self.config.teacher.training is None:
            self.trials.label_bytes = Span.around(found.bytes_per_token, 0.75, 1.35)

    def _scores(self, corpus: Corpus) -> Scores:
        """Of the teacher, or of one of its shape that has just begun."""
        teacher, folder = self.config.teacher, self.scratch / "training-teacher" / "model"
        precision = own_precision(self.config.training.precision)
        if teacher.training is None and teacher.model.path is not None:
            folder = Path(teacher_folder(teacher.model.path))
            if size_of(teacher.model, corpus.vocab_size).parameters > MOST_PRETRAINED:
                raise UserError(f"{folder} is too large to be tried")
            check_vocabulary(str(folder), corpus)
        elif not folder.is_dir():
            raise UserError("the teacher is too large to be tried")
        if teacher.mixture is not None:
            return mixture_scores(teacher.mixture, folder, corpus, precision)
        model = load_here(folder)
        use_short_attention(model)
        return ModelScores(model, corpus.vocab_size, corpus.isolate, precision)

    def _evaluations(self, corpus: Corpus) -> None:
        """Of a student, from two trials of different sizes; of the teacher by its size."""
        name = next(iter(self.config.arms))
        folder = self.scratch / f"training-{name}" / "model"
        if not folder.is_dir():
            return
        one, two = (self._evaluate(folder, corpus, parts) for parts in (1, 2))
        whole = max(one + (_PARTS - 1) * max(0.0, two - one), two)
        student = Span(max(0.4 * whole, 0.8 * two), 1.7 * max(whole, 0.5 * _PARTS * one))
        vocab = corpus.vocab_size
        sizes = [size_of(model, vocab).parameters for model in (self.config.teacher.model, self.config.student)]
        arms = len(self.config.arms)
        self.trials.seconds["evaluation"] = student.times(arms + 1, arms + max(1.0, sizes[0] / sizes[1]))

    def _evaluate(self, model: Path, corpus: Corpus, parts: int) -> float:
        asked = self.config.evaluation
        fewer = {name: max(parts, getattr(asked, name) * parts // _PARTS) for name in _ITEMS}
        config = EvaluationConfig.model_validate(asked.model_dump() | fewer)
        text = text_of(corpus, self.config.corpus.sources)
        folder = self.scratch / f"evaluation-{parts}"
        return _took(lambda: evaluate_into(folder, model, config, text, StageProgress("items")))


def _is_small(model: ModelConfig, vocab_size: int) -> bool:
    return model.path is None and num_parameters(model, vocab_size) <= MOST_PARAMETERS


def _trained(run: RunConfig, rate: float, corpus: Corpus) -> Span:
    """Seconds of a training at so many tokens per second, its validations included."""
    training, length = run.training, corpus.train.sequence_length
    flops = size_of(run.model, corpus.vocab_size).flops_per_token(length, backward=True)
    tokens = training.tokens * training.epochs if training.flops is None else training.flops / flops
    tokens = tokens if training.steps is None else training.steps * training.batch_sequences * length
    steps = tokens / (training.batch_sequences * length)
    validations = 1 + (math.floor(steps / training.validate_every) if training.validate_every else 0)
    return Span.around((tokens + validations * run.corpus.heldout_tokens / 3) / rate)


def _took(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin
