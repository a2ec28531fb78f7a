"""The main job on a study of seconds: complete, shared, continued after any stop, and never half-written."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from forked import SERVER, finish, start
from stillroom.config import override, to_yaml
from stillroom.corpora import open_corpus
from stillroom.study import processes
from stillroom.study.evaluations import evaluate_into
from stillroom.study.measured_text import text_of
from stillroom.study.pipeline import run_single, run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.train_stage import load_here
from stillroom.types import UserError

OF_THE_MACHINE = ("tokens_per_second", "memory_bytes", "fraction_of_peak")
MICRO = Path(__file__).parents[1] / "micro.py"


def study_config(*assignments: str):
    return override(resolve_recipe(str(MICRO)), list(assignments))


def digest(folder: Path) -> dict[str, str]:
    """A hash of everything in a run folder that must not depend on when and how often it was run."""
    result = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if not file.is_file() or name in ("study.json", "environment.json", "report.html", "checksums.json"):
            continue
        data = file.read_bytes()
        if file.name == "metrics.jsonl":
            records = [json.loads(line) for line in data.splitlines()]
            data = json.dumps([{k: v for k, v in r.items() if k not in OF_THE_MACHINE} for r in records]).encode()
        result[name] = hashlib.sha256(data).hexdigest()
    return result


def weights(artifacts: Path) -> set[str]:
    """Hashes of the weights of every finished model."""
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in artifacts.glob("model-*/model/*.safetensors")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The micro study, run once without a stop."""
    root = tmp_path_factory.mktemp("study")
    folder = run_study(study_config(), root / "run", root / "artifacts", StageDisplay())
    return root, folder


