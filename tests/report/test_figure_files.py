"""Figures as files for papers: well formed, of plain style, with their legends and numbers, for every kind of run."""

from __future__ import annotations

import csv
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest
from markupsafe import Markup
from test_every_kind import bigram, ranking, recall

from make_run import make_run
from stillroom.cli.main import run as command
from stillroom.report import pictures
from stillroom.report.charts.svg import drawing, segment
from stillroom.report.figure_files import Paper, paper_picture, plain_style, write_figures
from stillroom.report.figures import Figure, Panel, Table
from stillroom.report.kinds import figures_of
from stillroom.types import UserError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("make", [make_run, bigram, recall, ranking])
def test_every_figure_of_every_kind_of_run_is_written(make, tmp_path):
    make(tmp_path / "run")
    figures = figures_of([tmp_path / "run"])
    written = write_figures(figures, tmp_path / "figures")
    assert sorted(written) == sorted((tmp_path / "figures").iterdir())
    shown = pictures([tmp_path / "run"])  # as a notebook has them
    assert {f"{name}.svg": one._repr_svg_() for name, one in shown.items()} == {
        file.name: file.read_text(encoding="utf-8") for file in written if file.suffix == ".svg"
    }
    assert len([file for file in written if file.suffix == ".svg"]) == sum(len(one.panels) for one in figures) > 2
    for figure in figures:
        files = [file for file in written if re.fullmatch(rf"{figure.id.removeprefix('fig-')}(-\d+)?\.svg", file.name)]
        for file, panel in zip(files, figure.panels, strict=True):
            root = ET.parse(file).getroot()
            words = {text.text for text in root.iter(f"{SVG}text")}
            assert {name for name, _ in figure.legend} | ({panel.title} - {""}) <= words
            assert "var(" not in file.read_text() and "currentColor" not in file.read_text()
        if figure.table is not None:
            table = (tmp_path / "figures" / f"{figure.id.removeprefix('fig-')}.csv").read_text()
            rows = list(csv.reader(table.splitlines()))
            assert [tuple(row) for row in rows] == [figure.table.head, *figure.table.rows]


def test_a_file_is_of_the_width_that_was_asked_for_and_holds_all_of_its_drawing():
    picture = drawing(500, 200, "a", "b", segment(0, 0, 500, 200, "curve s0"))
    root = ET.fromstring(
        paper_picture(
            picture, "T = 1", (("<SPT>", Markup("<svg width='24'></svg>".replace("'", '"'))),), Paper(width=85)
        )
    )
    assert root.get("width") == "85mm"
    left, top, width, height = map(float, root.get("viewBox", "").split())
    assert left < 0 and top < 0 and left + width > 500 and top + height > 200
    assert float(root.get("height", "").removesuffix("mm")) == pytest.approx(85 * height / width, abs=0.01)
    assert "<SPT>" in [text.text for text in root.iter(f"{SVG}text")]


def test_a_model_s_colour_is_spelt_out_and_letters_are_of_the_family():
    style = plain_style("Times")
    assert ".curve.s0 {fill: none; stroke: #0072b2; stroke-width: 2;" in style and "font-family: Times" in style
    assert "@" not in style and "--" not in style and ".halo" not in style


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "png"], "--format png: expected some of svg, pdf, csv"),
        (["--format", ","], "expected some of"),
        (["--width", "5"], "width"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_page(options, words, tmp_path, capsys):
    make_run(tmp_path / "run")
    with pytest.raises(SystemExit) as left:
        command(["report", str(tmp_path / "run"), "--figures", str(tmp_path / "figures"), *options])
    assert left.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "run/report.html").exists() and not (tmp_path / "figures").exists()


@pytest.mark.parametrize("option", [("--format", "pdf"), ("--width", "85"), ("--font", "Times")])
def test_what_is_of_files_alone_has_no_effect_without_them_and_is_refused(option, tmp_path, capsys):
    make_run(tmp_path / "run")
    with pytest.raises(SystemExit) as left:
        command(["report", str(tmp_path / "run"), *option])
    assert left.value.code == 2 and f"{option[0]} {option[1]}" in capsys.readouterr().err.replace(".0:", ":")
    assert not (tmp_path / "run/report.html").exists()


def test_pdf_asks_for_its_package_and_leaves_nothing(tmp_path, monkeypatch):
    figure = Figure("fig-a", "A", panels=(Panel("", drawing(500, 200, "a", "b")),), table=Table(("x",), (("1",),)))
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(UserError, match="pip install 'stillroom\\[figures\\]'"):
        write_figures([figure], tmp_path / "figures", Paper(("pdf", "csv")))
    assert list(tmp_path.iterdir()) == []
    drawn = []
    made = SimpleNamespace(svg2pdf=lambda bytestring: drawn.append(bytestring) or b"%PDF")
    monkeypatch.setitem(sys.modules, "cairosvg", made)
    assert [file.name for file in write_figures([figure], tmp_path / "figures", Paper(("pdf", "csv")))] == [
        "a.pdf",
        "a.csv",
    ]
    assert ET.fromstring(drawn[0]).tag == f"{SVG}svg"


@pytest.mark.real
def test_pdf_is_made_by_its_package(tmp_path):
    pytest.importorskip("cairosvg")
    make_run(tmp_path / "run")
    written = write_figures(figures_of([tmp_path / "run"]), tmp_path / "figures", Paper(("pdf",)))
    assert written and all(file.read_bytes().startswith(b"%PDF-") for file in written)


def test_a_folder_that_is_there_is_kept(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/own.txt").write_text("mine")
    figure = Figure("fig-a", "A", panels=(Panel("", drawing(500, 200, "a", "b")),))
    with pytest.raises(UserError, match="figures"):
        write_figures([figure], tmp_path / "figures")
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["own.txt"]
    with pytest.raises(UserError, match="no figure"):
        write_figures([], tmp_path / "others")


def test_the_folder_may_be_beside_and_the_command_says_what_it_wrote(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("run"))
    with pytest.raises(SystemExit) as left:
        command(["report", "run", "--figures", "figures", "--format", "csv"])
    assert left.value.code in (0, None) and "files in figures" in capsys.readouterr().out
    assert {file.suffix for file in Path("figures").iterdir()} == {".csv"}
