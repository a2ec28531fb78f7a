"""Pictures are well-formed and say the numbers they were given; ``inspect`` writes them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from stillroom.analysis import Passage, attention_svg, page_html, scores_svg, series_svg, tokens_html
from stillroom.config import CorpusConfig, ModelConfig, RunConfig, SourceConfig, to_yaml
from stillroom.corpora.tokenizer import train_tokenizer
from stillroom.models import build_model, export_model
from stillroom.study.export import describe_start
from stillroom.study.inspect import inspect_path
from stillroom.study.model_inspection import ModelRequest, coloured
from stillroom.training.checkpoint import Checkpoints
from stillroom.types import UserError

SVG = "{http://www.w3.org/2000/svg}"


def test_attention_is_drawn_where_it_lies() -> None:
    pattern = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    tree = ElementTree.fromstring(attention_svg(pattern, ["a", "<b>", "c\n"], title="head"))
    cells = tree.findall(f"{SVG}rect")[1:]
    assert len(cells) == 4
    by_place = {(int(cell.get("y", 0)) // 9, (int(cell.get("x", 0)) - 84) // 9): cell.get("fill") for cell in cells}
    assert by_place[0, 0] == by_place[2, 1] != by_place[1, 0]
    assert [text.text for text in tree.findall(f"{SVG}text")] == ["a", "<b>", "c⏎"]


def test_scores_are_told_apart_by_sign() -> None:
    tree = ElementTree.fromstring(scores_svg(torch.tensor([[1.0, 0.0], [-1.0, 0.25]]), title="copying", low=-1.0))
    fills = [cell.get("fill") for cell in tree.findall(f"{SVG}rect")]
    assert fills[1] == "#ffffff" and len(set(fills)) == 4
    assert [cell.findtext(f"{SVG}title") for cell in tree.findall(f"{SVG}rect")][2] == "layer 1 head 0: -1.000"


def test_a_series_ends_with_its_last_value() -> None:
    tree = ElementTree.fromstring(series_svg([10, 20, 30], {"x": [0.0, 0.5, 0.75]}, title="t", unit="nats"))
    assert any(text.text == "x 0.75" for text in tree.findall(f"{SVG}text"))
    line = tree.find(f"{SVG}polyline")
    assert line is not None
    points = line.get("points", "").split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == sorted(heights, reverse=True) and len(points) == 3


def test_tokens_are_coloured_by_gain_and_escaped() -> None:
    passage = Passage(("<a>", " b", "\n"), (2.0, -2.0, 0.0))
    html = tokens_html(passage)
    assert "&lt;a&gt;" in html and 'title="-2.00 nats"' in html and "#ffffff" in html
    text = coloured(passage)
    assert text.plain.endswith("<a> b⏎") and len({str(span.style) for span in text.spans}) == 3
    assert page_html("a & b", [html]).count("&amp;") == 2


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    tokenizer = train_tokenizer(["the cat sat on the mat. "] * 3, 270)
    made = []
    for step in (100, 200):
        folder = tmp_path / "run" / f"step-{step}"
        config = ModelConfig(hidden_size=16, intermediate_size=16, num_heads=2, num_layers=2, max_positions=128)
        export_model(build_model(config, 270, step), folder)
        tokenizer.save_pretrained(folder)
        made.append(folder)
    return made


def test_inspect_shows_ablation_and_writes_pictures(folders, tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.html"
    inspect_path(folders[0], verify=False, request=ModelRequest(text="the cat sat", html=page))
    shown = capsys.readouterr().out
    assert "loss without it" in " ".join(shown.split()) and shown.count("+0.0") + shown.count("-0.0") >= 4
    written = page.read_text()
    assert written.count("<svg") == 8 and "over the text" in written and "http://www.w3.org/2000/svg" in written
    with pytest.raises(UserError, match="--corpus"):
        inspect_path(folders[0], verify=False, request=ModelRequest(against=folders[1]))


def test_inspect_follows_the_scores_over_checkpoints(folders, tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.html"
    inspect_path(folders[0].parent, verify=False, request=ModelRequest(html=page))
    shown = capsys.readouterr().out
    assert "100" in shown and "200" in shown and "prefix matching" in " ".join(shown.split())
    assert page.read_text().count("<polyline") == 4


def test_inspect_follows_a_run_under_way(folders, tmp_path: Path, capsys) -> None:
    run, config = tmp_path / "under-way", ModelConfig(hidden_size=16, intermediate_size=16, num_heads=2, num_layers=2)
    tokenizer = train_tokenizer(["the cat sat on the mat. "] * 3, 270)
    checkpoints = Checkpoints(run / "checkpoints", keep_last=5)
    for step in (3, 12):
        model = build_model(config, 270, step)
        tensors = {f"model.model.{name}": value.detach() for name, value in model.named_parameters()}
        checkpoints.save(step, tensors, {"seconds": 1.0})
    checkpoints.wait()
    describe_start(run, model, tokenizer, {"parameters": 1, "distinct_tokens": 1})
    corpus = CorpusConfig(sources={"facts": SourceConfig(kind="facts")})
    (run / "config.yaml").write_text(to_yaml(RunConfig(corpus=corpus, model=config), "run"))
    (run / "metrics.jsonl").write_text("")
    inspect_path(run, verify=False, request=ModelRequest())
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [line.split("│")[1].strip() for line in shown] == ["3", "12"]
    folder = tmp_path / "exported"
    export_model(build_model(config, 270, 12), folder)
    inspect_path(folder, verify=False, request=ModelRequest(ablation=False))
    best = max(line.split("│")[3].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
    assert shown[1].split("│")[2].strip() == best
