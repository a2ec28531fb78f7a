"""Stages as jobs: started once their inputs are there, once for all who ask, again when lost; by toys."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from small_study import small_study
from stillroom.config import JobResources, ResourcesConfig, override
from stillroom.executors import SchedulerJob, python_command
from stillroom.files import write_json
from stillroom.study import elsewhere, progress, stage_task, status
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.elsewhere import Elsewhere, cancel_study, check_elsewhere
from stillroom.study.explain import Explained
from stillroom.study.pipeline import run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.stage_jobs import StageEnd, StageJob, StageJobs
from stillroom.types import UserError

MICRO = override(resolve_recipe(str(Path(__file__).parents[1] / "micro.py")), [])
STAGES = {
    "corpus and tokenizer": ("corpus", ""),
    "teacher": ("model", "corpus and tokenizer"),
    "labels": ("labels", "teacher"),
    "evaluate teacher": ("evaluation", "teacher"),
    "spt": ("model", "corpus and tokenizer"),
    "dpt90": ("model", "labels"),
    "same": ("model", "labels"),
    "evaluate dpt90": ("evaluation", "dpt90"),
}
"""By title: kind, and what it waits for."""


class Toy:
    """A scheduler whose jobs end at once, as ``does`` says of each command, or live on where it returns True."""

    def __init__(self, does: Callable[[dict[str, str]], object]) -> None:
        self.does = does
        self.started: list[str] = []
        self.arrays: list[list[str]] = []
        self.lives: set[str] = set()

    def start(self, jobs: Sequence[SchedulerJob]) -> list[str]:
        self.arrays.append([job.name for job in jobs])
        for job in jobs:
            self.started.append(job.name)
            words = [word[2:].partition("=") for word in job.command if word.startswith("--")]
            if self.does({name: value for name, _, value in words}) is True:
                self.lives.add(job.name)
        return [job.name for job in jobs]

    def living(self, names: Collection[str]) -> set[str]:
        return self.lives & set(names)

    def cancel(self, names: Collection[str]) -> None:
        self.lives -= set(names)


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A study of made-up stages on a scheduler of toys: returns what makes both."""

    def stages_of(config, store: ArtifactStore) -> list[Explained]:
        names = {title: f"{kind}-{'dpt90' if title == 'same' else title}" for title, (kind, _) in STAGES.items()}
        return [
            Explained(title, names[title], (store.root / names[title]).is_dir(), "", kind, title, after)
            for title, (kind, after) in STAGES.items()
        ]

    def made(does: Callable[[dict[str, str]], object]) -> tuple[Elsewhere, Toy]:
        toy = Toy(does)
        for module in (elsewhere, status):
            monkeypatch.setattr(module, "executor_of", lambda on, artifacts: toy)
            monkeypatch.setattr(module, "stages_of", stages_of)
        display = StageDisplay(Console(file=io.StringIO()))
        store = ArtifactStore(tmp_path / "artifacts")
        return Elsewhere(MICRO, ResourcesConfig(restarts=2), tmp_path / "run", store, "slurm", display), toy

    monkeypatch.setattr(elsewhere, "_SOONEST", 0.001)
    monkeypatch.setattr(elsewhere, "_LATEST", 0.01)
    return made


def make(asked: dict[str, str]) -> None:
    Path(asked["artifacts"], asked["artifact"]).mkdir()


def end(asked: dict[str, str], mistake: str) -> None:
    StageJobs.of(Path(asked["artifacts"])).end(asked["artifact"], StageEnd(mistake=mistake))


def test_stages_are_started_once_when_their_inputs_are_there(toys) -> None:
    leader, toy = toys(make)
    assert leader.make_all() == {}
    assert sorted(toy.started) == sorted(set(STAGES) - {"same"})
    assert all(toy.started.index(STAGES[one][1]) < toy.started.index(one) for one in toy.started if STAGES[one][1])
    assert ["teacher", "spt"] in toy.arrays  # equal ones at once
    again, toy = toys(make)
    again.make_all()
    assert toy.started == []


def test_a_lost_job_is_started_again_and_not_for_ever(toys) -> None:
    lives = {"spt": 2}  # times that it is lost

    def does(asked: dict[str, str]) -> None:
        if lives.get(asked["title"], 0):
            lives[asked["title"]] -= 1
        else:
            make(asked)

    leader, toy = toys(does)
    leader.make_all()
    assert toy.started.count("spt") == 3
    lives["evaluate dpt90"] = 9
    (leader.store.root / "evaluation-evaluate dpt90").rmdir()
    again, toy = toys(does)
    with pytest.raises(UserError, match=r"evaluate dpt90: its job was lost 3 times; see .*evaluate dpt90\.log"):
        again.make_all()


