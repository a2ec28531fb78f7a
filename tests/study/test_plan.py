"""A plan tries a little of every stage, tells ranges, and leaves nothing behind."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from stillroom.config import ModelConfig, StudyConfig, TeacherConfig, over_seeds, override
from stillroom.console import Terminal
from stillroom.corpora import Corpus, build_corpus
from stillroom.labels import LabelStore
from stillroom.models import build_model, export_model
from stillroom.study.label_stage import LabelRequest, label_corpus
from stillroom.study.plan import print_plan
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.spans import Span, Trials
from stillroom.study.trials import try_stages
from stillroom.types import UserError

SHAPE = ModelConfig(hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, max_positions=128)


def micro(*assignments: str) -> StudyConfig:
    config = resolve_recipe(str(Path(__file__).parents[1] / "micro.py"))
    assert isinstance(config, StudyConfig)
    facts = config.corpus.model_copy(update={"sources": {"facts": config.corpus.sources["facts"]}})
    return override(config.model_copy(update={"corpus": facts}), ["evaluation.suites=[lm, heads]", *assignments])


@pytest.fixture(scope="module")
def teacher(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "model"
    tiny_corpus.tokenizer.save_pretrained(folder)
    export_model(build_model(SHAPE, tiny_corpus.vocab_size, 0), folder)
    return folder


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary folders go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_every_stage_is_tried_and_nothing_is_left(scratch):
    trials = try_stages(micro())
    stages = ["corpus", "teacher", "labels", "spt", "dpt90", "routed", "evaluation"]
    assert sorted(trials.seconds) == sorted(trials.tried) == sorted(stages) and not trials.missing
    assert all(0 < span.low < span.high for span in trials.seconds.values())
    assert trials.label_bytes is None  # a teacher that is not trained yet says another thing
    assert not list(scratch.iterdir())


def test_a_pretrained_teacher_s_labels_are_a_part_of_the_plan(teacher, scratch):
    config = micro(f"corpus.tokenizer={teacher}", "corpus.sequence_length=32").model_copy(
        update={"teacher": TeacherConfig(model=ModelConfig(path=str(teacher)), training=None)}
    )
    trials = try_stages(config)
    assert "labels" in trials.seconds and "teacher" not in trials.seconds and not trials.missing
    out, display = scratch / "labels", StageDisplay(Terminal(quiet=True))
    build_corpus(config.corpus, scratch / "corpus")
    label_corpus(
        LabelRequest(str(teacher), scratch / "corpus", out, {"shard_sequences": 16}, 4096, dry_run=False), display
    )
    size = LabelStore.open(out).manifest.bytes_per_token
    assert trials.label_bytes is not None and trials.label_bytes.low < size < trials.label_bytes.high


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("corpus.sources.facts={kind: files, path: nowhere}", "corpus: nowhere"),
        ("corpus.sources.facts={kind: hub, path: some/where}", "would have to be fetched"),
    ],
)
def test_what_cannot_be_tried_is_told_and_goes_by_its_flops(assignment, words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    print_plan(micro(assignment))
    out = capsys.readouterr().out
    assert words in out and "on paper" in out
    assert re.search(r"│ corpus +│ +│ [\d.]+ M │ +│ +unknown │", out) and "and what is unknown" in out


def test_a_mistake_of_a_stage_leaves_that_stage_out_alone():
    trials = Trials()
    with trials.trying("labels"):
        raise UserError("x: is y.")
    with trials.trying("evaluation"):
        trials.seconds["evaluation"] = Span.around(2.0)
    assert trials.missing == ["labels: x: is y."] and list(trials.seconds) == ["evaluation"]


def test_the_table_tells_ranges_of_every_stage(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr("stillroom.study.trials.try_stages", lambda _: Trials({"corpus": Span(1.0, 7300.0)}))
    print_plan(micro())
    out = capsys.readouterr().out
    assert "1 s to 2.03 hours" in out and re.search(r"│ labels .* [\d.]+ to [\d.]+ MiB on disk │", out)


def test_an_arm_at_several_seeds_is_one_row_with_their_sum(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    one = micro()
    config = one.model_copy(update={"arms": over_seeds(one.arms, (3, 4, 5))})
    trials = Trials(dict.fromkeys(config.arms, Span(2.0, 4.0)), tried=list(config.arms))
    monkeypatch.setattr("stillroom.study.trials.try_stages", lambda _: trials)
    print_plan(config)
    table, told = capsys.readouterr().out.split("what it will take")[1].split("Tried on")
    assert re.search(r"│ spt, 3 seeds +│.*│ +6 to 12 s │", table) and "spt-s3" not in table
    assert ": spt, dpt90, routed;" in told


def test_a_dry_run_of_labelling_tells_the_bytes_that_labels_take(teacher, tiny_corpus, scratch):
    import io

    text = io.StringIO()
    display = StageDisplay(Terminal(file=text, width=300))
    request = LabelRequest(str(teacher), tiny_corpus.folder, scratch / "labels", {}, None, dry_run=True)
    label_corpus(request, display)
    assert not list(scratch.iterdir())
    label_corpus(LabelRequest(str(teacher), tiny_corpus.folder, scratch / "labels", {}, None, dry_run=False), display)
    told = re.search(r"about ([\d.]+) bytes per token", text.getvalue())
    assert told is not None and "tokens/s, tried on" in text.getvalue()
    assert float(told[1]) == pytest.approx(LabelStore.open(scratch / "labels").manifest.bytes_per_token, rel=0.33)
