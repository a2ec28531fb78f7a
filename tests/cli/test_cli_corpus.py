"""``stillroom corpus``, and the page on corpora: every command of it, as it stands there."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from stillroom.cli.main import run
from stillroom.corpora import Corpus, open_corpus, train_tokenizer
from stillroom.corpora.exchange.datatrove import write_datatrove
from stillroom.corpora.exchange.id_documents import IdDocuments
from stillroom.corpora.exchange.megatron import write_megatron
from stillroom.corpora.tokenizer import save_tokenizer
from stillroom.vocabulary import encode_documents
from stillroom.worlds.library import library_files

PAGE = Path(__file__).parents[2] / "docs" / "corpus.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


def texts() -> list[str]:
    """A few hundred kilobytes of text."""
    _, files = library_files()
    found = [file.read_text(encoding="utf-8", errors="ignore") for file in files[:60]]
    return [text[start : start + 3000] for text in found for start in range(0, min(len(text), 30_000), 3000)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """A folder with everything that the page's commands name."""
    folder = tmp_path_factory.mktemp("page")
    parts = texts()
    for name in ("notes", "repos", "crawl", "ids"):
        (folder / name).mkdir()
    for number, text in enumerate(parts):
        (folder / ("notes" if number % 2 else "repos") / f"{number}.txt").write_text(text)
    rows = [{"title": f"title {number}", "body": text, "score": number % 5} for number, text in enumerate(parts)]
    for number in range(2):
        with gzip.open(folder / "crawl" / f"{number}.jsonl.gz", "wt") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows[number::2])
    tokenizer = train_tokenizer(parts[:50], 512)
    save_tokenizer(tokenizer, folder / "tokenizer")
    _write_ids(folder / "ids", encode_documents(tokenizer, parts))
    return folder


def _write_ids(folder: Path, documents: list[list[int]]) -> None:
    import pyarrow
    from pyarrow import parquet

    marked = [[*ids, 1] for ids in documents]
    flat = np.array([i for ids in marked for i in ids], np.uint32)
    batch = IdDocuments(flat, np.cumsum([len(ids) for ids in marked], dtype=np.int64))
    write_megatron(folder / "megatron.bin", [batch], 512)
    (folder / "datatrove").mkdir()
    write_datatrove(folder / "datatrove" / "00000.ds", [batch], 512, "tokenizer")
    flat.astype("<u2").tofile(folder / "nanogpt.bin")
    parquet.write_table(pyarrow.table({"input_ids": documents}), folder / "rows.parquet")


