"""Whatever happens to a file of a finished study, the same command mends it, and whoever else reads it says so."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from stillroom import checksums
from stillroom.config import override
from stillroom.corpora import open_corpus
from stillroom.report import build_report
from stillroom.study.artifacts import ArtifactStore
from stillroom.study.folders import RunFolder
from stillroom.study.inspect import inspect_path
from stillroom.study.needs import NEEDED, USER, Needs
from stillroom.study.pipeline import run_single, run_study
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.train_stage import load_here
from stillroom.study.verifying import verify
from stillroom.types import UserError

OF_THE_MACHINE = ("tokens_per_second", "memory_bytes", "fraction_of_peak")
TOLD = ("study.json", "environment.json", "report.html", "result.json", "README.md", "checksums.json")
"""Files that tell when and how fast something was made."""


def small_study():
    """The study of seconds without all that does not matter here."""
    config = resolve_recipe(str(Path(__file__).parents[1] / "micro.py"))
    arms = {name: config.arms[name] for name in ("spt", "dpt90")}
    sources = {"facts": config.corpus.sources["facts"], "problems": config.corpus.sources["problems"]}
    corpus = config.corpus.model_copy(update={"sources": sources})
    return override(config.model_copy(update={"arms": arms, "corpus": corpus}), ["evaluation.contamination_ngram=0"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with ``run`` and ``artifacts``; every test leaves it as it was."""
    root = tmp_path_factory.mktemp("damage")
    run(root)
    return root


def run(root: Path) -> str:
    """Runs the study and returns what a person saw."""
    shown = io.StringIO()
    run_study(small_study(), root / "run", root / "artifacts", StageDisplay(Console(file=shown, width=1000)))
    build_report(root / "run")
    return shown.getvalue()