def test_a_mistake_is_raised_when_the_others_are_done_and_tried_again_by_the_next_call(toys) -> None:
    leader, toy = toys(lambda asked: end(asked, "data: is wrong.") if asked["title"] == "labels" else make(asked))
    with pytest.raises(UserError, match=r"^data: is wrong\.$"):
        leader.make_all()
    assert set(toy.started) == {"corpus and tokenizer", "teacher", "labels", "spt", "evaluate teacher"}
    again, toy = toys(make)
    again.make_all()
    assert set(toy.started) == {"labels", "dpt90", "evaluate dpt90"}


def test_what_another_one_started_is_waited_for(toys) -> None:
    leader, toy = toys(make)
    jobs = StageJobs.of(leader.store.root)
    jobs.note("corpus-corpus and tokenizer", StageJob(on="slurm", name="theirs", log="theirs.log"))
    toy.lives.add("theirs")
    looks = []

    def living(names: Collection[str]) -> set[str]:
        looks.append(names)
        if len(looks) == 5:
            (leader.store.root / "corpus-corpus and tokenizer").mkdir()
        return toy.lives & set(names)

    toy.living = living
    leader.make_all()
    assert "corpus and tokenizer" not in toy.started and len(looks) >= 5


def test_a_cancelled_study_says_so_and_can_be_asked_again(toys) -> None:
    leader, toy = toys(lambda asked: True if asked["title"] == "teacher" else make(asked))
    living = toy.living

    def cancelled(names: Collection[str]) -> set[str]:
        if "teacher" in toy.lives and len(toy.started) >= 3:
            toy.living = living
            assert cancel_study(MICRO, leader.store) == ["teacher"]
        return living(names)

    toy.living = cancelled
    with pytest.raises(UserError, match="was cancelled; what is complete is kept"):
        leader.make_all()
    again, toy = toys(make)
    again.make_all()
    assert "teacher" in toy.started and "corpus and tokenizer" not in toy.started


def test_labels_that_others_made_need_no_artifact(toys) -> None:
    def does(asked: dict[str, str]) -> None:
        end(asked, None) if asked["title"] == "labels" else make(asked)  # type: ignore[arg-type]

    leader, _ = toys(does)
    leader.make_all()
    assert not (leader.store.root / "labels-labels").exists()


def test_the_state_of_every_stage_is_told(toys, tmp_path) -> None:
    leader, toy = toys(make)
    jobs, root = StageJobs.of(leader.store.root), leader.store.root
    (root / "corpus-corpus and tokenizer").mkdir(parents=True)
    log = tmp_path / "teacher.log"
    log.write_text("one\n45 % of 100 tokens, 10 tokens/s, 0:00:05 left\n\n")
    jobs.note("model-teacher", StageJob(on="slurm", name="7_1", log=str(log)))
    jobs.note("model-spt", StageJob(on="slurm", name="7_2", log="spt.log"))
    jobs.note("labels-labels", StageJob(on="slurm", name="8", log="labels.log"))
    jobs.end("labels-labels", StageEnd(mistake="labels: are wrong."))
    toy.lives |= {"7_1", "7_2"}
    with status.disk.held(root / ".model-teacher.lock"):
        told = {one.stage: one for one in status.study_status(MICRO, tmp_path / "run", root)}
    assert {name: one.state for name, one in told.items()} == {
        "corpus and tokenizer": "done", "teacher": "runs", "labels": "failed", "evaluate teacher": "waits",
        "spt": "waits", "dpt90": "waits", "same": "waits", "evaluate dpt90": "waits",
    }  # fmt: skip
    assert told["teacher"].said == "45 % of 100 tokens, 10 tokens/s, 0:00:05 left"
    assert told["spt"].said == "as job 7_2 of slurm" and told["labels"].said == "labels: are wrong."
    assert told["evaluate dpt90"].said == "for dpt90"
    shown = io.StringIO()
    status.print_status(list(told.values()), Console(file=shown, width=200))
    assert "1 done, 1 runs, 5 waits, 1 failed, of 8 stages." in shown.getvalue()