def stillroom(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        run(list(arguments))
    return left.value.code  # type: ignore[return-value]


def _made_before(number: int) -> None:
    """Runs the earlier commands of the page whose ``--out`` this one names: any one may be the first of a process."""
    for place, command in enumerate(COMMANDS[:number]):
        words = shlex.split(command)
        out = words[words.index("--out") + 1] if "--out" in words else ""
        if out and out in shlex.split(COMMANDS[number]) and not Path(out).exists() and "--dry-run" not in words:
            _made_before(place)
            assert stillroom(*words[1:]) == 0


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_a_command_of_the_page_does_what_it_says(number: int, shelf: Path, monkeypatch, capfd) -> None:
    words = shlex.split(COMMANDS[number])
    assert words[0] == "stillroom"
    if "MODEL" in words:
        pytest.skip("names a model of the reader's")
    monkeypatch.chdir(shelf)
    own = words[words.index("--out") + 1] if "--out" in words else ""
    if own not in shlex.split(" ".join(COMMANDS[:number])):
        _made_before(number)
    before = {file.name for file in shelf.iterdir()}
    assert stillroom(*words[1:]) == 0, capfd.readouterr().err
    made = {file.name for file in shelf.iterdir()} - before
    if "--dry-run" in words or words[2] == "inspect":
        assert not made
    elif words[2] in ("build", "import"):
        corpus = open_corpus(Path(words[words.index("--out") + 1]))
        assert corpus.train.num_tokens >= 20_000 and made == {corpus.folder.name}


def test_what_a_dry_run_prints_is_a_configuration(shelf: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(shelf)
    asked = ["notes", "--train-tokenizer", "512", "--tokens", "10k", "--heldout-tokens", "1k", "--length", "64"]
    assert stillroom("corpus", "build", *asked, "--out", str(tmp_path / "none"), "--dry-run") == 0
    printed = capfd.readouterr().out
    assert not (tmp_path / "none").exists() and "10,000 tokens" in printed
    (tmp_path / "config.yaml").write_text(printed[: printed.index("Sources")])
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["sequence_length"] == 64
    place = ["--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "corpus"), "--jobs", "1"]
    assert stillroom("corpus", "build", *place, "--length", "32") == 0
    corpus = open_corpus(tmp_path / "corpus")
    assert (corpus.train.sequence_length, corpus.source_names) == (32, ["notes"])


def test_shares_and_fields_reach_the_corpus(shelf: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(shelf)
    asked = ["web=crawl", "notes", "--share", "web=1", "--share", "notes=3", "--field", "body", "--out"]
    more = ["--tokenizer", "tokenizer", "--tokens", "8k", "--heldout-tokens", "1k", "--length", "32", "--jobs", "1"]
    assert stillroom("corpus", "build", *asked[:-3], "--set", "sources.web.field=body", "--out",
                     str(tmp_path / "c"), *more) == 0  # fmt: skip
    assert np.bincount(open_corpus(tmp_path / "c").train.source).tolist() == [63, 187]


MISTAKES = {
    "no data": ([], "DATA is missing"),
    "no tokens": (["notes", "--length", "32", "--train-tokenizer", "512"], "--tokens is missing"),
    "no length": (["notes", "--tokens", "8k", "--train-tokenizer", "512"], "--length is missing"),
    "no tokenizer": (["notes", "--tokens", "8k", "--length", "32"], "give --tokenizer .* or --train-tokenizer"),
    "two tokenizers": (["notes", "--tokenizer", "tokenizer", "--train-tokenizer", "512"], "are both given"),
    "no number": (["notes", "--tokens", "much"], "'much': is no number of tokens"),
    "no tokens at all": (["notes", "--tokens", "0", "--length", "32", "--tokenizer", "tokenizer"], "train_tokens is 0"),
    "too long": (["notes", "--tokens", "8k", "--length", "9999999", "--tokenizer", "tokenizer"], "sequence_length"),
    "too few tokens": (["notes", "--tokens", "8k", "--length", "32", "--train-tokenizer", "9"], "vocab_size is 9"),
    "nothing there": (["nowhere", "--tokens", "8k"], "nowhere: no such file or folder"),
    "another place": (["notes", "--on", "moon"], "on is 'moon'"),
    "a rank of none": (["notes", "--rank", "3", "--world", "2"], "rank: is 3, expected 0 to 1"),
    "other packing": (["notes", "--packing", "tight"], "packing is 'tight'"),
    "other digits": (["notes", "--train-tokenizer", "512", "--digits", "two"], "digits is 'two'"),
    "digits of a given one": (["notes", "--digits", "runs"], "digits and specials are of a trained tokenizer"),
    "a special twice": (["notes", "--train-tokenizer", "512", "--special", "a", "--special", "a"], "named twice"),
    "a field of text": (["notes", "--field", "body"], "is text, which has no fields"),
    "an unknown field": (["notes", "--set", "packings=1"], "packings is not a field"),
    "a config that is none": (["--config", "notes"], "notes: cannot be read"),
    "a config that is text": (["--config", "notes/1.txt"], r"1\.txt"),
    "a file at out": (["notes", "--out", "notes/1.txt"], r"1\.txt: is a file"),
    "other errors": (["notes", "--errors", "hide"], "errors is 'hide'"),
    "ids for text": (["ids/nanogpt.bin"], r"nanogpt\.bin: is binary"),
    "too much": (["notes", "--tokens", "80M"], "sources.notes: holds"),
}  # fmt: skip
NEEDED = {"--tokens": "8k", "--heldout-tokens": "1k", "--length": "32", "--tokenizer": "tokenizer", "--jobs": "1"}
AS_THEY_ARE = ("no ", "two tok", "too few", "nothing")


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    case: str, shelf: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    arguments, sentence = MISTAKES[case]
    monkeypatch.chdir(shelf)
    given = {} if case.startswith(AS_THEY_ARE) else {k: v for k, v in NEEDED.items() if k not in arguments}
    if "--train-tokenizer" in arguments:
        given.pop("--tokenizer", None)
    place = [] if "--out" in arguments else ["--out", str(tmp_path / "corpus")]
    more = [word for pair in given.items() for word in pair]
    assert stillroom("corpus", "build", *arguments, *place, *more) == 2
    said = capfd.readouterr().err
    assert re.search(sentence, said.replace("\n", " ")) and "Traceback" not in said
    assert not list(tmp_path.iterdir())


IMPORTS = {
    "text for ids": (["notes"], "holds no file of token ids by its name"),
    "other dtype": (["ids/nanogpt.bin", "--dtype", "float32"], "dtype is 'float32'"),
    "other end": (["ids/nanogpt.bin", "--document-end", "soon"], "end"),
    "of another width": (
        ["ids/nanogpt.bin", "--dtype", "uint32"],
        r"expected an id below 512|no whole number of uint32",
    ),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_a_mistake_about_ids_is_one_sentence(case: str, shelf: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    arguments, sentence = IMPORTS[case]
    monkeypatch.chdir(shelf)
    more = [word for pair in NEEDED.items() for word in pair]
    assert stillroom("corpus", "import", *arguments, "--out", str(tmp_path / "corpus"), *more) == 2
    said = capfd.readouterr().err
    assert re.search(sentence, said.replace("\n", " ")) and "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_exports_and_looks_that_cannot_be_met_are_told(shelf: Path, tiny_corpus: Corpus, tmp_path: Path, capfd) -> None:
    corpus = str(tiny_corpus.folder)
    for arguments, sentence in (
        (["export", corpus, str(tmp_path / "a"), "--to", "megatrom"], "did you mean megatron"),
        (["export", str(shelf / "notes"), str(tmp_path / "a")], "corpus.json"),
        (["inspect", str(tmp_path / "nowhere")], "no such file"),
        (["inspect", str(shelf / "notes" / "1.txt")], "holds no file of token ids"),
    ):
        assert stillroom("corpus", *arguments) == 2
        assert sentence in capfd.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())
    assert stillroom("corpus", "inspect", corpus) == 0
    assert "from facts" in capfd.readouterr().out


@pytest.mark.parametrize("verb", ["build", "import", "export", "inspect"])
def test_the_help_of_a_verb_has_an_example(verb: str, capfd) -> None:
    assert stillroom("corpus", verb, "--help") == 0
    shown = re.sub(r"\s+", " ", capfd.readouterr().out)
    assert f"stillroom corpus {verb}" in shown.split("Example", 1)[1] and "🆔" not in shown
