"""What is typed as DATA, and the sources that it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillroom.cli.corpus_sources import sources_of
from stillroom.cli.shared_options import token_count
from stillroom.types import UserError


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("notes", "a b.d", "facts", "lang=en", "日本", "x:y"):
        (tmp_path / name).mkdir()
    (tmp_path / "lang=en" / "part.parquet").touch()
    (tmp_path / "one.txt").touch()


FILES = {
    "notes": {"notes": {"kind": "files", "path": "notes"}},
    "notes/": {"notes": {"kind": "files", "path": "notes/"}},
    "./notes": {"notes": {"kind": "files", "path": "./notes"}},
    "one.txt": {"one": {"kind": "files", "path": "one.txt"}},
    "mine=notes": {"mine": {"kind": "files", "path": "notes"}},
    "a b.d": {"a-b": {"kind": "files", "path": "a b.d"}},
    "日本": {"日本": {"kind": "files", "path": "日本"}},
    "x:y": {"x-y": {"kind": "files", "path": "x:y"}},
    "lang=en/part.parquet": {"part": {"kind": "files", "path": "lang=en/part.parquet"}},
    "crawl/**/*.jsonl.zst": {"crawl": {"kind": "files", "path": "crawl/**/*.jsonl.zst"}},
    "*.txt": {"data": {"kind": "files", "path": "*.txt"}},
    "s3://bucket/web": {"web": {"kind": "files", "path": "s3://bucket/web"}},
    "web=s3://bucket/a=b/c": {"web": {"kind": "files", "path": "s3://bucket/a=b/c"}},
    "https://host:80/all.jsonl.gz?key=1": {"all": {"kind": "files", "path": "https://host:80/all.jsonl.gz?key=1"}},
    "hub:roneneldan/TinyStories": {"TinyStories": {"kind": "hub", "path": "roneneldan/TinyStories"}},
    "wiki=hub:a/b:en@validation": {"wiki": {"kind": "hub", "path": "a/b", "name": "en", "split": "validation"}},
    "hub:a/b@test": {"b": {"kind": "hub", "path": "a/b", "split": "test"}},
    "problems": {"problems": {"kind": "problems"}},
    "sums=problems": {"sums": {"kind": "problems"}},
    "python-library": {"python-library": {"kind": "python-library"}},
    "facts": {"facts": {"kind": "files", "path": "facts"}},  # a folder of that name is what is meant
}


@pytest.mark.parametrize("text", FILES)
def test_what_is_typed_becomes_a_source(text: str) -> None:
    assert sources_of([text], [], {}, "files") == FILES[text]


def test_names_are_told_apart_and_shares_are_given_by_name() -> None:
    found = sources_of(["notes", "./notes", "b=one.txt"], ["notes-2=0.3", "b=2"], {}, "files")
    assert [(name, one.get("share")) for name, one in found.items()] == [("notes", None), ("notes-2", 0.3), ("b", 2.0)]  # type: ignore[union-attr]


def test_a_common_field_is_for_those_that_take_it() -> None:
    found = sources_of(["notes", "problems"], [], {"field": "body"}, "files")
    assert found == {"notes": {"kind": "files", "path": "notes", "field": "body"}, "problems": {"kind": "problems"}}


REFUSED = {
    "nothing there": (["missing"], [], {}, "missing: no such file or folder; expected a file, a folder"),
    "perhaps a dataset": (["own/er"], [], {}, "a dataset of the Hub is written hub:own/er"),
    "a misspelt kind": (["problem"], [], {}, "did you mean problems"),
    "one name twice": (["a=notes", "a=one.txt"], [], {}, "there is a source 'a' already"),
    "a share of nothing": (["notes"], ["note=1"], {}, "'note' is not a source; did you mean notes"),
    "a share that is no number": (["notes"], ["notes=much"], {}, "'much' is no number; expected NAME=NUMBER"),
    "a share without a name": (["notes"], ["0.3"], {}, "'0.3' is not a source"),
    "a field for nobody": (["problems"], [], {"field": "a"}, "--field: has no effect on any of the sources"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_a_sentence(case: str) -> None:
    data, shares, common, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        sources_of(data, shares, common, "files")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10", 10),
        ("1_000", 1000),
        ("1,000", 1000),
        ("10k", 10_000),
        ("10M", 10**7),
        ("2.5B", 2_500_000_000),
        ("1t", 10**12),
    ],
)
def test_numbers_of_tokens_are_typed_as_people_say_them(text: str, number: int) -> None:
    assert token_count(text) == number


@pytest.mark.parametrize("text", ["", "many", "10 M", "-1", "1e6", "M", "10MB", "1.2.3"])
def test_what_is_no_number_of_tokens_is_a_sentence(text: str) -> None:
    with pytest.raises(UserError, match="is no number of tokens; expected one such as 1000000, 10M"):
        token_count(text)
