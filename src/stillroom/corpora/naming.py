"""What names a corpus before it is built; imports no torch."""

from __future__ import annotations

from pydantic import JsonValue

from stillroom.corpora.corpus_config import CorpusConfig
from stillroom.corpora.sources.source_kinds import source_identity
from stillroom.corpora.tasks import is_large
from stillroom.results_versions import results_version


def corpus_identity(config: CorpusConfig) -> dict[str, JsonValue]:
    """What determines a corpus: its configuration, the content of its files, and the version of the results."""
    identity = config.canonical() | results_version("large-corpus" if is_large(config) else "corpus")
    identity["sources"] = {name: source_identity(source) for name, source in config.sources.items()}
    return identity