def test_students_in_two_processes_are_the_students_of_one(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: SERVER)  # each need not import for itself
    root, folder = finished
    places = json.loads((folder / "study.json").read_text())["places"]["models"]
    students = {(folder / place).resolve().parent.name for name, place in places.items() if name != "teacher"}
    keys = {name.rpartition("-")[2] for name in students}
    for artifact in (root / "artifacts").iterdir():
        is_of_student = artifact.name in students or (
            artifact.name.startswith("evaluation-")
            and json.loads((artifact / "identity.json").read_text())["model"] in keys
        )
        if not is_of_student:
            shutil.copytree(artifact, tmp_path / "artifacts" / artifact.name)
    beside = run_study(study_config(), tmp_path / "run", tmp_path / "artifacts", StageDisplay(), jobs=2)
    assert digest(beside) == digest(folder)
    stages = json.loads((beside / "study.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == [
        stage["name"] for stage in json.loads((folder / "study.json").read_text())["stages"]
    ]
    made = [stage["name"] for stage in stages if not stage["reused"]]  # what the other processes took is recorded
    assert made == [f"{what}{name}" for name in ("spt", "dpt90", "routed") for what in ("", "evaluate ")]


def test_a_run_folder_holds_what_a_report_reads(finished):
    root, folder = finished
    study = json.loads((folder / "study.json").read_text())
    assert [model["name"] for model in study["models"]] == ["teacher", "spt", "dpt90", "routed"]
    assert [model["label"] for model in study["models"]] == ["Teacher", "SPT", "DPT-90", "DPT-90, 15 % routed"]
    for model in study["models"]:
        evaluation = json.loads((folder / model["folder"] / "evaluation.json").read_text())
        suites = {
            "lm",
            "copying",
            "recall",
            "induction",
            "counterfactual",
            "tts",
            "heads",
            "contamination",
            "measured_on",
        }
        assert set(evaluation) == suites
        lines = (folder / model["folder"] / "metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["kind"] == "validation"
        assert (folder / model["folder"] / "samples.jsonl").read_text()
        assert model["tokens"] == model["distinct_tokens"] == 4096
        assert (model["teacher_flops"] > 0) == (model["alpha"] > 0)
    compared = json.loads((folder / "comparison.json").read_text())
    assert compared["baseline"] == "spt" and list(compared["against"]) == ["dpt90", "routed"]
    spt, dpt = (json.loads((folder / f"models/{name}/evaluation.json").read_text()) for name in ("spt", "dpt90"))
    difference = compared["against"]["dpt90"]["items"]["copying"]["icl_score"]
    assert difference["value"] == pytest.approx(
        dpt["copying"]["icl_score"]["value"] - spt["copying"]["icl_score"]["value"]
    )
    assert difference["low"] <= difference["value"] <= difference["high"] and 0 < difference["p_value"] <= 1
    profile = json.loads((folder / "profile.json").read_text())
    assert sum(profile["entropy_histogram"]["counts"]) == sum(
        sum(source["counts"]) for source in profile["by_source"].values()
    )
    assert 0 < profile["routing_threshold_nats"] < profile["mean_entropy_nats"]
    assert not list(root.rglob("*.unfinished")) and not list(root.rglob("*.lock"))


def test_distilled_arms_log_the_terms_of_their_objective(finished):
    _, folder = finished
    records = [json.loads(line) for line in (folder / "models/routed/metrics.jsonl").read_text().splitlines()]
    train = [record for record in records if record["kind"] == "train"]
    assert len(train) == 8 and all(record["alpha"] == 0.9 for record in train)
    for record in train:
        assert record["routed_share"] == pytest.approx(0.15, abs=0.02)
        assert record["entropy_routed"] < record["entropy_kept"]
        assert record["forward_kl"] == pytest.approx(record["teacher_ce"] - record["teacher_entropy"], abs=1e-6)


def test_the_same_command_again_reuses_every_stage(finished):
    root, folder = finished
    before = digest(folder)
    run_study(study_config(), root / "run", root / "artifacts", StageDisplay())
    study = json.loads((folder / "study.json").read_text())
    assert study["stages"] and all(stage["reused"] for stage in study["stages"])
    assert digest(folder) == before


def test_the_resolved_yaml_runs_again_as_it_is(finished):
    root, folder = finished
    again = resolve_recipe(str(folder / "config.yaml"))
    assert again == study_config()
    assert run_study(again, root / "run", root / "artifacts", StageDisplay()) == folder


def test_changing_one_arm_runs_that_arm_alone(finished):
    root, _ = finished
    folder = run_study(study_config("arms.dpt90.alpha=0.7"), root / "other", root / "artifacts", StageDisplay())
    stages = json.loads((folder / "study.json").read_text())["stages"]
    assert {stage["name"] for stage in stages if not stage["reused"]} == {"dpt90", "evaluate dpt90"}


def test_a_folder_of_another_configuration_is_refused_and_untouched(finished):
    root, folder = finished
    before = digest(folder)
    with pytest.raises(UserError, match="was made by another configuration"):
        run_study(study_config("training.seed=9"), folder, root / "artifacts", StageDisplay())
    assert digest(folder) == before
    stranger = root / "stranger"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is no run folder"):
        run_study(study_config(), stranger, root / "artifacts", StageDisplay())
    assert os.listdir(stranger) == ["thesis.txt"]


def test_training_one_arm_shares_the_studys_artifacts(finished, tmp_path):
    root, _ = finished
    folder = run_single(study_config(), "dpt90", root / "artifacts", StageDisplay())
    assert folder.parent == root / "artifacts" and (folder / "model" / "model.safetensors").is_file()
    assert len(list((root / "artifacts").glob("model-*"))) <= 5


def test_a_teacher_with_another_tokenizer_is_refused(finished, tmp_path):
    root, _ = finished
    config = study_config("corpus.vocab_size=280")
    model = next((root / "artifacts").glob("model-*/model"))
    values = config.model_dump() | {"teacher": {"model": {"path": str(model)}, "training": None}}
    other = type(config).model_validate(values)
    with pytest.raises(UserError, match=r"its tokenizer .* differs from the corpus's"):
        run_study(other, tmp_path / "run", tmp_path / "artifacts", StageDisplay())


def arguments(folder: Path, recipe: Path) -> list[str]:
    return ["study", str(recipe), "--out", str(folder / "run"), "--artifacts", str(folder / "artifacts")]


def resolved(tmp_path: Path, *assignments: str) -> Path:
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(to_yaml(study_config(*assignments), "study"))
    return recipe


def stopped(folder: Path, recipe: Path, number: int, *, after: float = 0.0, once: str = "*") -> tuple[int | None, str]:
    """Sends a signal to the study when so many seconds are over and a file is there; its exit code and its words."""
    process = start(arguments(folder, recipe), folder / "errors.txt")
    begin = time.monotonic()
    while process.is_alive() and (time.monotonic() < begin + after or not any(folder.glob(f"artifacts/{once}"))):
        time.sleep(0.01)
    if process.is_alive():
        os.kill(process.pid or 0, number)
    return finish(process, folder / "errors.txt")


def is_as_if_never_stopped(finished, folder: Path, recipe: Path) -> None:
    """The study, run to its end, is the one that was never stopped."""
    root, reference = finished
    code, errors = finish(start(arguments(folder, recipe), folder / "errors.txt"), folder / "errors.txt")
    assert code == 0, errors
    assert digest(folder / "run") == digest(reference)
    ours, theirs = weights(folder / "artifacts"), weights(root / "artifacts")
    assert len(ours) == 4 and ours <= theirs


STAGES = (".corpus-*/corpus/*/*.npy", ".model-*/checkpoints/step-*", ".labels-*/labels/shards/*.bin",
          ".evaluation-*/suite-*", "model-*/../.model-*/metrics.jsonl")  # fmt: skip


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param(STAGES[:2], marks=pytest.mark.slow, id="first"),
        pytest.param(STAGES[2:4], id="middle"),
        pytest.param(STAGES[4:], marks=pytest.mark.slow, id="last"),
    ],
)
def test_a_study_killed_in_every_stage_continues_to_the_same_results(finished, tmp_path, stages):
    recipe = resolved(tmp_path)
    codes = [stopped(tmp_path, recipe, signal.SIGKILL, once=stage)[0] for stage in stages]
    assert -signal.SIGKILL in codes  # a short stage may be over before it is seen
    is_as_if_never_stopped(finished, tmp_path, recipe)


