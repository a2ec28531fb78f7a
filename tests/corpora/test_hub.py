"""Hugging Face datasets: configurations, splits, rows without text, and one sentence for whatever the library says."""

from __future__ import annotations

import json
import sys
import time
import types
from collections import Counter

import pytest

from stillroom.config import CorpusConfig, SourceConfig
from stillroom.corpora import build_corpus, documents, source_identity
from stillroom.corpora.sources import hub_source as hub_module
from stillroom.corpora.sources.source_kinds import source_parts, source_texts
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.types import UserError

TEXTS = [f'text {n}: é ☕, "quoted"\nand a second line' for n in range(60)]


def hub(path, **changes):
    return SourceConfig(kind="hub", path=str(path), **changes)


def all_of(source):
    """Every text of both splits, in order."""
    return [text for part in source_parts(source, 0, 1 << 20) for text in source_texts(source, part, RowCount())]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def folder(root, contents):
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# Without the library: what is asked of it, and its answers.


@pytest.fixture
def library(monkeypatch):
    """A stand-in for the library, which keeps what it was asked and gives ``rows``, or raises them."""
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        if isinstance(library.rows, Exception):
            raise library.rows
        return iter(library.rows)

    library = types.SimpleNamespace(load_dataset=load_dataset, asked=asked, rows=[])
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return library


def test_its_code_is_never_trusted_and_configuration_and_split_are_handed_on(library):
    library.rows = [{"text": text} for text in TEXTS]
    assert Counter(all_of(hub("a/b", name="c", split="validation"))) == Counter(TEXTS)
    assert library.asked[0] == (
        ("a/b",),
        {"name": "c", "split": "validation", "streaming": True, "trust_remote_code": False},
    )
    all_of(hub("a/b"))
    assert library.asked[-1][1]["name"] is None and library.asked[-1][1]["split"] == "train"


def test_rows_keep_their_order_and_their_split_by_content(library):
    library.rows = [{"text": text} for text in [*TEXTS, *map(str, range(99))]]
    train, heldout = list(documents(hub("x/y"), 0, "train")), list(documents(hub("x/y"), 0, "heldout"))
    assert train == [row["text"] for row in library.rows if row["text"] in train]
    assert heldout == [row["text"] for row in library.rows if row["text"] in heldout]
    assert len(train) + len(heldout) == 159 and not set(train) & set(heldout)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": 4}], "row 1: field 'text' holds int 4"),
        ([{"text": "a"}, {"text": ["b"]}], "row 2: field 'text' holds list"),
        ([{"text": "half \ud800"}], "row 1: .*surrogate"),
        ([{"title": "a", "body": "b"}], "no field 'text', only title, body; set field"),
        ([{"title": "a", "inner": {"body": "b"}}], "no field 'text', only title, inner.body; set field"),
        (ValueError("Config name is missing.\nPlease pick one among: ['a', 'b']"), r"\['a', 'b'\].*set name of"),
        (ValueError("BuilderConfig 'c' not found. Available: ['a', 'b']"), "set name of"),
        (ValueError("Bad split: train. Available splits: ['validation']"), r"\['validation'\].*set split of"),
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), "own code is never run"),
        (ConnectionError("Couldn't reach 'x/y' on the Hub (OfflineModeIsEnabled)"), "check the network"),
        (FileNotFoundError("Dataset 'x/y' doesn't exist on the Hub or cannot be accessed."), "check its id"),
        (FileNotFoundError("Dataset 'x/y' is a gated dataset on the Hub."), "ask for access"),
        (KeyError("whatever"), "cannot be read .*whatever.*check path, name and split"),
        (AssertionError(), r"cannot be read \(AssertionError\)"),
    ],
)
def test_answers_that_are_no_text_end_in_one_sentence(library, rows, words):
    library.rows = rows
    with pytest.raises(UserError, match=words) as error:
        all_of(hub("x/y"))
    assert "x/y" in str(error.value) and "\\n" not in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": None}], "in 1 rows, of which 1 have no text"),
        ([{"text": " \n"}, {"text": None}], "in 2 rows, of which 2 have no text"),
        ([], "holds no text for the train split; expected more"),
    ],
)
def test_a_dataset_without_any_text_is_refused(library, rows, words):
    library.rows = rows
    with pytest.raises(UserError, match=f"^x/y: .*{words}"):
        list(documents(hub("x/y"), 0, "train"))


