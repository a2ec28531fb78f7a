"""A run as dataclasses: files read as what was written and write as they were; what they lack is told in a sentence."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import stillroom.results
from make_run import KS, make_run
from stillroom.results import json_form, schema
from stillroom.results.json_form import as_json, from_json, read, read_lines
from stillroom.types import UserError

KINDS = {
    "study.json": schema.StudyRecord,
    "environment.json": schema.Environment,
    "comparison.json": schema.Comparison,
    "worth.json": schema.WorthTable,
    "labels/profile.json": schema.EntropyProfile,
    "models/spt/evaluation.json": schema.Evaluation,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def contained(less: object, more: object) -> bool:
    """Whether all that is in one JSON value is in the other too."""
    if isinstance(less, dict):
        return isinstance(more, dict) and all(name in more and contained(less[name], more[name]) for name in less)
    if isinstance(less, list):
        return isinstance(more, list) and len(less) == len(more) and all(map(contained, less, more))
    return less == more


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_written_with_all_that_was_read(folder: Path, name: str) -> None:
    text = json.loads((folder / name).read_text())
    written = as_json(read(KINDS[name], folder / name))
    json.dumps(written, allow_nan=False)
    assert as_json(from_json(KINDS[name], written, folder / name)) == written
    for key in set(text) - {"abilities", "against", "models"}:
        assert contained(text[key], written[key]), key


def test_lines_are_written_with_all_that_was_read(folder: Path) -> None:
    for name, kind in (("samples.jsonl", schema.SampledProblem), ("metrics.jsonl", schema.MetricsLine)):
        file = folder / "models" / "dpt90" / name
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [as_json(one) for one in read_lines(kind, file)] == lines


def test_what_a_class_does_not_declare_is_kept(tmp_path: Path) -> None:
    part = {"proof": {"solved": {"value": 0.5, "low": 0.4, "high": 0.6, "num": 9}}}
    evaluation = from_json(schema.Evaluation, part, tmp_path / "evaluation.json")
    assert as_json(evaluation) == part
    ((place, found),) = stillroom.results.estimates(evaluation)
    assert place == ("proof", "solved") and (found.value, found.num) == (0.5, 9)


def test_a_part_that_does_not_fit_is_named(tmp_path: Path) -> None:
    for value, words in (({"lm": {}}, "lm.bits_per_byte does not fit"), (3, "the whole file does not fit")):
        with pytest.raises(UserError, match=f"evaluation.json: {words}"):
            from_json(schema.Evaluation, value, tmp_path / "evaluation.json")


def test_a_run_gives_rows_with_units(folder: Path) -> None:
    run = stillroom.results.load(folder)
    assert [model.record.name for model in run.models] == ["teacher", "spt", "spt2x", "dpt90", "dpt90_routed"]
    bits = run.model("dpt90").evaluation.lm.bits_per_byte
    (row,) = [row for row in run.measures if (row.model, row.place) == ("dpt90", "lm bits_per_byte")]
    assert (row.value, row.low, row.high, row.num) == (bits.value, bits.low, bits.high, bits.num)
    assert (row.unit, row.better, row.arm, row.seed) == ("bits", "lower", "dpt90", None)
    assert {row.place for row in run.measures} >= {f"tts temperatures 0.6 pass_at {k}" for k in KS}
    assert {point.name for point in run.curves if point.kind == "validation"} == {"ce"}
    heads = run.model("teacher").evaluation.heads
    assert len([row for row in run.heads if row.model == "teacher"]) == heads.num_layers * heads.num_heads
    assert sum(row.right for row in run.samples) == sum(one.num_right for m in run.models for one in m.samples)
    with pytest.raises(UserError, match="has no model dpt80; it has teacher, spt"):
        run.model("dpt80")


def test_tables_of_pandas_or_a_sentence_without_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stillroom.results.load(str(folder))
    frame = SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", frame)
    tables = run.to_pandas()
    for field, rows in (("measures", run.measures), ("heads", run.heads), ("samples", run.samples)):
        made, columns = getattr(tables, field)
        assert made == [dataclasses.asdict(row) for row in rows] and columns == list(made[0])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="need pandas, which is not installed"):
        run.to_pandas()


def check_tables(run: stillroom.results.Run) -> None:
    """Every table holds the rows of its kind: names, numbers as they are, and nothing where there is none."""
    pandas, tables = importlib.import_module("pandas"), run.to_pandas()
    for name in ("measures", "curves", "samples", "heads", "worths"):
        table, rows = getattr(tables, name), getattr(run, name)
        assert isinstance(table, pandas.DataFrame) and len(table) == len(rows) > 0, name
        assert list(table.columns) == [field.name for field in dataclasses.fields(rows[0])]
        for row, (_, cells) in list(zip(rows, table.iterrows(), strict=True))[:: max(1, len(rows) // 50)]:
            for column, value in dataclasses.asdict(row).items():
                assert pandas.isna(cells[column]) if value is None else cells[column] == value, (name, column)
    assert list(tables.models["name"]) == [model.record.name for model in run.models]
    assert tables.measures["value"].dtype == tables.worths["low"].dtype == float
    best = tables.worths[tables.worths.amount == "tokens"].groupby("arm").value.max()  # what one does with a table
    assert dict(best) == {
        arm: max(row.value for row in run.worths if row.arm == arm and row.amount == "tokens" and row.value)
        for arm in {row.arm for row in run.worths}
    }


def test_tables_are_those_of_pandas_itself(folder: Path) -> None:
    pytest.importorskip("pandas", reason="needs pandas; make test-real has it")
    check_tables(stillroom.results.load(folder))


@pytest.mark.real
def test_tables_are_those_of_the_installed_pandas(folder: Path) -> None:
    check_tables(stillroom.results.load(folder))


def test_worth_is_a_table_and_a_csv_file(folder: Path, tmp_path: Path) -> None:
    run = stillroom.results.load(folder)
    assert run.worth is not None
    rows = [row for row in run.worths if row.amount == "tokens"]
    assert [(row.arm, row.ability) for row in rows] == [
        (arm, ability.key) for ability in run.worth.abilities for arm in ability.arms
    ]
    found = {(row.arm, row.ability, row.amount): row for row in run.worths}
    for ability in run.worth.abilities:
        for arm, multipliers in ability.arms.items():
            for amount, one in (("tokens", multipliers.data), ("flops", multipliers.compute)):
                row = found[arm, ability.key, amount]
                assert (row.value, row.low, row.high) == tuple(one.as_dict()[end] for end in ("value", "low", "high"))
    assert {row.value is None for row in run.worths} == {row.high is None for row in run.worths} == {True, False}
    stillroom.results.write_csv(run.worths, tmp_path / "worth.csv")
    with (tmp_path / "worth.csv").open(newline="") as stream:
        read_again = list(csv.DictReader(stream))
    assert [one["value"] for one in read_again] == ["" if row.value is None else str(row.value) for row in run.worths]
    stillroom.results.write_csv(run.samples, tmp_path / "samples.csv")  # texts with line ends and commas
    with (tmp_path / "samples.csv").open(newline="") as stream:
        assert [one["completion"] for one in csv.DictReader(stream)] == [row.completion for row in run.samples]
    assert dataclasses.replace(run, worth=None).worths == ()
    with pytest.raises(UserError, match="there is no row to write"):
        stillroom.results.write_csv((), tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_results_load_without_torch_and_numpy(folder: Path) -> None:
    code = (
        f"import sys, stillroom.results as results; run = results.load({str(folder)!r}); assert run.measures;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    assert all(hasattr(stillroom.results, name) for name in stillroom.results.__all__)
    assert json_form.as_json(schema.BySeed()) == {}