@pytest.mark.slow
def test_a_study_killed_twenty_times_continues_to_the_same_results(finished, tmp_path):
    recipe, chance = resolved(tmp_path), random.Random(0)
    for _ in range(20):
        stopped(tmp_path, recipe, signal.SIGKILL, after=chance.uniform(0.2, 8.0))
    is_as_if_never_stopped(finished, tmp_path, recipe)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_stop_during_training_is_saved_and_says_how_to_go_on(tmp_path, number, code):
    found, errors = stopped(tmp_path, resolved(tmp_path), number, once=".model-*/metrics.jsonl")
    assert found == code, errors
    assert "Traceback" not in errors and not (tmp_path / "run" / "study.json").exists()
    assert list(tmp_path.glob("artifacts/.model-*/checkpoints/step-*")) or list(tmp_path.glob("artifacts/model-*"))
    if number == signal.SIGINT:
        assert "run the same command again to go on" in errors


def test_a_full_disk_ends_in_a_sentence_and_keeps_what_is_complete(finished, tmp_path):
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0:
        pytest.skip("no user namespaces here, so no small disk can be mounted; runs where unshare -rm works")
    tokenizer = next(finished[0].glob("artifacts/corpus-*/corpus/tokenizer"))
    recipe = resolved(tmp_path, f"corpus.tokenizer={tokenizer}")
    disk = tmp_path / "disk"
    disk.mkdir()
    inner = " ".join([sys.executable, "-m", "stillroom", *arguments(disk, recipe)])
    script = f"mount -t tmpfs -o size=160k none {disk} && {inner}; code=$?; find {disk} -type f | sort >&2; exit $code"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "no space is left on this disk" in done.stderr and "Traceback" not in done.stderr


def test_the_report_of_a_real_run_builds(finished):
    from stillroom.report import build_report, summary_table

    _, folder = finished
    page = build_report(folder)
    text = page.read_text()
    assert "DPT-90, 15 % routed" in text and "<svg" in text
    assert len(summary_table(folder).columns) == 1 + 4


def test_the_written_configuration_is_complete(finished):
    _, folder = finished
    values = yaml.safe_load((folder / "config.yaml").read_text())
    assert values["kind"] == "study" and values["arms"]["routed"]["routing"]["hard_weight"] == "restore"


def test_models_are_evaluated_where_they_can_be_fast(finished, tmp_path, monkeypatch):
    """On a machine with a GPU a model must not be left on the processor; here the device asked for has no memory."""
    root, _ = finished
    monkeypatch.setattr("stillroom.study.train_stage.own_device", lambda: torch.device("meta"))
    model = next(root.glob("artifacts/model-*/model"))
    assert load_here(model).device.type == "meta"
    config: Any = study_config()
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        evaluate_into(
            tmp_path, model, config.evaluation.model_copy(update={"suites": ("lm",)}),
            text_of(open_corpus(next(root.glob("artifacts/corpus-*")) / "corpus"), config.corpus.sources),
            lambda done, total: None,
        )  # fmt: skip
