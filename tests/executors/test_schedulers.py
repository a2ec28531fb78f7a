"""Studies and corpora on a real Slurm and a real Ray: jobs killed, queued again, cancelled; the bits of a local run."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusters import cluster, missing
from stillroom.executors import JobResources, SchedulerJob, executor_named

pytestmark = pytest.mark.real
SMALL = str(Path(__file__).parents[1] / "small_study.py")
COMPARED = ("*.safetensors", "*.bin", "samples.jsonl", "tokenizer.json", "corpus.json")
PATIENCE = 600.0


@pytest.fixture(scope="module", params=["slurm", "ray"])
def on(request) -> str:
    if lacking := missing(request.param):
        pytest.skip(f"{request.param} is not here: {lacking}")
    return request.param


@pytest.fixture(scope="module")
def environment(on: str, tmp_path_factory) -> Iterator[dict[str, str]]:
    with cluster(on, tmp_path_factory.mktemp(on) / "cluster") as found:
        yield found


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """The artifacts of the same study, made by one process."""
    return made_locally(tmp_path_factory.mktemp("local"), SMALL)


def made_locally(root: Path, recipe: str) -> Path:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(study(root, recipe=recipe), env=environment, check=True, capture_output=True)
    return root / "artifacts"


def study(root: Path, *more: str, recipe: str = SMALL) -> list[str]:
    where = ["--out", str(root / "run"), "--artifacts", str(root / "artifacts")]
    return [sys.executable, "-m", "stillroom", "study", recipe, *where, *more]


def started(environment: dict[str, str], root: Path, *more: str, recipe: str = SMALL) -> subprocess.Popen[str]:
    command = study(root, *more, recipe=recipe)
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    return said


def wait_until(is_so: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def processes(module: str, *words: str) -> list[int]:
    """Processes of this machine that run a module now and have words that begin with these."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told = file.read_text().split("\0")
        except OSError:
            continue
        if module in told and told[0] != "env" and all(any(one.startswith(word) for one in told) for word in words):
            found.append(int(file.parent.name))
    return found


def tasks(root: Path, *words: str) -> list[int]:
    """Processes that make a stage of this study now."""
    return processes("stillroom.study.stage_task", f"--artifacts={root / 'artifacts'}", *words)


def results(artifacts: Path) -> dict[str, bytes]:
    """What a study computed, by file."""
    files = (file for pattern in COMPARED for file in artifacts.glob(f"[a-z]*/**/{pattern}"))
    return {str(file.relative_to(artifacts)): file.read_bytes() for file in files}


def test_a_study_whose_jobs_are_killed_and_whose_waiting_process_is_stopped_has_the_bits_of_a_local_one(
    on: str, environment: dict[str, str], local: Path, tmp_path: Path
) -> None:
    first = started(environment, tmp_path, "--on", on)
    wait_until(lambda: tasks(tmp_path, "--kind=model"), first)
    killed = tasks(tmp_path, "--kind=model")[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in tasks(tmp_path), first)
    wait_until(lambda: tasks(tmp_path, "--kind=model"), first)
    first.send_signal(signal.SIGINT)
    assert "the same command again" in ended(first, 130)
    assert tasks(tmp_path), "jobs go on"
    both = [started(environment, tmp_path, "--on", on) for _ in range(2)]
    said = "".join(map(ended, both))
    assert results(tmp_path / "artifacts") == results(local)
    assert said.count("\n  spt: job") <= 1  # started by one of them, or by the first
    shown = subprocess.run(study(tmp_path, "--status"), env=environment, capture_output=True, text=True)
    assert "8 done, of 8 stages" in shown.stdout, shown
    assert "Report" in said and (tmp_path / "run" / "logs" / "dpt90.log").is_file()


def test_the_whole_tiny_recipe_has_the_bits_of_a_local_run(
    on: str, environment: dict[str, str], tmp_path: Path
) -> None:
    said = ended(started(environment, tmp_path / on, "--on", on, recipe="tiny"))
    assert "Report" in said and (tmp_path / on / "run" / "report.html").is_file()
    made = results(tmp_path / on / "artifacts")
    assert made and made == results(made_locally(tmp_path / "local", "tiny"))


