"""What each stage's results are called by beside its configuration and inputs: an integer that is raised by hand.

A stage whose results change for the same configuration and inputs gets the next number here, a line in CHANGELOG.md and
a line in ``tests/study/test_golden_results.py``, which fails until it does. A change that leaves results as they are,
which most are, raises nothing: what was made before is used again, whatever release made it. A large corpus is one of
many small tasks (``corpora.tasks.is_large``); both are raised where both change. Imports nothing.
"""

from __future__ import annotations

RESULTS_VERSIONS = {
    "corpus": 2,
    "large-corpus": 3,
    "model": 1,
    "labels": 1,
    "evaluation": 2,
    "ranking": 1,
    "tuning": 1,
    "sandbox-bigram": 1,
    "sandbox-bigram-transformer": 1,
    "sandbox-recall": 1,
}


def results_version(stage: str, version: int | None = None) -> dict[str, int]:
    """The part of an identity that tells results of one version, by default today's, from another's: nothing at 1."""
    version = RESULTS_VERSIONS[stage] if version is None else version
    return {"results_version": version} if version > 1 else {}