def digest(root: Path) -> dict[str, str]:
    """A hash of every file but for what tells when and how fast it was made."""
    found = {}
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.name not in TOLD:
            data = file.read_bytes()
            if file.name == "metrics.jsonl":
                rows = [json.loads(line) for line in data.splitlines()]
                data = json.dumps([{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in rows]).encode()
            found[str(file.relative_to(root))] = hashlib.sha256(data).hexdigest()
    return found


def kinds(root: Path) -> list[Path]:
    """One file of every kind that a finished study holds, but the marks beside its artifacts, which are not sealed."""
    found: dict[tuple[str, str], Path] = {}
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.name != "report.html" and NEEDED not in file.parts:
            found.setdefault((file.relative_to(root).parts[1].split("-")[0], file.name), file)
    return list(found.values())


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


HOW: dict[str, Callable[[Path], None]] = {"flipped": flip, "cut": cut, "gone": os.unlink}


QUICK = {
    "heldout/tokens-00000.npy": "flipped", "metrics.jsonl": "gone", "model/model.safetensors": "flipped",
    "model/tokenizer.json": "cut", "plan.json": "gone", "shards/00000002.bin": "flipped", "samples.jsonl": "cut",
}  # fmt: skip
"""Kinds of damage that take turns over kinds of files; all of each are in the slow test."""


@pytest.mark.parametrize(("name", "how"), QUICK.items())
def test_the_same_command_makes_again_what_is_damaged(finished, name, how):
    file = next(file for file in sorted((finished / "artifacts").rglob("*")) if str(file).endswith(f"/{name}"))
    before = digest(finished)
    HOW[how](file)
    names = [damage for one in verify(finished / "run") for damage in one.faults]
    assert any(name in one for one in names)
    shown = run(finished)
    assert f"{file} is damaged" in shown and "it is made again" in shown
    assert digest(finished) == before
    assert [path.name for path in finished.rglob(".*")] == [NEEDED]  # nothing was left behind beside the marks


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_every_kind_of_file_may_be_damaged_in_every_way(finished, how):
    before = digest(finished)
    for file in kinds(finished):
        HOW[how](file)
        if file.name == checksums.NAME and how == "gone" and file.parent.name != "corpus":
            checksums.seal(file.parent)  # taken as it is, like a folder of an earlier version
        else:
            assert any(one.faults for one in verify(finished / "run")), file
        run(finished)
        assert digest(finished) == before, file
    assert not any(one.faults for one in verify(finished / "run"))


def test_marks_that_are_damaged_or_gone_are_made_again(finished):
    before = digest(finished)
    (marks,) = (finished / "artifacts" / NEEDED).iterdir()
    cut(marks / USER)
    next(marks.glob("corpus-*")).unlink()
    run(finished)
    assert digest(finished) == before
    shutil.rmtree(marks.parent)
    run(finished)
    assert digest(finished) == before


@pytest.mark.parametrize("how", HOW)
def test_whose_marks_they_are_is_told_again_where_it_cannot_be_read(tmp_path, how):
    needs = Needs.of_run(tmp_path / "artifacts", tmp_path / "runs" / "x")
    needs.mark("corpus-1")
    told = (needs.folder / USER).read_bytes()
    HOW[how](needs.folder / USER)
    needs.mark("corpus-1")
    assert (needs.folder / USER).read_bytes() == told


@pytest.mark.parametrize("name", ["config.yaml", "models/spt/evaluation.json"])
def test_a_damaged_run_folder_is_told_by_its_readers_and_written_anew(finished, name):
    before = digest(finished)
    flip(finished / "run" / name)
    with pytest.raises(UserError, match=f"{name}: is damaged .* run the command that made"):
        build_report(finished / "run")
    assert f"run folder: {finished / 'run' / name} is damaged" in run(finished)
    assert digest(finished) == before


def test_two_files_that_are_swapped_are_noticed_and_put_right(finished):
    before = digest(finished)
    first, second = sorted((finished / "artifacts").glob("model-*/model/model.safetensors"))[:2]
    first.rename(first.with_name("x"))
    second.rename(first)
    first.with_name("x").rename(second)
    run(finished)
    assert digest(finished) == before
    artifacts = sorted((finished / "artifacts").glob("evaluation-*"))[:2]
    shutil.move(artifacts[0], finished / "x")
    shutil.move(artifacts[1], artifacts[0])
    shutil.move(finished / "x", artifacts[1])
    assert "is that of another folder" in run(finished)
    assert digest(finished) == before


def test_whoever_loads_a_damaged_model_or_corpus_is_told(finished):
    before = digest(finished)
    weights = sorted((finished / "artifacts").glob("model-*/model/model.safetensors"))[0]
    tokens = next((finished / "artifacts").glob("corpus-*/corpus/heldout/tokens-00000.npy"))
    flip(weights)
    flip(tokens)
    for path in (weights.parent, weights.parent.parent, finished / "run"):
        with pytest.raises(UserError, match=r"is damaged.*model\.safetensors|model\.safetensors.*is damaged"):
            inspect_path(path, verify=True)
    with pytest.raises(UserError, match=r"model\.safetensors: is damaged"):
        load_here(weights.parent)
    corpus = open_corpus(tokens.parent.parent)
    assert len(corpus.train) > 0  # what is not read is not checked
    with pytest.raises(UserError, match=r"tokens-00000\.npy: is damaged"):
        corpus.heldout.tokens([0])
    run(finished)
    assert digest(finished) == before


def test_a_verification_that_finds_nothing_wrong_counts_every_file(finished):
    found = verify(finished / "run")
    assert not any(one.faults for one in found)
    whats = [one.what for one in found]
    assert whats.count("label store") == 1 and whats.count("checksums") == 1 + 2 + 3 + 1 + 3
    inspect_path(finished / "run", verify=True)
    inspect_path(next((finished / "artifacts").glob("labels-*/labels")), verify=True)


def test_an_artifact_of_an_earlier_version_is_taken_as_it_is(finished):
    folder = next((finished / "artifacts").glob("model-*"))
    (folder / checksums.NAME).unlink()
    assert "already there, without checksums" in run(finished)
    assert "without checksums" in [one.what for one in verify(finished / "run")]
    with pytest.raises(UserError, match="carries no checksums"):
        verify(folder)
    checksums.seal(folder)


def test_a_configuration_that_was_changed_after_the_run_does_not_run_into_its_folder(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.02", "learning_rate: 0.03"))
    changed = resolve_recipe(str(path))
    with pytest.raises(UserError, match=r"config\.yaml: was changed after the run"):
        run_study(changed, tmp_path / "run", finished / "artifacts", StageDisplay(Console(quiet=True)))


def test_a_mistake_leaves_no_folder_behind(tmp_path, finished):
    config = small_study()
    model = next((finished / "artifacts").glob("model-*/model"))
    values = config.model_dump() | {"teacher": {"model": {"path": str(model)}, "training": None}}
    values["corpus"]["vocab_size"] = 280
    with pytest.raises(UserError, match="its tokenizer"):
        run_study(
            type(config).model_validate(values), tmp_path / "runs" / "x", tmp_path / "artifacts",
            StageDisplay(Console(quiet=True)),
        )  # fmt: skip
    assert os.listdir(tmp_path) == ["artifacts"]  # the corpus, which is complete and will be used
    (corpus,) = set(os.listdir(tmp_path / "artifacts")) - {NEEDED}
    assert corpus.startswith("corpus-")
    (marks,) = (tmp_path / "artifacts" / NEEDED).iterdir()
    assert set(os.listdir(marks)) == {corpus, USER}  # so that it is known whose it was, and can be removed


def test_a_build_that_fails_keeps_only_what_can_be_gone_on_with(tmp_path):
    def fail(work: Path, *names: str) -> None:
        for name in names:
            (work / name).mkdir(parents=True)
        raise UserError("no")

    store = ArtifactStore(tmp_path / "runs" / "artifacts")
    with pytest.raises(UserError):
        store.build("model", {"a": 1}, lambda work: fail(work, "architecture"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(UserError):
        store.build("model", {"a": 1}, lambda work: fail(work, "checkpoints/step-00000001"))
    assert [path.name for path in store.root.iterdir()] == [f".{store.locate('model', {'a': 1})[0].name}.unfinished"]


def test_training_on_a_store_depends_on_what_the_store_holds(finished, tmp_path):
    """Not on its folder's name: two stores of one teacher that differ in N give two models."""
    from stillroom.config import LabelsConfig, ObjectiveConfig, RunConfig
    from stillroom.study.label_stage import LabelRequest, label_corpus

    config = small_study()
    teacher = sorted((finished / "artifacts").glob("model-*/model"))[0]
    corpus = next((finished / "artifacts").glob("corpus-*/corpus"))
    quiet = StageDisplay(Console(quiet=True))
    models = {}
    for name, samples in (("labels", 50), ("other", 5)):
        values = {"num_samples": samples}
        label_corpus(LabelRequest(str(teacher), corpus, tmp_path / "X" / name, values, None, False), quiet)
        assert LabelsConfig().codec == "sampled"
        run_config = RunConfig(
            name="run", corpus=config.corpus, model=config.student, training=config.training,
            objective=ObjectiveConfig(alpha=0.9), labels=str(tmp_path / "X" / name),
        )  # fmt: skip
        models[name] = run_single(run_config, None, finished / "artifacts", quiet)
    assert models["labels"] != models["other"]
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in models.values()]
    assert weights[0] != weights[1]
    for folder in models.values():
        shutil.rmtree(folder)


def evaluate(root: Path, out: Path) -> str:
    from stillroom.study.evaluations import evaluate_models

    shown = io.StringIO()
    models = sorted((root / "artifacts").glob("model-*/model"))[:2]
    corpus = next((root / "artifacts").glob("corpus-*/corpus"))
    display = StageDisplay(Console(file=shown, width=1000))
    evaluate_models(models, corpus, ["lm", "tts"], out, {"problems": 2, "samples_per_problem": 2, "ks": (1,)}, display)
    return shown.getvalue()


@pytest.mark.parametrize("name", ["evaluation.json", "samples.jsonl"])
def test_a_damaged_evaluation_is_measured_again_and_the_damaged_file_stays_aside(finished, tmp_path, name):
    evaluate(finished, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    file = sorted(tmp_path.rglob(name))[0]
    flip(file)
    damaged = file.read_bytes()
    assert any(one.faults for one in verify(tmp_path))
    assert f"{file} is damaged" in evaluate(finished, tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before | {file.with_name(f".{name}.damaged"): damaged}


def test_a_mistake_in_an_evaluation_leaves_no_folder_behind(finished, tmp_path):
    from stillroom.study.evaluations import evaluate_models

    model = sorted((finished / "artifacts").glob("model-*/model"))[0]
    before = (model / "config.json").read_bytes()
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    corpus = next((finished / "artifacts").glob("corpus-*/corpus"))
    with pytest.raises(UserError):
        evaluate_models([tmp_path / "model"], corpus, ["lm"], tmp_path / "out" / "x", {}, StageDisplay())
    assert os.listdir(tmp_path) == ["model"] and (model / "config.json").read_bytes() == before


def test_a_run_ends_whole_though_another_process_took_its_empty_folder_away(tmp_path):
    """Of two that begin at once, the one that is told to wait takes away the folder with the configuration alone."""
    folder = tmp_path / "runs" / "x"
    run = RunFolder(folder, "name: x\n")
    with run.claimed(lambda *_: None):
        with pytest.raises(UserError), run.claimed(lambda *_: None):
            raise UserError("wait")
        shutil.rmtree(folder)
        with run.written(["study.json"]):
            (folder / "study.json").write_text("{}")
    assert sorted(os.listdir(folder)) == ["checksums.json", "config.yaml", "study.json"] and not checksums.check(folder)