def test_an_error_between_rows_is_a_sentence_too(library):
    def rows():
        yield {"text": "a"}
        raise OSError("connection lost")

    library.rows = rows()
    with pytest.raises(UserError, match=r"dataset x/y cannot be read \(connection lost\)"):
        all_of(hub("x/y"))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'stillroom\[hub\]'"):
        all_of(hub("x/y"))


def test_a_hub_that_does_not_answer_is_told_at_once(library, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def dataset_info(self, path, timeout):
        assert timeout <= 10
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    with pytest.raises(UserError, match=r"dataset x/y cannot be read .*not known.*check the network"):
        all_of(hub("x/y"))
    assert not library.asked


def test_a_hub_that_answers_no_leaves_the_word_to_the_library(library, monkeypatch):
    from huggingface_hub.errors import HFValidationError

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def dataset_info(self, path, timeout):
        raise HFValidationError("no such name")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    hub_module._check_reached("x/y")


def test_a_local_dataset_is_known_by_its_content(tmp_path):
    root = folder(tmp_path, {"train.jsonl": lines([{"text": "a"}]), ".cache/x": "1"})
    before = source_identity(hub(root))
    folder(root, {".cache/x": "2"})
    assert source_identity(hub(root)) == before
    folder(root, {"train.jsonl": lines([{"text": "b"}])})
    assert source_identity(hub(root)) != before


# With it.

real = pytest.mark.real


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets")


@real
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves CSV files open
@pytest.mark.parametrize(
    ("contents", "changes", "expected"),
    [
        ({"train.jsonl": lines([{"text": text} for text in TEXTS])}, {}, TEXTS),
        ({"train.jsonl": lines([{"text": text} for text in [*TEXTS, None, ""]])}, {}, TEXTS),
        ({"train.jsonl": lines([{"a": {"b": text}} for text in TEXTS])}, {"field": "a.b"}, TEXTS),
        ({"validation.jsonl": lines([{"text": text} for text in TEXTS])}, {"split": "validation"}, TEXTS),
        ({"train.csv": "id,text\n" + "".join(f"{n},t{n}\n" for n in range(60))}, {}, [f"t{n}" for n in range(60)]),
    ],
)
def test_a_local_dataset_gives_its_texts(datasets, tmp_path, contents, changes, expected):
    assert Counter(all_of(hub(folder(tmp_path, contents), **changes))) == Counter(expected)


TWO = {
    "README.md": "---\nconfigs:\n"
    + "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in "ab")
    + "---\n",
    "a.jsonl": lines([{"text": f"a{n}"} for n in range(60)]),
    "b.jsonl": lines([{"text": f"b{n}"} for n in range(60)]),
}


@real
def test_a_configuration_is_chosen_by_name(datasets, tmp_path):
    assert sorted(all_of(hub(folder(tmp_path, TWO), name="b"))) == sorted(f"b{n}" for n in range(60))


@real
@pytest.mark.parametrize(
    ("contents", "changes", "words"),
    [
        (TWO, {}, r"\['a', 'b'\].*set name of this source"),
        (TWO, {"name": "c"}, r"\['a', 'b'\].*set name of this source"),
        ({"validation.jsonl": lines([{"text": "a"}])}, {}, r"\['validation'\].*set split of this source"),
        ({"train.jsonl": lines([{"text": "a"}])}, {"split": "test"}, r"\['train'\].*set split of this source"),
        ({"train.jsonl": lines([{"id": 1, "body": "a"}])}, {}, "only id, body; set field"),
        ({"train.jsonl": lines([{"text": 4}])}, {}, "row 1: field 'text' holds int 4"),
        ({"train.jsonl": '{"text": "cut'}, {}, "cannot be read"),
        ({"train.jsonl": '{"text": "\\ud800"}\n'}, {}, "cannot be read"),
        ({"readme.bin": ""}, {}, "cannot be read"),
        ({}, {}, "cannot be read"),
        ({"state.json": "{}", "dataset_info.json": "{}"}, {}, "state.json names no file"),
    ],
)
def test_a_local_dataset_that_does_not_fit_ends_in_one_sentence(datasets, tmp_path, contents, changes, words):
    with pytest.raises(UserError, match=words) as error:
        all_of(hub(folder(tmp_path, contents), **changes))
    assert str(tmp_path) in str(error.value) and "\\n" not in str(error.value)


@real
def test_a_script_is_never_run(datasets, tmp_path):
    ran = tmp_path / "ran"
    root = folder(tmp_path / "own", {"own.py": f"open({str(ran)!r}, 'w')\n"})
    with pytest.raises(UserError, match="own code is never run"):
        all_of(hub(root))
    assert not ran.exists()


SAVED = {
    "as files": lambda root: SourceConfig(kind="files", path=str(root)),
    "as files by pattern": lambda root: SourceConfig(kind="files", path=str(root), pattern="**/*.arrow"),
    "as a dataset": hub,
}


@real
@pytest.mark.parametrize("form", SAVED)
def test_what_save_to_disk_wrote_is_read(datasets, tmp_path, form):
    rows = [{"id": number, "text": text} for number, text in enumerate(TEXTS)]
    datasets.Dataset.from_list(rows).shuffle(seed=1).save_to_disk(tmp_path / "saved", num_shards=3)
    source = SAVED[form](tmp_path / "saved")
    assert Counter(all_of(source)) == Counter(TEXTS)
    before = source_identity(source)
    datasets.Dataset.from_list(rows[1:]).save_to_disk(tmp_path / "saved", num_shards=3)
    assert source_identity(source) != before


@real
def test_splits_that_save_to_disk_wrote_are_chosen_by_name(datasets, tmp_path):
    named = {
        name: datasets.Dataset.from_list([{"text": f"{name} {n}"} for n in range(9)]) for name in ("train", "test")
    }
    datasets.DatasetDict(named).save_to_disk(tmp_path / "saved")
    for source in (hub(tmp_path / "saved", split="test"), SAVED["as files"](tmp_path / "saved" / "test")):
        assert all_of(source) == [f"test {n}" for n in range(9)]
    assert all_of(hub(tmp_path / "saved"))[0] == "train 0"
    for source in (hub(tmp_path / "saved", split="dev"), SAVED["as files"](tmp_path / "saved")):
        with pytest.raises(UserError, match="is a saved dataset with the splits train, test; set path to the folder"):
            all_of(source)


@real
def test_every_shard_of_a_dataset_is_a_part(datasets, tmp_path):
    contents = {f"train-{n}.jsonl": lines([{"text": f"{n} {text}"} for text in TEXTS]) for n in range(3)}
    source = hub(folder(tmp_path, contents))
    assert len(source_parts(source, 0, 1)) == 3
    assert Counter(all_of(source)) == Counter(f"{n} {text}" for n in range(3) for text in TEXTS)


@real
def test_no_network_is_told_quickly(datasets, monkeypatch):
    for offline in (True, False):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        begin = time.monotonic()
        with pytest.raises(UserError, match="check the network"):
            all_of(hub("no-one/nothing"))
        assert time.monotonic() - begin < 12


@real
def test_a_corpus_of_a_local_dataset_is_the_same_again(datasets, tmp_path):
    root = folder(tmp_path / "set", {"train.jsonl": lines([{"text": text * 9} for text in TEXTS])})
    config = CorpusConfig(
        sources={"web": hub(root)}, vocab_size=300, sequence_length=16, train_tokens=640, heldout_tokens=32
    )
    first, again = build_corpus(config, tmp_path / "one"), build_corpus(config, tmp_path / "two")
    assert first.manifest == again.manifest
    assert (first.train.tokens(range(40)) == again.train.tokens(range(40))).all()
