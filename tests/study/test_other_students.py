"""Students of other architectures through whole studies, and what is refused before anything is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from micro import micro
from stillroom.config import ArmConfig, ModelConfig, StudyConfig, TrainingConfig, override, parse
from stillroom.models import load_model
from stillroom.study.buildable import check_models
from stillroom.study.explain import explain_study
from stillroom.study.export import export_models
from stillroom.study.pipeline import run_single, run_study
from stillroom.study.plan import study_costs
from stillroom.study.progress import StageDisplay
from stillroom.study.recipe_files import resolve_recipe
from stillroom.types import UserError
from student_table import FAST, KINDS


def study(student: ModelConfig, teacher: ModelConfig | None = None, **arms: ArmConfig) -> StudyConfig:
    """The micro study with another student, measured by its held-out loss and samples."""
    base = micro()
    values = base.model_dump() | {"student": student, "arms": arms or {"spt": ArmConfig()}}
    values["evaluation"] |= {"suites": ("lm",), "heldout_sequences": 4, "contamination_ngram": 0}
    values["training"] |= {"tokens": 1024, "validate_every": 0}
    values["teacher"]["training"] |= {"tokens": 2048, "validate_every": 0}
    values["corpus"] |= {"train_tokens": 2048}
    if teacher is not None:
        values["teacher"] |= {"model": teacher}
    return parse(StudyConfig, values, "study")


STORED_AND_LIVE = {
    "spt": ArmConfig(),
    "stored": ArmConfig(alpha=0.9),
    "live": ArmConfig(alpha=0.9, teacher="live"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_student_of_another_architecture_goes_through_a_whole_study(name, tmp_path):
    config = study(KINDS[name].model(tmp_path / "config"), **STORED_AND_LIVE)
    run = run_study(config, tmp_path / "run", tmp_path / "artifacts", StageDisplay())
    losses = {}
    for arm in config.arms:
        found = json.loads((run / f"models/{arm}/evaluation.json").read_text())
        losses[arm] = found["lm"]["nats_per_token"]["value"]
    assert losses["stored"] == pytest.approx(losses["live"], abs=0.15) and losses["stored"] != losses["spt"]
    export_models(f"{run}:stored", tmp_path / "out")
    ours = load_model(tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = torch.randint(3, 300, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours(tokens).logits, theirs(tokens).logits, atol=1e-5)
    (sizes,) = {one.parameters for one in study_costs(config) if one.name in config.arms}
    assert sizes == ours.num_parameters()
    again = resolve_recipe(str(run / "config.yaml"))
    assert again == config
    assert {one.is_there for one in explain_study(again, run, tmp_path / "artifacts")} == {True}


def test_a_student_cut_from_its_teacher_begins_with_its_weights(tmp_path):
    teacher = KINDS["gemma3-caps"].model(tmp_path, overrides={"num_hidden_layers": 4})
    like = ModelConfig(like_teacher={"depth": 0.5, "width": 0.5, "weights": "cut"})
    config = study(like, teacher, spt=ArmConfig(), dpt=ArmConfig(alpha=0.5))
    drawn = override(config, ["student.like_teacher.weights=random", "training.steps=1", "training.learning_rate=1e-9"])
    assert config.student.config["hidden_size"] == 16 and config.student.config["num_hidden_layers"] == 2
    run = run_study(config, tmp_path / "run", tmp_path / "artifacts", StageDisplay())
    assert {one.is_there for one in explain_study(config, run, tmp_path / "artifacts")} == {True}
    made = {
        name: (run / place).resolve().parent
        for name, place in json.loads((run / "study.json").read_text())["places"]["models"].items()
    }
    again = resolve_recipe(str(made["spt"] / "config.yaml"))
    assert run_single(again, None, tmp_path / "artifacts", StageDisplay()) == made["spt"]
    still = override(config, ["training.steps=1", "training.learning_rate=1e-9"])
    cut, fresh = (run_single(one, "spt", tmp_path / "artifacts", StageDisplay()) for one in (still, drawn))
    ours, theirs, whole = (load_model(one / "model").state_dict() for one in (cut, fresh, made["teacher"]))
    name = "model.layers.{}.mlp.down_proj.weight"
    source = whole[name.format(1)][: ours[name.format(1)].shape[0], : ours[name.format(1)].shape[1]]
    assert torch.allclose(ours[name.format(1)], source, atol=1e-6)
    assert not torch.allclose(theirs[name.format(1)], source, atol=1e-3)


def test_a_student_like_its_teacher_follows_it_when_the_teacher_changes(tmp_path):
    config = study(ModelConfig(like_teacher={"depth": 0.5}))
    assert config.student.config["num_hidden_layers"] == 1 and config.student.config["hidden_size"] == 32
    wider = override(config, ["teacher.model.hidden_size=48", "teacher.model.num_layers=4"])
    assert wider.student.config["num_hidden_layers"] == 2 and wider.student.config["hidden_size"] == 48
    assert parse(StudyConfig, json.loads(json.dumps(config.canonical())), "again") == config


def _asked(name: str, folder: Path, **changes: object) -> StudyConfig:
    config = study(KINDS[name].model(folder))
    return parse(StudyConfig, config.model_dump() | changes, "study")


_CASES = [
    *[(name, "heads", kind.no_heads) for name, kind in KINDS.items()],
    *[(name, "tensor", kind.no_tensor) for name, kind in KINDS.items()],
    *[(name, "base_width", kind.no_width) for name, kind in KINDS.items()],
]


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        pytest.param(*one, id=f"{one[0]}-{one[1]}", marks=[] if one[2] or one[0] in FAST else pytest.mark.slow)
        for one in _CASES
    ],
)
def test_what_an_architecture_cannot_do_is_refused_before_anything_is_made(name, asked, said, tmp_path, monkeypatch):
    changes = {
        "heads": {"arms": {"two": ArmConfig(heads=2)}},
        "tensor": {"training": TrainingConfig(tokens=1024, parallel={"tensor": 2})},
        "base_width": {"training": TrainingConfig(tokens=1024, base_width=16)},
    }
    config = _asked(name, tmp_path / "config", **changes[asked])
    if said is None:
        check_models(config)
        return
    with pytest.raises(UserError, match=said):
        run_study(config, tmp_path / "run", tmp_path / "artifacts", StageDisplay())
    assert not (tmp_path / "run").exists() and not (tmp_path / "artifacts").exists()


def test_other_things_that_cannot_be_are_told_first(tmp_path):
    with pytest.raises(UserError, match=r"arms: heads is 9, .* student.config has 2 layers"):
        check_models(_asked("qwen3", tmp_path, arms={"nine": ArmConfig(heads=9)}))
    with pytest.raises(UserError, match=r"sequence_length is 64 but student.config's number of positions is 32"):
        study(KINDS["qwen3"].model(tmp_path, overrides={"max_position_embeddings": 32}))
    with pytest.raises(UserError, match=r"student.config: .* \(RuntimeError: .*check its sizes"):
        check_models(study(KINDS["qwen3"].model(tmp_path, overrides={"num_attention_heads": 3})))
    with pytest.raises(UserError, match="by ranks"):
        from architectures import tiny_config

        tiny_config("doge").save_pretrained(tmp_path)
        check_models(study(ModelConfig(config=str(tmp_path))))
    with pytest.raises(UserError, match="this is the teacher"):
        study(ModelConfig(), ModelConfig(like_teacher={}))
