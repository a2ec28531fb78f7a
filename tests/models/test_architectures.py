"""Every causal architecture that transformers registers: its own numbers, or one sentence; some by default."""

from __future__ import annotations

import json

import pytest
from architectures import ARCHITECTURES
from sweep import FACETS, TABLE, examine

FAST = (
    "llama", "mistral", "gemma2", "gemma3_text", "qwen2", "phi3", "gpt_oss", "olmo3", "granite", "cohere2", "gpt2",
    "gpt_neox", "lfm2", "mamba", "falcon_h1", "recurrent_gemma",
)  # fmt: skip


def _table() -> dict[str, dict[str, str]]:
    return json.loads(TABLE.read_text())


@pytest.mark.parametrize("name", FAST)
def test_well_known_families_have_their_own_numbers(name):
    assert examine(name) == _table()[name]


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in FAST])
def test_every_architecture_has_its_own_numbers_or_is_refused(name):
    assert examine(name) == _table()[name]


def test_the_table_names_every_architecture_and_nothing_but_equal_or_a_sentence():
    table = _table()
    assert set(table) == set(ARCHITECTURES)
    for name, verdicts in table.items():
        assert list(verdicts) in (list(FACETS), ["load"]), name
        for verdict in verdicts.values():
            assert verdict == "equal" or verdict.startswith(("refused: ", "no tiny model could be made: ")), name
