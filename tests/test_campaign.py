"""The GPU campaign: results complete or absent, a slice that ends, a kill, a part that fails; and all of it, tiny."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillroom.config import StudyConfig
from stillroom.files import read_json, write_json
from stillroom.study.budgets import with_budgets
from stillroom.study.plan import study_costs
from stillroom.study.recipe_files import load_module

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # its processes find it there too
import campaign  # noqa: E402

RECALL = load_module(ROOT / "experiments/050_recall_120m/run.py")
WORTH = load_module(ROOT / "experiments/051_worth_120m/recipe.py")

GOOD = "import sys, json; json.dump({'speed': 3}, open(sys.argv[1] + '/found.json', 'w')); print('measured')"
BAD = "import sys; open(sys.argv[1] + '/cut.json', 'w').write('{'); raise RuntimeError('no such kernel')"
SLOW = "import sys, time; open(sys.argv[1] + '/begun', 'w'); time.sleep(60)"
STUDY = """
import sys, pathlib
folder = pathlib.Path(sys.argv[1])
steps = folder / "steps"
done = int(steps.read_text()) + 1 if steps.exists() else 1
steps.write_text(str(done))
if done == 2: (folder / "results.json").write_text("{}")
"""
KILLED = """
import json, pathlib, sys
sys.path.append(sys.argv[1])
import campaign
if __name__ == "__main__":
    campaign.campaign([campaign.Part(*one) for one in json.loads(sys.argv[3])], pathlib.Path(sys.argv[2]), 1.0)
"""


class Desk:
    """A campaign of scripts that take no time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.out.mkdir()

    def part(self, name: str, text: str, minutes: float = 0.5, whole: str = "") -> campaign.Part:
        script = self.folder / f"{name}.py"
        script.write_text(text)
        return campaign.Part(name, (str(script), "OUT"), minutes, whole)

    def run(self, *parts: campaign.Part, minutes: float = 2.0, again: bool = False) -> int:
        return campaign.campaign(parts, self.out, minutes, again=again)

    def result(self, name: str) -> dict | None:
        path = self.out / f"{name}.json"
        return read_json(path) if path.exists() else None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    campaign.FORKS.set_forkserver_preload(campaign.PRELOAD)
    return Desk(tmp_path)


