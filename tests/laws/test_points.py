"""Points from tables and runs; what is no point is refused in one sentence that says what it may be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_points import made_points

from stillroom.config import StudyConfig, to_yaml
from stillroom.laws.fitting import fit_law
from stillroom.laws.law_file import load_law
from stillroom.laws.points import COLUMNS, Pilots, measured_loss, read_pilots
from stillroom.laws.study_forecast import study_forecasts, write_forecast
from stillroom.recipes.tiny import tiny
from stillroom.report.page import page_text
from stillroom.report.view import make_view
from stillroom.results import load
from stillroom.results.json_form import as_json
from stillroom.results.schema import MeasuredOn
from stillroom.types import UserError

ROWS = "1e6,1e7,,3.5\n1e6,1e7,3.0,3.4\n"


def table(tmp_path: Path, rows: str, head: str = ",".join(COLUMNS)) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(f"{head}\n{rows}")
    return path


def test_a_table_is_read_and_an_empty_teacher_means_hard_labels(tmp_path: Path) -> None:
    points = read_pilots([table(tmp_path, ROWS)]).points
    assert len(points.hard) == 1 and len(points.distilled) == 1
    assert points.distilled.teacher_P == pytest.approx([3.0])
    assert points.names_P[1].endswith("line 3")


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ("1e6,1e7,3.0,nan\n", "line 2: student_nats is NaN"),
        ("1e6,1e7,3.0,inf\n", "line 2: student_nats is inf"),
        ("1e6,1e7,3.0,0.31\n", "a loss per byte is multiplied by bytes per token"),
        ("1e6,1e7,3.0,33\n", "of a perplexity take the logarithm"),
        ("1e6,1e7,0.2,3.1\n", "teacher_nats is 0.2"),
        ("0,1e7,3.0,3.1\n", "student_parameters is 0"),
        ("1e6,-5,3.0,3.1\n", "student_tokens is -5"),
        ("1e6,some,3.0,3.1\n", "student_tokens is 'some'"),
        ("1e6,1e7\n", "student_nats is ''"),
        ("1e6,1e7,3.0,3.1\n1000000,1e7,3,3.1\n", "line 3: is the same student as .*line 2"),
    ],
)
def test_a_row_that_is_no_student_is_refused(tmp_path: Path, rows: str, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        read_pilots([table(tmp_path, rows)])


def test_a_table_of_bits_is_refused_with_what_to_multiply_by(tmp_path: Path) -> None:
    head = "student_parameters,student_tokens,teacher_nats,student_bits_per_byte"
    with pytest.raises(UserError, match=r"no column student_nats.*student_bits_per_byte is no loss in nats.*0.693"):
        read_pilots([table(tmp_path, ROWS, head)])


def test_nothing_and_a_table_among_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run and no table"):
        read_pilots([])
    with pytest.raises(UserError, match="a table stands alone"):
        read_pilots([table(tmp_path, ROWS), tmp_path])


LOSSES = {"teacher": 3.1, "spt": 4.4, "dpt90": 4.2, "dpt90_routed": 4.3}


def made_run(folder: Path, config: StudyConfig, fingerprint: str, **changes: dict) -> Path:
    """A run folder with made-up numbers: what a law is fitted on and nothing else."""
    models = []
    for name, loss in LOSSES.items():
        record = {
            "name": name, "role": "teacher" if name == "teacher" else "student", "label": name,
            "folder": f"models/{name}", "parameters": 139_584, "tokens": 32_768,
            "epochs": 2.0 if name == "teacher" else 1.0,
            "alpha": 0.9 if "dpt" in name else 0.0,
            "routing": {"rule": "low-entropy", "share": 0.15} if "routed" in name else None,
        }  # fmt: skip
        models.append(record | changes.get(name, {}))
        home = folder / "models" / name
        home.mkdir(parents=True)
        one = {"value": loss, "low": loss, "high": loss, "num": 3}
        (home / "evaluation.json").write_text(json.dumps({"lm": {"bits_per_byte": one, "nats_per_token": one}}))
        (home / "metrics.jsonl").write_text("")
    (folder / "config.yaml").write_text(to_yaml(config, "study"))
    (folder / "environment.json").write_text("{}")
    study = {"name": "tiny", "fingerprint": fingerprint, "models": models}
    (folder / "study.json").write_text(json.dumps(study))
    return folder


def test_runs_give_students_of_one_pass_that_are_not_routed(tmp_path: Path) -> None:
    pilots = read_pilots([made_run(tmp_path / "a", tiny(), "a")])
    points = pilots.points
    assert [name.rpartition(": ")[2] for name in points.names_P] == ["spt", "dpt90"]
    assert pytest.approx([139_584 - 512 * 64] * 2) == points.N_P  # tied embeddings are left out
    assert pytest.approx([32_768] * 2) == points.D_P
    assert np.isnan(points.teacher_P[0]) and points.teacher_P[1] == 3.1
    assert pilots.model is not None and pilots.model.vocabulary == 512 and pilots.model.width_per_layer == 32


def test_a_teacher_of_one_pass_is_a_student_of_hard_labels(tmp_path: Path) -> None:
    shape = {"epochs": 1.0, "parameters": 270_816}
    points = read_pilots([made_run(tmp_path / "a", tiny(), "a", teacher=shape)]).points
    assert points.N_P[0] == 270_816 - 512 * 96


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    first = made_run(tmp_path / "a", tiny(), "a")
    with pytest.raises(UserError, match="is the same run as"):
        read_pilots([first, made_run(tmp_path / "b", tiny(), "a")])
    other = tiny().model_copy(update={"corpus": tiny().corpus.model_copy(update={"vocab_size": 600})})
    with pytest.raises(UserError, match=r"its corpus differs in vocab_size .*losses cannot be compared"):
        read_pilots([first, made_run(tmp_path / "c", other, "c")])
    half = made_run(tmp_path / "d", tiny(), "d", dpt90={"alpha": 0.5})
    with pytest.raises(UserError, match=r"alpha 0\.5 and 0\.9, expected one value"):
        read_pilots([first, half])


def test_a_model_that_two_studies_share_counts_once(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / name, tiny(), name) for name in "ab"]
    assert len(read_pilots(folders).points) == len(read_pilots(folders[:1]).points) == 2


def test_a_teachers_loss_is_read_from_a_run_and_from_a_ranking(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "a", tiny(), "a")
    assert measured_loss(str(folder)) == 3.1
    assert measured_loss(f"{folder}:spt") == 4.4
    ranking = tmp_path / "rankings"
    ranking.mkdir()
    (ranking / "ranking.json").write_text(json.dumps({"teachers": [{"name": "base", "ce": {"value": 2.5}}]}))
    assert measured_loss(f"{ranking}:base") == 2.5
    with pytest.raises(UserError, match=r"expected .*:NAME of base"):
        measured_loss(str(ranking))
    with pytest.raises(UserError, match="no model other"):
        measured_loss(f"{folder}:other")


def test_a_study_is_foretold_and_stands_beside_its_outcome(tmp_path: Path) -> None:
    config = tiny()
    wide = made_points(0)
    points = replace(wide, N_P=wide.N_P / 2e8 * 5e4, D_P=wide.D_P / 4e9 * 2e4)
    law = fit_law("made", Pilots(points), resamples=20, jobs=1)
    before = {one.arm: one for one in study_forecasts(law, config)}
    assert before["spt"].forecast is not None
    assert "not known before it is measured" in before["dpt90"].why  # its teacher sees text twice
    assert "routing" in before["dpt90_routed"].why
    assert study_forecasts(law, config, 2.2)[2].forecast is not None
    folder = made_run(tmp_path / "a", config, "a")
    after = {one.arm: one for one in write_forecast(law, config, folder).arms}
    page = page_text(make_view((load(folder),)))
    assert "Forecast and outcome" in page and "4.400 (outside)" in page and "its interval)" in page
    (folder / "forecast.json").unlink()
    assert "Forecast and outcome" not in page_text(make_view((load(folder),)))
    assert after["spt"].outcome == 4.4 and after["spt"].cells()[2] == "4.400 (outside)"


def _measured_on(run: Path, on: MeasuredOn) -> Path:
    for file in run.glob("models/*/evaluation.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"measured_on": as_json(on)}))
    return run


OWN = MeasuredOn(text="t", tokenizer="a")
OTHERS = {
    "held-out text": MeasuredOn(text="u", tokenizer="a"),
    "tokenizer": MeasuredOn(text="t", tokenizer="b"),
    "held-out text and tokenizer": MeasuredOn(text="u", tokenizer="b"),
}


@pytest.mark.parametrize("apart", OTHERS)
def test_losses_of_other_text_or_tokens_meet_no_law(tmp_path: Path, apart: str) -> None:
    """Although the configurations are alike: files changed, or a tokenizer's folder holds another one."""
    config = tiny()
    own = _measured_on(made_run(tmp_path / "own", config, "own"), OWN)
    other = _measured_on(made_run(tmp_path / "other", config, "other"), OTHERS[apart])
    with pytest.raises(UserError, match=rf"other: was measured on another {apart} than .*own, although both ask"):
        read_pilots([own, other])
    wide = made_points(0)
    points = replace(wide, N_P=wide.N_P / 2e8 * 5e4, D_P=wide.D_P / 4e9 * 2e4)
    fit_law("made", Pilots(points, measured_on=OWN), resamples=20, jobs=1).save(tmp_path / "law.json")
    law = load_law(str(tmp_path / "law.json"))
    assert law.measured_on == OWN == read_pilots([own]).measured_on
    assert measured_loss(str(own), law.measured_on) == measured_loss(str(other)) == 3.1
    with pytest.raises(UserError, match=rf"--teacher .*other: its loss is of another {apart} than the law's"):
        measured_loss(str(other), law.measured_on)
    shutil.copy(other / "models/spt/evaluation.json", own / "models/spt/evaluation.json")  # one model of several
    assert measured_loss(str(own), law.measured_on) == 3.1
    with pytest.raises(UserError, match=rf"its loss is of another {apart} than the law's"):
        measured_loss(f"{own}:spt", law.measured_on)
    told = write_forecast(law, config, other).arms
    assert all(one.forecast is None and one.why == f"the law is of another {apart}" for one in told)
    assert all("outside" not in one.cells()[2] for one in told)
    assert any(one.forecast is not None for one in write_forecast(law, config, own).arms)
    with pytest.raises(UserError, match=rf"--supervised made: is a law of another {apart}"):
        fit_law("taught", Pilots(points.distilled, measured_on=OTHERS[apart]), law, resamples=20, jobs=1)
