"""A recall study: what it measures is right, it goes on after a stop, and it says what is wrong with a request."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from stillroom.analysis import prefix_matching_scores, previous_token_scores
from stillroom.cli.main import run
from stillroom.config import ObjectiveConfig, RoutingConfig, TrainingConfig, override
from stillroom.files import read_json, read_json_lines
from stillroom.objectives import copyable
from stillroom.sandbox.recall.recall_cell import Cell, probe_steps, train_cell
from stillroom.sandbox.recall.recall_config import (
    RecallArmConfig,
    RecallConfig,
    RecallProbeConfig,
    RecallTeacherConfig,
    RecallWorldConfig,
)
from stillroom.sandbox.recall.recall_data import make_recall_world
from stillroom.sandbox.recall.recall_plan import plan_lines
from stillroom.sandbox.recall.recall_presets import PRESETS, preset, tiny
from stillroom.sandbox.recall.recall_probes import last_follower, measures, prefix_matching_in, recall_truth
from stillroom.sandbox.recall.recall_results import crossing, mean_where_found, steepest, tokens_over_seeds
from stillroom.sandbox.recall.run_recall import Cells, run_recall
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.progress import StageDisplay
from stillroom.training import Hooks, Interrupted
from stillroom.types import UserError
from stillroom.worlds.recall_sequences import RecallLabels, RecallSequences
from stillroom.worlds.recall_teachers import RecallTeacher, exact_probabilities

WORLD = RecallWorldConfig(characters=12, triggers=2, sequence_length=16)


def micro(**changes) -> RecallConfig:
    """A study of seconds: SPT, a leaking teacher, a trained one."""
    arms = {
        "spt": RecallArmConfig(label="SPT"),
        "leaking": RecallArmConfig(label="DPT-90", teacher="leaking", objective=ObjectiveConfig(alpha=0.9)),
        "routed": RecallArmConfig(
            label="routed",
            teacher="trained",
            objective=ObjectiveConfig(alpha=0.9, routing=RoutingConfig(rule="copy-aware", share=0.15)),
        ),
    }
    values = {
        "world": WORLD,
        "model": tiny().model.model_copy(update={"hidden_size": 16, "intermediate_size": 32, "num_heads": 2}),
        "training": TrainingConfig(steps=6, batch_sequences=4, validate_every=0, precision="fp32"),
        "teachers": {
            "leaking": RecallTeacherConfig(kind="leaking", leak=0.1),
            "trained": RecallTeacherConfig(kind="trained", until=0.9),
        },
        "arms": arms,
        "probes": RecallProbeConfig(sequences=8, pattern_sequences=2, per_doubling=1),
    }
    return RecallConfig(**(values | changes))


def quiet() -> StageDisplay:
    return StageDisplay(Console(quiet=True))


def test_the_truth_itself_measures_as_perfect():
    truth = recall_truth(make_recall_world(WORLD), 64, 32, seed=0)
    found = measures(truth.rows_BTV, truth)
    assert found["copy_accuracy"] == 1.0
    for name in ("copy_loss", "kl", "kl_high", "kl_first", "over_copying", "calibration_error"):
        assert found[name] == pytest.approx(0.0, abs=1e-5), name
    assert found["loss"] == pytest.approx(truth.optimal_loss, rel=0.1)  # of sampled tokens, so within their noise


def test_one_who_always_copies_is_found_out():
    truth = recall_truth(make_recall_world(WORLD), 64, 32, seed=0)
    copier = torch.nn.functional.one_hot(truth.followed_BT.clamp(min=0), 12).float()
    found = measures(copier, truth)
    assert found["copy_accuracy"] == 1.0
    ordinary = truth.is_ordinary_BT & (truth.followed_BT >= 0)
    true_share = truth.rows_BTV.gather(-1, truth.followed_BT.clamp(min=0)[..., None])[..., 0][ordinary].mean()
    assert found["over_copying"] == pytest.approx(1 - float(true_share), abs=1e-5)
    assert (found["calibration_error"] or 0) > 0.3


def test_a_bigram_learner_cannot_copy_and_is_right_elsewhere():
    world = make_recall_world(WORLD)
    truth = recall_truth(world, 64, 32, seed=0)
    rows = torch.from_numpy(world.bigrams.rows_VV).float()[truth.batch.tokens_BT[:, :-1]]
    found = measures(rows, truth)
    assert found["kl_high"] == pytest.approx(0.0, abs=1e-5)
    assert found["over_copying"] == pytest.approx(0.0, abs=1e-6)
    assert (found["copy_loss"] or 0) > 1.0


def test_last_follower_is_what_routing_calls_copyable():
    batch = recall_truth(make_recall_world(WORLD), 16, 32, seed=1).batch
    agrees = (last_follower(batch.tokens_BT) == batch.targets_BT) & (batch.targets_BT >= 0)
    assert torch.equal(agrees, copyable(batch))


def hand_built(tokens_BT: torch.Tensor) -> torch.Tensor:
    """Three heads (1, B, 3, T, T): the token before; what followed the last earlier copy; what followed all, evenly."""
    num, length = tokens_BT.shape
    patterns = torch.zeros(1, num, 3, length, length)
    patterns[:, :, 0, 0, 0] = 1.0
    for place in range(1, length):
        patterns[:, :, 0, place, place - 1] = 1.0
    for sequence in range(num):
        for place in range(length):
            earlier = [key + 1 for key in range(place) if tokens_BT[sequence, key] == tokens_BT[sequence, place]]
            patterns[:, sequence, 1, place, (earlier or [0])[-1]] = 1.0
            for key in earlier or [0]:
                patterns[:, sequence, 2, place, key] = 1.0 / len(earlier or [0])
    return patterns


def test_a_hand_built_induction_head_scores_exactly_one():
    truth = recall_truth(make_recall_world(WORLD), 8, 24, seed=2)
    tokens_BT = truth.batch.tokens_BT
    queries_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
    queries_BT[:, :-1] = truth.is_scored_BT
    assert queries_BT.sum() > 10
    before = tokens_BT.clone()
    patterns = hand_built(tokens_BT)
    scores = prefix_matching_in(patterns, tokens_BT, queries_BT)
    assert scores[0, 1] == 1.0
    assert scores[0, 2] == pytest.approx(1.0, abs=1e-6)
    assert scores[0, 0] < 0.9  # not 0: a trigger may answer itself
    assert previous_token_scores(patterns)[0, 0] == 1.0
    assert torch.equal(tokens_BT, before)


def test_both_prefix_scores_agree_on_repeated_tokens():
    tokens_BT = torch.arange(6).repeat(2, 3)
    patterns = torch.rand(1, 2, 2, 18, 18).tril()
    queries_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
    queries_BT[:, 6:] = True
    ours = prefix_matching_in(patterns, tokens_BT, queries_BT)
    torch.testing.assert_close(ours, prefix_matching_scores(patterns, period=6, start=0))


def test_labels_are_the_teachers_rows():
    config = WORLD.model_copy(update={"draw": "per-sequence"})
    world = make_recall_world(config)
    stream = RecallSequences(world, 100, 16, seed=3)
    batch = stream.batch([4, 7])
    labels = RecallLabels(stream, RecallTeacher()).labels(batch)
    sample = world.sample([4, 7], 16, 3)
    rows = exact_probabilities(world, sample.tokens_BT, sample.triggers_BK)
    np.testing.assert_array_equal(labels.weights.numpy(), rows)
    gold = np.take_along_axis(rows[:, :-1], sample.tokens_BT[:, 1:, None], axis=2)[..., 0]
    np.testing.assert_allclose(labels.gold_logprob[:, :-1].exp().numpy(), gold, rtol=1e-5)
    assert (labels.gold_rank[:, -1] == -1).all()
    with pytest.raises(UserError, match="was not made here"):
        RecallLabels(RecallSequences(world, 100, 16, seed=3), RecallTeacher()).labels(batch)


def test_probes_lie_on_a_logarithmic_scale_and_at_the_end():
    assert probe_steps(10, 1) == [1, 2, 4, 8, 10]
    steps = probe_steps(1000, 4)
    assert steps[-1] == 1000
    assert max(after / before for before, after in pairwise(steps[8:])) < 1.27


def test_crossings_are_interpolated_on_the_logarithm():
    assert crossing([10, 40], [0.0, 1.0]) == pytest.approx(20.0)
    assert crossing([10, 40], [0.0, 0.4]) is None
    assert crossing([10, 20, 40], [0.1, None, 0.9]) == pytest.approx(20.0)
    found = steepest([1, 2, 4, 8], [0.1, 0.2, 0.8, 0.9])
    assert (found.low, found.high, found.rise) == (2.0, 4.0, pytest.approx(0.6))


def test_intervals_are_students_t():
    found = mean_where_found("kl", dict(enumerate([1.0, 2.0, 3.0, 4.0, 5.0])))
    assert found is not None
    assert found.value == 3.0
    assert found.high - 3.0 == pytest.approx(2.776 * math.sqrt(2.5 / 5), abs=1e-3)
    assert mean_where_found("kl", {0: None}) is None
    alone = mean_where_found("kl", {0: 0.5, 1: None})
    assert alone is not None
    assert alone.as_dict() == {"value": 0.5, "low": None, "high": None, "num": 1, "of": 2}
    geometric = tokens_over_seeds({0: 100.0, 1: 400.0})
    assert geometric is not None
    assert geometric.value == pytest.approx(200.0)


def test_a_whole_study_is_written_and_its_cells_are_reused(tmp_path: Path):
    config = micro(seeds=(0, 1))
    folder = run_recall(config, tmp_path / "run", quiet())
    found = read_json(folder / "sandbox.json")
    assert [arm["name"] for arm in found["arms"]] == ["spt", "leaking", "routed"]
    probes = found["arms"][1]["seeds"][0]["probes"]
    assert [probe["step"] for probe in probes] == [1, 2, 4, 6]
    assert 0 < found["arms"][2]["seeds"][0]["routed_share"] <= 0.15 + 1 / 15
    assert found["teachers"]["trained"]["measured"]["copy_accuracy"]["num"] == 2
    times = {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*") if path.is_file()}
    run_recall(config, tmp_path / "run", quiet())
    assert times == {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*") if path.is_file()}
    wider = override(config, ["seeds=[0, 1, 2]"])
    cells = Cells(wider, ArtifactStore(folder / "cells"))
    assert [cell for wave in cells.needed() for cell in wave if not cells.folder(cell).is_dir()] == [
        Cell(None, 2), Cell("spt", 2), Cell("leaking", 2), Cell("routed", 2),
    ]  # fmt: skip


def test_arms_of_a_seed_start_alike_and_see_the_same_data(tmp_path: Path):
    config = micro(arms={name: micro().arms[name] for name in ("spt", "leaking")})
    for name in config.arms:
        train_cell(tmp_path / name, config, Cell(name, 0))
    first = [read_json_lines(tmp_path / name / "metrics.jsonl")[0] for name in config.arms]
    assert first[0]["ce"] == pytest.approx(first[1]["ce"], rel=1e-6)


def test_a_stopped_cell_goes_on_to_the_same_numbers(tmp_path: Path):
    config = micro()
    train_cell(tmp_path / "whole", config, Cell("leaking", 0))
    calls: list[int] = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) == 3

    with pytest.raises(Interrupted):
        train_cell(tmp_path / "parts", config, Cell("leaking", 0), hooks=Hooks(stop=stop))
    train_cell(tmp_path / "parts", config, Cell("leaking", 0))
    assert read_json_lines(tmp_path / "parts" / "probes.jsonl") == read_json_lines(tmp_path / "whole" / "probes.jsonl")


def test_a_folder_of_another_configuration_is_refused(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("kind: recall\n")
    with pytest.raises(UserError, match="another configuration"):
        run_recall(micro(), tmp_path / "run", quiet())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    with pytest.raises(UserError, match="no run folder"):
        run_recall(micro(), tmp_path / "mine", quiet())
    assert (tmp_path / "mine" / "diary.txt").read_text() == "dear"


def test_mistakes_in_a_request_are_one_sentence():
    with pytest.raises(UserError, match="did you mean sandbox-120m"):
        preset("sandbox120m")
    with pytest.raises(UserError, match="leave nothing of 12 characters"):
        override(micro(), ["world.triggers=12"])
    with pytest.raises(UserError, match="expected one of teachers: leaking, trained"):
        override(micro(), ["arms.leaking.teacher=oracle"])
    with pytest.raises(UserError, match="a teacher is needed where"):
        override(micro(), ["arms.leaking.objective.alpha=0"])
    with pytest.raises(UserError, match="holds one twice"):
        override(micro(), ["seeds=[1, 1]"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_study_that_serialises(name: str):
    config = preset(name)
    assert RecallConfig.model_validate(json.loads(config.model_dump_json())) == config
    assert len(plan_lines(config)) == 3


def test_the_largest_preset_has_120_million_parameters():
    assert "120" in plan_lines(preset("sandbox-120m"))[0].split("M parameters")[0].split(" of ")[-1]


@pytest.mark.slow
def test_one_layer_cannot_solve_recall_and_two_can(tmp_path: Path):
    reached = {}
    for layers in (1, 2):
        config = override(tiny(), [f"model.num_layers={layers}", "probes.per_doubling=1"])
        train_cell(tmp_path / str(layers), config, Cell("spt", 0))
        probes = read_json_lines(tmp_path / str(layers) / "probes.jsonl")
        reached[layers] = probes[-1]
    assert reached[2]["copy_accuracy"] > 0.85
    assert reached[1]["copy_accuracy"] < 0.7
    assert max(map(max, reached[2]["prefix_matching"])) > 0.5
    assert reached[1]["copy_loss"] > 3 * reached[2]["copy_loss"]


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        run(["sandbox", "recall", *arguments])
    return int(leaving.value.code or 0)


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command("--dry-run", "--seeds", "3") == 0
    shown = capsys.readouterr().out
    assert "3 arms of 0.11M parameters at 3 seed(s)" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "0.2m"), "--preset 0.2m"),
        (("--set", "world.trigers=2"), "did you mean triggers?"),
        (("--set", "teachers.leaking.leak=3"), "teachers.leaking.leak is 3"),
        (("--seeds", "0"), "seeds"),
        (("--preset", "nowhere.yaml"), "nowhere.yaml: no such file or folder"),
    ],
)
def test_mistakes_on_the_command_line_are_one_sentence(arguments, words, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_study_on_the_command_line_ends_with_its_page(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ("training.steps=3", "training.batch_sequences=2", "probes.sequences=4", "probes.pattern_sequences=2")
    assert command("--out", "run", *(part for value in small for part in ("--set", value))) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "What attention looks at" in page
    assert "run/report.html" in capsys.readouterr().out
    assert preset("run/config.yaml").steps == 3
    assert command("--preset", "run/config.yaml", "--out", "run") == 0  # the same study, so nothing is trained
