"""What every test shares: nothing reaches a hub, and one tiny corpus for all that need real input."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path

import pytest

from stillroom.config import CorpusConfig, SourceConfig

LONG = 10.0
"""Seconds of processor time that no test should need."""


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for: what a busy machine does not change."""
    return sum(os.times()[:4])


def _timed(item: pytest.Item, what: str) -> Iterator[None]:
    begin = _processor_seconds()
    yield
    item.user_properties.append((f"{what}_seconds", _processor_seconds() - begin))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    yield from _timed(item, "fixtures")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    yield from _timed(item, "test")


def pytest_terminal_summary(terminalreporter) -> None:
    """Names tests that need too long, and fixtures; it fails nothing, because machines differ."""
    reports = [one for found in terminalreporter.stats.values() for one in found if hasattr(one, "user_properties")]
    taken = {(one.nodeid, what): seconds for one in reports for what, seconds in one.user_properties}
    long = sorted((seconds, *about) for about, seconds in taken.items() if seconds > LONG)
    if long:
        terminalreporter.section(f"above {LONG:g} s of processor time: make these smaller")
    for seconds, name, what in reversed(long):
        terminalreporter.line(f"{seconds:.1f} s {what.removesuffix('_seconds')} {name}")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Notes and copies go to a folder of the tests, not to the user's; a store that fails is asked again at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("stillroom.stores.PAUSES", (0.0,) * 5)
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


@pytest.fixture
def fresh_compiler() -> None:
    """What other tests compiled is forgotten: flex attention refuses a function of its ninth shape in one process."""
    import torch

    torch._dynamo.reset()