def test_a_cancelled_study_ends_its_jobs_and_goes_on_when_it_is_asked_again(
    on: str, environment: dict[str, str], local: Path, tmp_path: Path
) -> None:
    first = started(environment, tmp_path, "--on", on)
    wait_until(lambda: tasks(tmp_path, "--title=dpt90"), first)
    shown = subprocess.run(study(tmp_path, "--status"), env=environment, capture_output=True, text=True)
    assert "done   corpus and tokenizer" in shown.stdout and "of 8 stages" in shown.stdout, shown
    said = subprocess.run(study(tmp_path, "--cancel"), env=environment, capture_output=True, text=True)
    assert "cancelled: " in said.stdout, said
    assert "was cancelled" in ended(first, 2)
    wait_until(lambda: not tasks(tmp_path))
    ended(started(environment, tmp_path, "--on", on))
    assert results(tmp_path / "artifacts") == results(local)


def test_a_mistake_in_a_job_is_one_sentence_and_is_not_tried_again(
    on: str, environment: dict[str, str], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Line {number} of too short a text." for number in range(100)))
    sources = {"text": {"kind": "files", "path": str(text), "max_document_chars": 200}}
    said = ended(started(environment, tmp_path, "--on", on, "--set", f"corpus.sources={json.dumps(sources)}"), 2)
    assert "corpus.sources.text" in said and "add text" in said and "Traceback" not in said
    assert said.count("corpus and tokenizer: job") == 1


def test_ranks_inside_of_a_job_label_together(
    on: str, environment: dict[str, str], local: Path, tmp_path: Path
) -> None:
    ended(started(environment, tmp_path, "--on", on, "--set", "resources.labels.processes=2"))
    assert results(tmp_path / "artifacts") == results(local)


def test_slurm_queues_a_job_again_by_itself(on: str, environment: dict[str, str], local: Path, tmp_path: Path) -> None:
    if on != "slurm":
        pytest.skip("Ray has no queue to put a job back into")
    first = started(environment, tmp_path, "--on", on)
    wait_until(lambda: tasks(tmp_path, "--title=teacher"), first)
    job = subprocess.run(["squeue", "-h", "-r", "-o", "%i"], env=environment, capture_output=True, text=True)
    subprocess.run(["scontrol", "requeue", job.stdout.split()[0]], env=environment, check=True)
    assert "was lost" not in ended(first)
    assert results(tmp_path / "artifacts") == results(local)


def test_a_corpus_is_built_by_jobs_of_which_one_is_lost(on: str, environment: dict[str, str], tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(40):
        words = " ".join(f"word{(number * 7919 + place * 104729) % 5000}" for place in range(40_000))
        (texts / f"{number}.txt").write_text(words)
    asked = ["--train-tokenizer", "600", "--tokens", "2M", "--length", "128"]
    made = []
    for name, where in (("local", ["--jobs", "1"]), (on, ["--on", on, "--jobs", "2"])):
        out = tmp_path / name / "corpus"
        command = [sys.executable, "-m", "stillroom", "corpus", "build", str(texts), "--out", str(out), *asked, *where]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if "--on" in where:
            wait_until(functools.partial(helpers, out.parent), process)
            os.kill(helpers(out.parent)[0], signal.SIGKILL)
        ended(process)
        made.append({str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()})
    assert made[0] == made[1]


def helpers(folder: Path) -> list[int]:
    """Jobs that help a build in this folder now."""
    return processes("stillroom.corpora.workers", str(folder))


def test_a_job_whose_time_is_nearly_over_saves_and_is_queued_again(
    on: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on != "slurm":
        pytest.skip("Ray has no limits of time")
    monkeypatch.setenv("SLURM_CONF", environment["SLURM_CONF"])
    scheduler, log = executor_named(on, tmp_path / "slurm"), tmp_path / "job.log"
    script = "trap 'echo saved; exit 0' TERM; echo begun; sleep 10 & wait; echo over"
    (name,) = scheduler.start([SchedulerJob("warned", ("sh", "-c", script), log, JobResources())])
    wait_until(lambda: log.is_file() and "begun" in log.read_text())
    subprocess.run(["scancel", "--signal=USR2", name], check=True)  # as Slurm does before a limit
    wait_until(lambda: not scheduler.living([name]))
    assert log.read_text().split() == ["begun", "saved", "begun", "over"]
