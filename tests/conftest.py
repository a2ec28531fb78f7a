"""What every test shares: nothing reaches a hub, and one tiny corpus for all that need real input."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path

import pytest

from stillroom.config import CorpusConfig, SourceConfig


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Notes and copies go to a folder of the tests, not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_corpus_config() -> CorpusConfig:
    """A corpus of a few thousand tokens of real text and worlds."""
    return CorpusConfig(
        sources={
            "python": SourceConfig(kind="python-library", share=0.5),
            "facts": SourceConfig(kind="facts", share=0.2),
            "problems": SourceConfig(kind="problems", share=0.2),
            "copying": SourceConfig(kind="copying", share=0.1),
        },
        vocab_size=300,
        sequence_length=64,
        train_tokens=16_384,
        heldout_tokens=4_096,
    )


@pytest.fixture(scope="session")
def tiny_corpus(tiny_corpus_config: CorpusConfig, tmp_path_factory: pytest.TempPathFactory):
    """The corpus above, built once."""
    from stillroom.corpora import build_corpus

    folder: Path = tmp_path_factory.mktemp("corpus") / "corpus"
    return build_corpus(tiny_corpus_config, folder)


@pytest.fixture(scope="session")
def micro_recipe() -> Path:
    """The recipe file of the study of seconds."""
    return Path(__file__).with_name("micro.py")
