"""A study's teacher mixed with others: one more source of scores, labelled and asked live like a single teacher."""

from __future__ import annotations

from pathlib import Path

from stillroom.config import LabelsConfig, MixtureConfig
from stillroom.corpora import Corpus
from stillroom.models import use_short_attention
from stillroom.strict import nearest
from stillroom.study.teacherfolders import check_vocabulary, teacher_folder
from stillroom.study.train_stage import load_here
from stillroom.teachers import Domains, LiveLabels, MixtureScores, ModelScores
from stillroom.types import UserError

OWN = "teacher"
"""The name of the study's own teacher among the mixed ones."""


def check_mixture(config: MixtureConfig, corpus: Corpus) -> None:
    """Refuses a source that the corpus has not, and a teacher of another tokenizer."""
    for source in config.domains:
        if source not in corpus.source_names:
            hint = nearest(source, list(corpus.source_names))
            raise UserError(f"mixture.domains: the corpus has no source {source!r}{hint}.")
    for path in config.teachers.values():
        check_vocabulary(teacher_folder(path), corpus)


def mixture_scores(config: MixtureConfig, own: Path, corpus: Corpus, precision: str) -> MixtureScores:
    """The scores of all the teachers as one; each model is loaded once and stays in memory."""
    names = [OWN, *config.teachers]
    members = []
    for path in (str(own), *config.teachers.values()):
        model = load_here(teacher_folder(path))
        use_short_attention(model)
        members.append(ModelScores(model, corpus.vocab_size, corpus.isolate, precision))
    domains = None
    if config.rule == "domain":
        number_of_source = [names.index(config.domains.get(source, OWN)) for source in corpus.source_names]
        domains = Domains.of(corpus.train, [number_of_source[code] for code in corpus.train.source])
    weights = tuple(config.weights.get(name, 1.0) for name in names)
    return MixtureScores(tuple(members), config.rule, weights, domains)


def live_mixture(config: MixtureConfig, own: Path, corpus: Corpus, labels: LabelsConfig, precision: str) -> LiveLabels:
    """The mixture asked at every step, for the labels that a store of it would hold."""
    if labels.temperature != 1.0:
        raise UserError(
            f"labels.temperature: is {labels.temperature:g}, but a mixture asked live is read at 1; set it to 1 "
            "or store the labels."
        )
    return LiveLabels(mixture_scores(config, own, corpus, precision), labels)
