"""A study's mixture of teachers: what its configuration refuses, and that every source is taught by its own teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ranked import SHAPE, save
from stillroom.config import LabelsConfig, MixtureConfig, StudyConfig, parse
from stillroom.corpora import Corpus
from stillroom.models import build_model, load_model
from stillroom.study.identities import mixture_key
from stillroom.study.mixtures import live_mixture, mixture_scores
from stillroom.study.recipe_files import resolve_recipe
from stillroom.teachers import ModelScores
from stillroom.types import UserError


@pytest.fixture(scope="module")
def folders(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("mixed")
    shapes = (SHAPE, SHAPE.model_copy(update={"hidden_size": 16}))
    return [
        save(build_model(shape, tiny_corpus.vocab_size, seed), tiny_corpus, root / f"m{seed}")
        for seed, shape in enumerate(shapes)
    ]


def test_each_source_is_taught_by_its_own_teacher(folders, tiny_corpus):
    config = MixtureConfig(rule="domain", teachers={"worlds": str(folders[1])}, domains={"facts": "worlds"})
    mixture = mixture_scores(config, folders[0], tiny_corpus, "fp32")
    batch = tiny_corpus.train.batch(range(40))
    found = torch.cat(list(mixture.chunks(batch))).view(40, 64, -1)
    own = [
        torch.cat(list(ModelScores(load_model(folder), tiny_corpus.vocab_size, True, "fp32").chunks(batch)))
        .log_softmax(-1)
        .view(40, 64, -1)
        for folder in folders
    ]
    facts = tiny_corpus.source_names.index("facts")
    for number in range(40):
        expected = own[1 if tiny_corpus.train.source[number] == facts else 0][number]
        assert torch.allclose(found[number], expected, atol=1e-5)
    assert 0 < (tiny_corpus.train.source[:40] == facts).sum() < 40
    live = live_mixture(config, folders[0], tiny_corpus, LabelsConfig(), "fp32")
    labels = live.labels(tiny_corpus.train.batch(range(3)))
    assert labels.weights.sum(-1).allclose(torch.ones(3, 64))


def test_the_key_tells_rules_weights_and_members_apart(folders, tiny_corpus):
    keys = {
        mixture_key(MixtureConfig(teachers={"a": str(path)}, rule=rule, weights=weights), "own")
        for path in folders
        for rule in ("average", "position")
        for weights in ({}, {"a": 2.0})
    }
    assert len(keys) == 8


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ({"teachers": {}}, "at least 1 item"),
        ({"teachers": {"teacher": "x"}}, "the study's own"),
        ({"teachers": {"code": "x"}, "weights": {"coed": 1.0}}, "'coed', which is not one; did you mean code"),
        ({"teachers": {"code": "x"}, "rule": "domain", "domains": {"pyhton": "code"}}, "'pyhton', which is not one"),
        ({"teachers": {"code": "x"}, "rule": "best"}, "average"),
    ],
)
def test_a_mixture_that_names_what_is_not_there_is_refused(mixture, words, micro_recipe):
    config = resolve_recipe(str(micro_recipe))
    values = config.model_dump()
    values["teacher"]["mixture"] = mixture
    with pytest.raises(UserError, match=words):
        parse(StudyConfig, values, "study")


def test_a_live_mixture_is_read_at_temperature_1(folders, tiny_corpus):
    config = MixtureConfig(teachers={"a": str(folders[1])})
    with pytest.raises(UserError, match=r"labels\.temperature"):
        live_mixture(config, folders[0], tiny_corpus, LabelsConfig(temperature=2.0), "fp32")