@pytest.mark.parametrize(
    ("on", "asks", "jobs", "words"),
    [
        ("kubernetes", ResourcesConfig(), 1, "on: is 'kubernetes', expected one of local, slurm, ray"),
        ("slurm", ResourcesConfig(), 2, "jobs: is 2, but slurm decides"),
        ("ray", ResourcesConfig(training=JobResources(gpus=1)), 1, "training.precision: is auto"),
    ],
    ids=["unknown", "jobs", "precision"],
)
def test_what_a_scheduler_cannot_be_asked_is_refused(on, asks, jobs, words, tmp_path, monkeypatch) -> None:
    if on != "kubernetes":
        monkeypatch.setattr(elsewhere, "executor_of", lambda on, artifacts: None)
    with pytest.raises(UserError, match=words):
        check_elsewhere("auto", asks, on, jobs, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["corpus", "evaluation"])
def test_the_work_of_one_process_is_not_given_several(kind) -> None:
    with pytest.raises(UserError, match=f"resources.{kind} asks for 2 processes|{kind} asks for 2 processes"):
        override(MICRO, [f"resources.{kind}.gpus=2"])


def test_several_processes_are_started_by_torchrun() -> None:
    one = python_command("a.b", "c", takes=JobResources(cpus=4))
    assert one[-3:] == ("-m", "a.b", "c") and "torch.distributed.run" not in one
    several = python_command("a.b", "c", takes=JobResources(gpus=4))
    assert several[several.index("--nproc-per-node") + 1] == "4" and several[-3:] == ("-m", "a.b", "c")


def test_resources_change_no_result_and_no_name() -> None:
    asked = override(MICRO, ["resources.training.gpus=8", "resources.training.options.partition=gpu"])
    assert asked.fingerprint() != MICRO.fingerprint() == asked.for_results().fingerprint()


def test_stages_made_one_by_one_by_tasks_are_what_a_study_finds(tmp_path, monkeypatch) -> None:
    def run_task(asked: dict[str, str]) -> None:
        assert (
            stage_task.run_task([str(tmp_path / "run"), *(f"--{name}={value}" for name, value in asked.items())]) == 0
        )

    toy = Toy(run_task)
    monkeypatch.setattr(elsewhere, "executor_of", lambda on, artifacts: toy)
    monkeypatch.setattr(elsewhere, "_SOONEST", 0.001)
    shown = io.StringIO()
    folder = run_study(
        small_study(),
        tmp_path / "run",
        tmp_path / "artifacts",
        StageDisplay(Console(file=shown, width=200)),
        on="slurm",
    )
    assert len(toy.started) == 8 and shown.getvalue().count("already there") == 8
    stages = {one["name"]: one for one in json.loads((folder / "study.json").read_text())["stages"]}
    assert len(stages) == 8 and not any(one["reused"] for one in stages.values())
    assert stage_task.run_task([str(tmp_path / "none"), "--artifacts", str(tmp_path / "artifacts"), "--artifact", "x",
                            "--title", "x", "--kind", "corpus", "--precision", "fp32"]) == 2  # fmt: skip
    assert "none" in (StageJobs.of(tmp_path / "artifacts").ended("x") or StageEnd()).mistake  # type: ignore[operator]


def test_a_task_that_breaks_says_where_that_is_told(tmp_path, monkeypatch, capsys) -> None:
    def broken(asked) -> None:
        raise ZeroDivisionError("of a model")

    monkeypatch.setattr(stage_task, "_made", broken)
    asked = [
        "--artifacts",
        str(tmp_path),
        "--artifact",
        "x",
        "--title",
        "spt",
        "--kind",
        "model",
        "--precision",
        "fp32",
    ]
    assert stage_task.run_task([str(tmp_path / "run"), *asked]) == 1
    found = StageJobs.of(tmp_path).ended("x")
    assert found is not None and found.mistake == "spt: ended in ZeroDivisionError, which its log tells of."
    assert "Traceback" in capsys.readouterr().err


def test_a_damaged_note_is_named(tmp_path) -> None:
    write_json(tmp_path / ".jobs" / "model-x.json", {"on": "slurm"})
    with pytest.raises(UserError, match=r"model-x\.json: name does not fit"):
        StageJobs.of(tmp_path).find("model-x")


def test_a_local_stage_keeps_its_lines_for_whoever_looks_from_beside(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    display = StageDisplay(Console(file=io.StringIO()))
    display.logs = tmp_path / "logs"
    with display.stage("spt") as update:
        update(3, 100)
        while not (log := display.logs / "spt.log").is_file() or "3 %" not in log.read_text():
            pass
    assert status._last_line(log).startswith("3 % of 100 tokens")
