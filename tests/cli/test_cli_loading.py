"""A damaged model ends every verb in one sentence: exit code 2, no traceback, nothing written, nobody asked."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import damaged
from stillroom.cli.main import run
from stillroom.corpora import Corpus
from stillroom.models import build_model, export_model

CASES = {
    "a weight missing": "model.norm.weight",
    "a layer missing": "model.layers.1",
    "no weights": "model.safetensors",
    "zero bytes": "model.safetensors",
    "a pointer of git-lfs": "git lfs pull",
    "cut in half": "model.safetensors",
    "NaN in the last matrix": "NaN",
    "GPTQ": "gptq",
    "an adapter beside": "adapter",
    "a pickle": "pytorch_model.bin",
    "index leads out": "elsewhere.safetensors",
    "model_type unknown": "nonesuch",
    "code of its own": "auto_map",
    "code of its own, new type": "auto_map",
    "BERT": "BertForMaskedLM",
    "width a text": "hidden_size",
    "vocabulary without end": "100000000000",
}


@pytest.fixture(scope="module")
def teacher(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model of the tiny corpus's tokenizer."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    tiny_corpus.tokenizer.save_pretrained(folder)
    export_model(build_model(damaged.SHAPE, tiny_corpus.vocab_size, 0), folder)
    return folder


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says on its way out with a mistake."""
    with pytest.raises(SystemExit) as left:
        run(list(arguments))
    said = capsys.readouterr().err
    assert left.value.code == 2 and "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("stillroom: ")]) == 1
    return said


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr("builtins.input", asked)


@pytest.mark.parametrize("verb", ["inspect", "label", "evaluate"])
@pytest.mark.parametrize("case", CASES)
def test_a_damaged_model_is_refused_by_every_verb(case, verb, teacher, tiny_corpus, tmp_path, capsys):
    folder = Path(shutil.copytree(teacher, tmp_path / "given" / "model"))
    damaged.WEIGHTS[case](folder)
    more = [] if verb == "inspect" else ["--corpus", str(tiny_corpus.folder), "--out", str(tmp_path / "out")]
    said = answer(capsys, verb, str(folder), *more)
    assert CASES[case] in said and str(folder) in said
    assert not (tmp_path / "out").exists() and sorted(path.name for path in tmp_path.iterdir()) in (
        ["given"],
        ["elsewhere.safetensors", "given"],
    )


@pytest.mark.parametrize("case", ["tokenizer.json cut", "padding without end", "tokenizer code of its own"])
def test_a_damaged_tokenizer_is_refused_before_a_store_is_begun(case, teacher, tiny_corpus, tmp_path, capsys):
    folder = Path(shutil.copytree(teacher, tmp_path / "model"))
    damaged.TOKENIZERS[case](folder)
    out = ["--corpus", str(tiny_corpus.folder), "--out", str(tmp_path / "out")]
    assert str(folder) in answer(capsys, "label", str(folder), *out)
    assert not (tmp_path / "out").exists()


def test_a_hub_id_without_a_network_is_one_sentence(tiny_corpus, tmp_path, capsys):
    out = ["--corpus", str(tiny_corpus.folder), "--out", str(tmp_path / "out")]
    assert "org/none" in answer(capsys, "label", "org/none", *out)
    assert not (tmp_path / "out").exists()


def test_a_wrapped_model_is_inspected_as_the_plain_one(teacher, tmp_path, capsys):
    folder = Path(shutil.copytree(teacher, tmp_path / "model"))
    damaged.change_weights(folder, lambda weights: {f"_orig_mod.{name}": value for name, value in weights.items()})
    shown = []
    for one in (teacher, folder):
        with pytest.raises(SystemExit) as left:
            run(["inspect", str(one)])
        assert not left.value.code
        shown.append(capsys.readouterr().out.split("┏", 1)[1])  # the table
    assert shown[0] == shown[1]


@pytest.mark.slow
def test_code_of_a_folder_is_refused_on_a_terminal_without_a_question(teacher, tmp_path):
    folder = Path(shutil.copytree(teacher, tmp_path / "model"))
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    damaged.WEIGHTS["code of its own, new type"](folder)
    outer, inner = pty.openpty()
    os.write(outer, b"y\ny\ny\n")
    done = subprocess.run(
        [sys.executable, "-m", "stillroom", "inspect", str(folder)],
        stdin=inner, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "auto_map" in done.stderr and not (tmp_path / "ran").exists()
