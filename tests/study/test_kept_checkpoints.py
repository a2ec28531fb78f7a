"""Checkpoints that were asked for are there after the end: named, evaluated, exported, drawn."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from stillroom.config import EvaluationConfig, StudyConfig, TrainingConfig, ladder, parse
from stillroom.places import find_part, find_parts
from stillroom.report import build_report, compare_report
from stillroom.results.runs import load
from stillroom.study.evaluations import evaluate_models
from stillroom.study.export import export_models
from stillroom.study.inspect import inspect_path
from stillroom.study.pipeline import run_single, run_study
from stillroom.study.plan import print_plan
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.single import arm_run
from stillroom.types import UserError


def keeping(micro_recipe: Path, **training: object) -> StudyConfig:
    """The micro study of eight steps with one hard-label arm, and heads and loss measured."""
    values = resolve_recipe(str(micro_recipe)).model_dump()
    values["arms"] = {"spt": {}}
    values["training"] |= training
    values["evaluation"] |= {"suites": ["lm", "heads", "tts"], "contamination_ngram": 0}
    return parse(StudyConfig, values, "keeping")


@pytest.fixture(scope="module")
def kept(tmp_path_factory, micro_recipe):
    """A finished run whose student kept steps 1, 3, 6 and 8, the last."""
    config = keeping(micro_recipe, keep_every=3, keep=(1, 8))
    return run_study(config, tmp_path_factory.mktemp("kept") / "run", None, StageDisplay())


def weights(model: Path) -> str:
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()


def test_kept_checkpoints_are_models_of_their_steps(kept):
    found = find_parts("model", f"{kept}:spt@all")
    assert [part.name for part in found] == ["spt@1", "spt@3", "spt@6", "spt@8"]
    assert len({weights(Path(part.path)) for part in found}) == 4
    assert weights(Path(found[-1].path)) == weights(kept / "models/spt/model")  # the last step is the finished model
    assert not list((kept.parent / "artifacts").glob("model-*/checkpoints"))
    with pytest.raises(UserError, match="keeps no checkpoint of that step, it keeps 1, 3, 6, 8"):
        find_part("model", f"{kept}:spt@5")


def test_a_study_measures_them_and_its_page_draws_heads_over_training(kept):
    run = load(kept)
    steps = dict(run.model("spt").over_training)
    assert list(steps) == [1, 3, 6, 8] and run.model("teacher").over_training == ()
    assert all(one.heads is not None and one.lm is not None and one.tts is None for one in steps.values())
    assert steps[8].lm == run.model("spt").evaluation.lm and steps[1].lm.nats_per_token.value > 5.5
    section = build_report(kept).read_text().split('<section id="fig-training"')[1].split("</section>")[0]
    assert "Prefix matching, best head" in section and section.count("<svg") >= 3 and "at step 6" in section


def test_they_are_evaluated_inspected_and_exported_by_their_names(kept, tmp_path, capsys):
    evaluate_models([Path(f"{kept}:spt@all")], None, ["heads"], tmp_path / "out", {"seed": 0}, StageDisplay())
    assert sorted(one.name.rpartition("-")[0] for one in (tmp_path / "out").iterdir() if one.is_dir()) == [
        "spt@1", "spt@3", "spt@6", "spt@8",
    ]  # fmt: skip
    assert 'id="fig-training"' in compare_report([tmp_path / "out"], tmp_path / "page.html").read_text()
    assert inspect_path(Path(f"{kept}:spt@all"), verify=False).steps == (1, 3, 6, 8)  # type: ignore[union-attr]
    export_models(f"{kept}:spt@3", tmp_path / "third")
    assert weights(tmp_path / "third") == weights(Path(find_part("model", f"{kept}:spt@3").path))


def test_asking_for_checkpoints_changes_no_weight_and_makes_another_artifact(kept, micro_recipe):
    folder = run_single(keeping(micro_recipe), "spt", kept.parent / "artifacts", StageDisplay())
    assert weights(folder / "model") == weights(kept / "models/spt/model")
    assert not (folder / "steps").exists() and folder.name != (kept / "models/spt/model").resolve().parent.name


def test_a_damaged_one_is_made_again(kept, micro_recipe, tmp_path):
    root = shutil.copytree(kept.parent, tmp_path / "copy", symlinks=True)
    weights_file = next(root.glob("artifacts/model-*/steps/step-3/model.safetensors"))
    before = weights_file.read_bytes()
    weights_file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    run_study(keeping(micro_recipe, keep_every=3, keep=(1, 8)), root / "run", None, StageDisplay())
    assert weights_file.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "is_another"),
    [({}, False), ({"keep": ()}, False), ({"keep_every": 0}, False), ({"keep_last": 5}, False),
     ({"keep": (4,)}, True), ({"keep_every": 4}, True)],
)  # fmt: skip
def test_only_what_is_asked_for_makes_another_identity(changes, is_another):
    assert (TrainingConfig(**changes).identity() != TrainingConfig().identity()) == is_another


def test_a_step_beyond_the_run_is_refused(micro_recipe, tmp_path):
    with pytest.raises(UserError, match=r"training\.keep: names step 9, but the run has 8 steps"):
        run_single(keeping(micro_recipe, keep=(9,)), "spt", tmp_path / "artifacts", StageDisplay())
    assert not list((tmp_path / "artifacts").glob("*model-*"))


def test_arms_of_different_lengths_each_keep_what_they_reach(micro_recipe, tmp_path):
    config = keeping(micro_recipe, keep=(2, 4, 8))
    config = config.model_copy(update={"arms": ladder(0.5, 1.0), "evaluation": EvaluationConfig(suites=())})
    run = run_study(config, tmp_path / "run", None, StageDisplay())
    kept = {arm: sorted(one.name for one in (run / "models" / arm / "model").resolve().parent.glob("steps/*"))
            for arm in config.arms}  # fmt: skip
    assert kept == {"spt_half": ["step-2", "step-4"], "spt": ["step-2", "step-4", "step-8"]}


def test_a_step_that_no_arm_reaches_is_refused_before_a_teacher_is_trained(micro_recipe, tmp_path):
    config = keeping(micro_recipe, keep=(2, 9))
    config = config.model_copy(update={"arms": ladder(0.5, 1.0)})
    for begin in (lambda: run_study(config, tmp_path / "run", None, StageDisplay()), lambda: print_plan(config)):
        with pytest.raises(UserError, match=r"training\.keep: names step 9, but the longest arm has 8 steps"):
            begin()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("begin", [run_single, print_plan])
def test_a_run_with_a_teacher_is_refused_before_the_teacher_is_trained(begin, micro_recipe, tmp_path):
    run = arm_run(parse(StudyConfig, resolve_recipe(str(micro_recipe)).model_dump(), "micro"), "dpt90")
    run = run.model_copy(update={"training": run.training.model_copy(update={"keep": (9,)})})
    more = () if begin is print_plan else (None, tmp_path / "artifacts", StageDisplay())
    with pytest.raises(UserError, match=r"training\.keep: names step 9, but the run has 8 steps"):
        begin(run, *more)
    assert not (tmp_path / "artifacts").exists()
