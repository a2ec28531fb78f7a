"""A codec of someone else's, that of the page on adding a part: a store with it works as with any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from parts_page import load_part
from stillroom.config import LabelsConfig
from stillroom.labels import LabelSettings, LabelStore, inspect_store, label, price
from stillroom.labels.codecs import codec as registry
from stillroom.labels.codecs.codec import register_codec
from stillroom.labels.settings import settings_of
from stillroom.labels.terminal import inspection_tables
from stillroom.teachers import ExactScores, LiveLabels
from stillroom.types import UserError
from tiny_labels import IDENTITY, VOCAB, TinySequences, scores_of

First = load_part("first_codec").First
"""The codec of the page on adding a part."""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_CODECS", dict(registry._CODECS))
    register_codec(First)
    yield


def test_another_codec_writes_prices_reads_and_shows_a_store(
    teacher: PreTrainedModel, corpus: TinySequences, tmp_path: Path
) -> None:
    settings = LabelSettings(First(steps=200), shard_sequences=8)
    manifest = label(scores_of(teacher), corpus, settings, tmp_path / "labels", identity=IDENTITY)
    assert manifest.labels["codec"] == "first" and manifest.labels["steps"] == 200
    assert manifest.fidelity["kl"] == "live to stored" and manifest.settings == settings
    store = LabelStore.open(tmp_path / "labels")
    assert list(store.verify()) == [1, 2, 3]
    batch = corpus.batch(range(5))
    log_p_NV = torch.cat(list(scores_of(teacher).chunks(batch))).log_softmax(-1)
    found = store.labels(batch).flatten()
    assert torch.equal(found.ids[:, 0], log_p_NV.argmax(-1))
    assert (found.weights[:, 0] - log_p_NV.amax(-1).exp()).abs().max() < 0.5 / 200 + 1e-5
    assert found.tail is not None and torch.allclose(found.tail, 1 - found.weights[:, 0])
    live = LiveLabels(ExactScores(lambda one: log_p_NV.view(5, -1, VOCAB)), settings).labels(batch).flatten()
    assert torch.equal(live.ids, found.ids) and torch.equal(live.gold_rank, found.gold_rank)
    assert price(1000, 1.0, settings, VOCAB).num_bytes == 9000
    assert inspect_store(store).bytes_by_column["first"] == 4.0
    assert inspection_tables(inspect_store(store)) is not None


def test_options_of_a_codec_are_checked_by_name() -> None:
    for wrong, sentence in (
        ({"codec": "last"}, "labels: codec is 'last', expected one of first, sampled, top-k, top-p"),
        ({"codec": "first", "steps": 0}, "labels: steps is 0, expected a whole number from 1 to 255"),
        ({"codec": "sampled", "steps": 4}, "labels: has 'steps', which codec sampled does not know"),
    ):
        with pytest.raises(UserError, match=sentence):
            LabelSettings.of(wrong)
    config = LabelsConfig(codec="first", options={"steps": 9})
    assert settings_of(LabelsConfig.model_validate(config.canonical())).codec == First(9)
    with pytest.raises(ValueError, match="codec is 'last', expected one of first, sampled"):
        LabelsConfig(codec="last")
    assert LabelSettings.of(replace(LabelSettings(), codec=First(7)).canonical()).codec == First(7)
