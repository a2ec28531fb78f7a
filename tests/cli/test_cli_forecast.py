"""``stillroom forecast``: every verb once, mistakes in one sentence with exit code 2, and no torch on the way."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from stillroom.cli.main import run
from stillroom.laws.points import COLUMNS


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        run(["forecast", *arguments])
    said = capsys.readouterr()
    return int(left.value.code or 0), " ".join(said.out.split()), " ".join(said.err.split())


STUDENT = ("--parameters", "1e9", "--tokens", "2e10")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Students of the published law, without noise."""
    from stillroom.laws.presets import BUSBRIDGE_2025 as law

    path = tmp_path_factory.mktemp("points") / "points.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for N in (2e8, 8e8, 3e9):
            for D in (5e9, 2e10, 1e11):
                writer.writerow((N, D, "", float(law.supervised.loss(N, D))))
                writer.writerows((N, D, teacher, float(law.loss(N, D, teacher))) for teacher in (1.95, 2.3))
    return path


@pytest.mark.parametrize("verb", ["fit", "predict", "plan", "next"])
def test_the_help_has_an_example(verb, capsys):
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0 and "Example" in out and f"stillroom forecast {verb}" in out


def test_predict_says_every_number(capsys):
    code, out, _ = call(
        capsys, "predict", *STUDENT, "--teacher-loss", "2.2", "--teacher-parameters", "4e9", "--teacher-tokens", "1e11",
        "--flops-per-second", "4e14", "--price-per-hour", "2",
    )  # fmt: skip
    assert code == 0
    for words in ("hard labels (SPT)", "2.375", "distilled (DPT)", "2.317", "data multiplier", "catch up", "bill: both",
                  "hours", "price", "label store", "C4"):  # fmt: skip
        assert words in out, words


def test_fit_writes_a_law_and_a_page_that_the_other_verbs_read(capsys, tmp_path, table):
    out_folder = tmp_path / "law"
    code, out, err = call(capsys, "fit", str(table), "--out", str(out_folder), "--resamples", "20", "--jobs", "1")
    assert code == 0, err
    assert "form is kept" in out and (out_folder / "law.json").exists()
    page = (out_folder / "forecast.html").read_text()
    assert all(title in page for title in ("Loss and crossing", "The best size at the same FLOPs", "Residuals"))
    assert "nan" not in page.split("<main>")[1].lower().replace("finance", "")
    law = ("--law", str(out_folder))
    code, out, _ = call(capsys, "predict", *STUDENT, "--teacher-loss", "2.2", *law)
    assert code == 0 and "outside" not in out
    code, out, _ = call(capsys, "plan", "--flops", "1e21", *law)
    assert code == 0 and "plain pretraining" in out and "pretraining" in out
    code, out, _ = call(capsys, "next", "--flops", "1e20", *STUDENT, "--teacher-loss", "2.2", *law)
    assert code == 0 and "interval becomes" in out


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("predict", *STUDENT), "neither is given, expected one of them"),
        (("predict", *STUDENT, "--teacher-loss", "2.2", "--teacher", "runs/x"), "both are given"),
        (("predict", *STUDENT, "--teacher", "nowhere"), "no such folder"),
        (
            ("predict", *STUDENT, "--teacher-loss", "2.2", "--law", "nowhere.json"),
            "expected a law of stillroom forecast",
        ),
        (("predict", "--parameters", "1e9", "--tokens", "1e6", "--teacher-loss", "2.2"), "tokens: is 1e+06"),
        (("plan", "--flops", "nan"), "flops: is nan"),
        (("fit", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments, wanted, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *arguments)
    assert code == 2 and wanted in err, err
    assert not list(tmp_path.iterdir())


def test_a_table_without_hard_labels_says_where_the_supervised_law_may_be_from(capsys, tmp_path, table):
    rows = [row for row in csv.reader(table.read_text().splitlines()) if row[2]]
    taught = tmp_path / "taught.csv"
    with taught.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    code, _, err = call(capsys, "fit", str(taught), "--out", str(tmp_path / "law"))
    assert code == 2 and "--supervised busbridge-2025" in err
    assert not (tmp_path / "law").exists()


def test_nothing_of_torch_is_imported():
    script = (
        "import sys; from stillroom.cli.main import run\n"
        "try: run(['forecast', 'predict', '--parameters', '1e9', '--tokens', '2e10', '--teacher-loss', '2.2'])\n"
        "except SystemExit as left: assert not left.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