def test_a_failed_part_is_told_and_stops_no_other(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = desk.part("bad", BAD), desk.part("good", GOOD)
    assert desk.run(bad, good) == 1
    failed, done = desk.result("bad"), desk.result("good")
    assert failed is not None and failed["status"] == "failed" and failed["log"][-1] == "RuntimeError: no such kernel"
    assert "unreadable" in failed["results"]["cut"]
    assert done is not None and done["status"] == "done" and "error" not in done
    desk.part("bad", GOOD)  # mended
    assert desk.run(bad, good) == 1
    said = capsys.readouterr().out
    assert "bad: failed after" in said and "bad: failed before" in said and "good: done before" in said
    assert desk.run(bad, good, again=True) == 0
    assert (mended := desk.result("bad")) is not None and mended["status"] == "done"


def test_results_name_card_date_and_versions(desk: Desk) -> None:
    desk.run(desk.part("good", GOOD))
    done = desk.result("good")
    assert done is not None and done["results"] == {"found": {"speed": 3}}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", done["date"]) and done["card"]
    assert {"torch", "python", "stillroom", "source", "command", "seconds", "processor_seconds"} <= done.keys()
    assert "transformers" in done["versions"]
    assert (desk.out / "logs/good.txt").read_text() == "measured\n"


def test_a_killed_campaign_leaves_whole_results_and_no_process_and_goes_on(desk: Desk) -> None:
    good, slow = desk.part("good", GOOD), desk.part("slow", SLOW)
    (desk.folder / "killed.py").write_text(KILLED)
    parts = json.dumps([[part.name, part.command, part.minutes] for part in (good, slow)])
    command = [sys.executable, str(desk.folder / "killed.py"), str(ROOT / "benchmarks"), str(desk.out), parts]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for((desk.out / "slow/begun").exists)
    process.kill()
    process.wait()
    assert (done := desk.result("good")) is not None and done["status"] == "done" and desk.result("slow") is None
    wait_for(lambda: not list(running(str(desk.folder))))
    desk.part("slow", GOOD)
    assert desk.run(good, slow) == 0
    assert desk.result("good") == done and (desk.result("slow") or {})["status"] == "done"


def wait_for(holds) -> None:
    until = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def running(folder: str):
    """Processes that hold a file under a folder open: logs of parts."""
    for process in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if os.readlink(process).startswith(folder):
                yield process
        except OSError:
            continue


def test_what_takes_too_long_is_ended_and_what_does_not_fit_waits(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, large, good = desk.part("slow", SLOW, 0.02), desk.part("large", GOOD, 5.0), desk.part("good", GOOD)
    assert desk.run(slow, large, good, minutes=1.0) == 1
    assert (late := desk.result("slow")) is not None and late["error"] == "took longer than 0.0 minutes"
    assert "large: waits" in capsys.readouterr().out
    assert desk.result("large") is None and desk.result("good") is not None


def test_a_study_goes_on_in_the_next_slice_until_it_is_whole(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    study = desk.part("study", STUDY, 0.0, "results.json")
    assert desk.run(study) == 0 and desk.result("study") is None
    assert "study: goes on next time" in capsys.readouterr().out
    assert desk.run(study) == 0 and desk.run(study) == 0
    assert (done := desk.result("study")) is not None and done["results"] == {"results": {}}
    assert (desk.out / "study/steps").read_text() == "2"


def test_what_another_command_left_is_not_taken_for_this_one_s(desk: Desk) -> None:
    part = desk.part("good", GOOD)
    desk.run(part)
    assert campaign.status_of(part, desk.out / "good.json") == "done"
    assert campaign.status_of(campaign.Part("good", (*part.command, "--tiny")), desk.out / "good.json") is None


def test_a_campaign_is_refused_where_there_is_no_gpu(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/campaign.py"), "--out", str(tmp_path / "out")]
    alone = os.environ | {"PATH": str(tmp_path)}
    refused = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "no GPU here" in refused.stderr and not (tmp_path / "out").exists()


def test_tests_are_told_one_by_one(tmp_path: Path) -> None:
    cases = '<testcase name="a"/><testcase name="b"><failure message="no"/></testcase>'
    cases += '<testcase name="c"><skipped message="for a GPU"/></testcase>'
    (tmp_path / "checks.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    found = campaign.tests_in(tmp_path / "checks.xml")
    assert found == {"a": "passed", "b": "failure: no", "c": "skipped: for a GPU"}


@pytest.mark.parametrize("is_tiny", [False, True], ids=["gpu", "tiny"])
def test_every_part_names_a_script_and_options_that_it_has(is_tiny: bool) -> None:
    parts = campaign.parts(tiny=is_tiny)
    assert len({part.name for part in parts}) == len(parts)
    assert [part.name for part in parts if part.whole] == ["050-recall-120m", "051-worth-120m"]
    assert all(part.minutes <= 9 for part in parts)
    for part in parts:
        if part.command[0] != "-m":
            text = (ROOT / part.command[0]).read_text()
            assert all(f'"{word}"' in text for word in part.command if word.startswith("--")), part.name


def test_the_length_and_the_teachers_of_050_are_read_off_the_pilot() -> None:
    config = RECALL.pilot(tiny=False)
    step = config.tokens_per_step
    curve = [{"tokens": float(step * steps), "copy_accuracy": one} for steps, one in ((1, 0.1), (150, 0.5), (800, 0.9))]
    size = RECALL.size_of(config, curve, 0.1)
    assert size["steps"] == 300 and size["formed"]  # twice the way to the middle of 0.1 and 0.9
    assert (size["early"], size["middle"]) == (pytest.approx(0.34), pytest.approx(0.66))
    late = RECALL.size_of(config, [{"tokens": float(step * 800), "copy_accuracy": 0.2}], 0.1)
    assert not late["formed"] and 100 <= late["steps"] <= 800
    study = RECALL.study(size, 3, tiny=False)
    assert study.steps == 300 and study.seeds == (3,) and study.training.micro_batch_sequences == 64
    assert study.teachers["early"].until == size["early"] and len(study.arms) == 11
    assert study.training.learning_rate == config.training.learning_rate and study.model == config.model


def test_051_has_the_arms_of_040_at_120m_and_a_price() -> None:
    config = WORTH.study()
    StudyConfig.model_validate(config.model_dump())
    costs = study_costs(with_budgets(config))
    assert 1e8 < max(cost.parameters for cost in costs if cost.name in config.arms) < 1.3e8
    assert {name.rsplit("-s", 1)[0] for name in config.arms} == set(WORTH.ARMS)
    assert len(config.arms) == 3 * len(WORTH.ARMS) and config.training.checkpoint_seconds <= 120
    assert all(set(weights) <= set(WORTH.ARMS) for weights in WORTH.CONTRASTS.values())
    StudyConfig.model_validate(WORTH.tiny().model_dump())


def test_the_rules_of_051_are_answered_from_its_frozen_numbers(tmp_path: Path) -> None:
    run = load_module(ROOT / "experiments/051_worth_120m/run.py")
    level = {"low": -0.1, "value": 0.0, "high": 0.1}
    measures = ("lm:by_source:copying:bits_per_byte", "tts:1:pass_at:16")
    values = {
        name: {str(seed): {one: arm.data**-0.3 + 1e-3 * seed for one in measures} for seed in WORTH.SEEDS}
        for name, arm in WORTH.ARMS.items()
    }
    sources = {f"lm:by_source:{name}:bits_per_byte": level for name in ("python", "facts", "problems", "copying")}
    contrasts = {name: {**sources, "copying:accuracy_repeat": level} for name in WORTH.CONTRASTS}
    write_json(tmp_path / "results.json", {"values": values, "contrasts": contrasts})
    write_json(tmp_path / "worth.json", {"abilities": []})
    run.answer(tmp_path)
    found = read_json(tmp_path / "answer.json")
    assert set(found["trade_off"]) == set(WORTH.PARTS) and not found["trade_off"]["half"]["found"]
    assert not found["iso_data"]["python"]["found"] and not found["routing"]["copy_all"]["worth_it"]


def test_the_tiny_campaign_runs_whole_within_a_minute_of_processor_time(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/campaign.py", "--tiny", "--out", str(tmp_path)]
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = [read_json(tmp_path / f"{part.name}.json") for part in campaign.parts(tiny=True)]
    assert all(one["status"] == "done" and one["results"] and one["card"] for one in results)
    checks = results[0]["results"]["checks"]
    assert sum(one == "passed" for one in checks.values()) > 40 and not any("fail" in one for one in checks.values())
    assert sum(one["processor_seconds"] for one in results) < 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "whole", "minutes"), [("050_recall_120m", "results.json", 0.1), ("051_worth_120m", "worth.json", 0.15)]
)
def test_a_study_in_slices_ends_in_the_numbers_of_one_in_one_piece(
    tmp_path: Path, folder: str, whole: str, minutes: float
) -> None:
    def slice_of(name: str, *more: str) -> Path:
        out, script = tmp_path / name / "out", f"experiments/{folder}/run.py"
        command = [sys.executable, script, "--tiny", "--runs", str(tmp_path / name / "runs"), "--out", str(out), *more]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
        return out

    one = slice_of("one")
    for number in range(1, 30):
        parts = slice_of("parts", "--minutes", str(minutes * number))  # a busy machine may need longer ones
        if (parts / whole).exists():
            break
    assert without_times(read_json(parts / "results.json")) == without_times(read_json(one / "results.json"))
    if folder.startswith("050"):  # what is finished needs none of its cells
        shutil.rmtree(tmp_path / "one/runs")
        assert read_json(slice_of("one") / "results.json") == read_json(one / "results.json")
        assert not (tmp_path / "one/runs").exists()


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if "seconds" not in name}
    return [without_times(one) for one in value] if isinstance(value, list) else value
