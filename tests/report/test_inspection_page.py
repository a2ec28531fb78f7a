"""Pictures are well-formed and say the numbers they were given; ``inspect`` writes them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from stillroom.config import CorpusConfig, ModelConfig, RunConfig, SourceConfig, to_yaml
from stillroom.corpora.tokenizer import train_tokenizer
from stillroom.models import build_model, export_model
from stillroom.report.pages.inspection_page import inspection_text, write_inspection_page
from stillroom.results.inspected import AttentionPattern, InspectedCheckpoints, InspectedModel, Passage
from stillroom.results.schema import HeadsResult
from stillroom.study.export import describe_start
from stillroom.study.inspect import inspect_path
from stillroom.study.model_inspection import ModelRequest, coloured
from stillroom.training.checkpoint import Checkpoints
from stillroom.types import UserError

HEADS = HeadsResult(
    num_layers=2,
    num_heads=2,
    previous_token=((0.9, 0.0), (0.1, 0.1)),
    prefix_matching=((0.0, 0.1), (0.2, 0.8)),
    copying=((0.0, 0.0), (-1.0, 0.25)),
)


def drawn(page: str, title: str) -> ElementTree.Element:
    """The picture of this title."""
    begin = page.rindex("<svg", 0, page.index(f"<title>{title}</title>"))
    return ElementTree.fromstring(page[begin : page.index("</svg>", begin) + len("</svg>")])


def test_attention_is_drawn_where_it_lies() -> None:
    rows = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 1.0, 0.0))
    pattern = AttentionPattern("layer 1 head 0", rows, ("a", "<b>", "c\n"))
    picture = drawn(inspection_text(InspectedModel("m", HEADS, attention=(pattern,))), "layer 1 head 0")
    assert [text.text for text in picture.findall("text")] == ["a", "<b>", "c⏎"]
    places = {group.get("fill-opacity"): group[0].get("d", "").count("M") for group in picture.findall("g")}
    assert places == {"0.60": 2, "1.00": 2}


def test_scores_are_told_apart_by_sign() -> None:
    picture = drawn(inspection_text(InspectedModel("m", HEADS)), "Head scores of m")
    cells = {cell.findtext("title"): cell for cell in picture.findall("rect")}
    lowest, highest = cells["copying, layer 1, head 0: −1.000"], cells["copying, layer 1, head 1: 0.250"]
    assert (lowest.get("class"), lowest.get("fill-opacity")) == ("cold", "1.000")
    assert (highest.get("class"), highest.get("fill-opacity")) == ("warm", "0.250")


def test_a_series_rises_to_its_last_value() -> None:
    found = InspectedCheckpoints("m", (10, 20, 30), {"x": (0.0, 0.5, 0.75)}, (3.0, 2.0, 1.0))
    page = inspection_text(found)
    picture = drawn(page, "Scores over training")
    (curve,) = [one for one in picture.findall("path") if "curve" in one.get("class", "")]
    heights = [float(place.split(" ")[1]) for place in curve.get("d", "")[1:].split(" L")]
    assert heights == sorted(heights, reverse=True) and len(heights) == 3
    assert "<td>0.750</td>" in page and "<td>1.000</td>" in page


def test_tokens_are_coloured_by_gain_and_escaped() -> None:
    passage = Passage(("<a>", " b", "\n"), (2.0, -2.0, 0.0))
    page = inspection_text(InspectedModel("a & b", HEADS, against="other", passages=(passage,)))
    assert "&lt;a&gt;" in page and 'class="worse by-3" title="−2.00 nats"' in page and "+0.0 nats" in page
    text = coloured(passage)
    assert text.plain.endswith("<a> b⏎") and len({str(span.style) for span in text.spans}) == 3
    assert "a &amp; b" in page and "default-src 'none'" in page


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
    found = inspect_path(folders[0], verify=False, request=ModelRequest(text="the cat sat", attention=True))
    write_inspection_page(page, found)
    shown = capsys.readouterr().out
    assert "loss without it" in " ".join(shown.split()) and shown.count("+0.0") + shown.count("-0.0") >= 4
    written = page.read_text()
    assert written.count("<svg") == 9 and "over the text" in written  # scores, ablation, three keys, four heads
    with pytest.raises(UserError, match="--corpus"):
        inspect_path(folders[0], verify=False, request=ModelRequest(against=folders[1]))


def test_inspect_follows_the_scores_over_checkpoints(folders, tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.html"
    write_inspection_page(page, inspect_path(folders[0].parent, verify=False, request=ModelRequest()))
    shown = capsys.readouterr().out
    assert "100" in shown and "200" in shown and "prefix matching" in " ".join(shown.split())
    assert page.read_text().count('<path d="M') >= 4


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
