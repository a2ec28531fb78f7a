"""Hugging Face's ``Trainer`` with this package's loss: the same gradient as our own step, whatever splits the batch."""

from __future__ import annotations

import copy
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    OPTConfig,
    PreTrainedModel,
    TrainingArguments,
)

from stillroom.config import ObjectiveConfig
from stillroom.integrations import DistillationTrainer, SequenceCollator, student_losses
from stillroom.labels import LabelCollator, LabelDataset, LabelStore, batch_of
from stillroom.models import hidden_states, packed_inputs
from stillroom.objectives import Objective, Routing, Schedule, TeacherLogits, token_losses
from stillroom.teachers import LiveTeacher
from stillroom.training import Student, global_step
from stillroom.training.step import StepContext, split_batch
from stillroom.types import IGNORE_INDEX, UserError
from tiny_labels import LENGTH, VOCAB

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
ALPHA = 0.9


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    """One plain step of gradient descent, so that a weight's change is its gradient."""
    values = {
        "max_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1.0, "optim": "sgd", "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant", "use_cpu": True, "save_strategy": "no", "report_to": [], "disable_tqdm": True,
    }  # fmt: skip
    return TrainingArguments(output_dir=str(folder), **{**values, **settings})


def change(
    model: PreTrainedModel, folder: Path, teacher: Any, settings: dict[str, Any], **options: Any
) -> torch.Tensor:
    """What a trainer's step takes off the weights: the gradient."""
    trained = copy.deepcopy(model)
    before = flat(trained)
    DistillationTrainer(trained, arguments(folder, **settings), teacher=teacher, **options).train()
    return before - flat(trained)


def flat(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([one.detach().flatten().clone() for one in model.parameters()])


def gradient(model: PreTrainedModel, store: Any, objective: ObjectiveConfig, batch: Any, size: int = 8) -> torch.Tensor:
    """Our own step's gradient of a global batch."""
    trained = copy.deepcopy(model)
    global_step(Student(trained), split_batch(batch, size), StepContext(objective, store), objective, seed=0)
    return torch.cat([one.grad.flatten() for one in trained.parameters() if one.grad is not None])


@pytest.fixture
def whole(store: LabelStore):
    """All sequences of the store, as one batch."""
    return batch_of(LabelCollator(store)([{"row": row} for row in range(len(store))]))


SPLITS = [(8, 1), (2, 4), (3, 3)]


@pytest.mark.parametrize(("size", "parts"), SPLITS, ids=[f"{size}x{parts}" for size, parts in SPLITS])
def test_a_step_has_the_gradient_of_our_own_however_it_is_split(student, store, whole, tmp_path, size, parts) -> None:
    settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
    found = change(student, tmp_path, store, settings)
    torch.testing.assert_close(
        found, gradient(student, store, ObjectiveConfig(alpha=ALPHA), whole), atol=2e-6, rtol=1e-3
    )


def test_a_mean_of_means_would_be_seen(student, store, whole) -> None:
    """What the splits above would give if each micro-batch were averaged by itself."""
    objective = ObjectiveConfig(alpha=ALPHA)
    own = gradient(student, store, objective, whole)
    alone = [gradient(student, store, objective, part) for part in split_batch(whole, 1)]
    assert (torch.stack(alone).mean(0) - own).abs().max() > 100 * 2e-6


def test_the_loss_is_that_of_full_logits(student, store, whole, tmp_path) -> None:
    trainer = DistillationTrainer(student, arguments(tmp_path), teacher=store)
    fields = LabelCollator(store)([{"row": row} for row in range(8)])
    loss = trainer.compute_loss(student.eval(), fields)
    inputs = packed_inputs(whole, student)
    log_p = torch.log_softmax(inputs.unpacked(student(**inputs).logits).double(), -1)
    soft = store.lookup(whole.tokens_BT)
    teacher = -(soft.weights.double() * log_p.gather(2, soft.ids)).sum(-1)
    hard = -log_p.gather(2, whole.targets_BT.clamp(min=0)[..., None])[..., 0]
    wanted = ((1 - ALPHA) * hard + ALPHA * teacher)[whole.targets_BT != IGNORE_INDEX].mean()
    assert float(loss) == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.parametrize("divergence", ["cross-entropy", "jensen-shannon"])
def test_a_live_teacher_gives_our_own_gradient(student, teacher, sequences, tmp_path, divergence) -> None:
    options = {"train_dataset": range(8), "data_collator": SequenceCollator(sequences)}
    objective = Objective(alpha=ALPHA, divergence=divergence)
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    found = change(student, tmp_path, copy.deepcopy(teacher), settings, objective=objective, **options)
    own = ObjectiveConfig(alpha=ALPHA, divergence=divergence)
    wanted = gradient(student, LiveTeacher(copy.deepcopy(teacher)), own, sequences.batch(range(8)))
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-3)


def test_a_collator_of_a_corpus_gives_its_batches_and_the_labels_of_a_store(sequences, store) -> None:
    fields = SequenceCollator(sequences, store)([3, 1])
    again, original = batch_of(fields), sequences.batch([3, 1])
    assert torch.equal(again.targets_BT, original.targets_BT) and torch.equal(again.tokens_BT, original.tokens_BT)
    assert torch.equal(again.document_BT.diff(), original.document_BT.diff())
    assert torch.equal(fields["teacher_ids"], store.lookup(original.tokens_BT).ids)


def test_packed_documents_are_kept_apart_in_student_and_teacher(student, teacher, sequences) -> None:
    batch = sequences.batch([3])
    other = batch.tokens_BT.clone()
    end = int((batch.document_BT[0] == 0).sum())
    other[0, 1:end] = 7
    changed = type(batch)(other, batch.targets_BT, batch.document_BT)
    live = LiveTeacher(copy.deepcopy(teacher))
    losses = [student_losses(student, one, Objective(alpha=0.5), live.labels(one)).loss_N for one in (batch, changed)]
    torch.testing.assert_close(losses[0][end:], losses[1][end:], atol=1e-5, rtol=0)
    assert (losses[0][1 : end - 1] - losses[1][1 : end - 1]).abs().max() > 1e-2
    seen = [student_losses(student, one, Objective(), isolate=False).loss_N for one in (batch, changed)]
    assert (seen[0][end:] - seen[1][end:]).abs().max() > 1e-4


SMALL: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
MODELS = {
    "layers before the unembedding": OPTConfig(**SMALL, word_embed_proj_dim=16, ffn_dim=32, dropout=0.0),
    "a soft cap": Gemma2Config(
        **SMALL, intermediate_size=32, num_key_value_heads=1, head_dim=16, final_logit_softcapping=3.0
    ),
    "states": MambaConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, state_size=4),
}


@pytest.mark.parametrize("kind", MODELS)
def test_losses_are_those_of_the_logits_of_any_model(kind: str, sequences) -> None:
    model, batch = AutoModelForCausalLM.from_config(MODELS[kind]), sequences.batch(range(4))
    inputs = packed_inputs(batch, model)
    logits = inputs.unpacked(model(**inputs).logits).double().flatten(0, 1)
    full = torch.nn.functional.cross_entropy(logits, batch.targets_BT.flatten(), reduction="sum")
    full.backward()
    wanted = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
    model.zero_grad()
    losses = student_losses(model, batch, Objective())
    losses.loss_N.sum().backward()
    found = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
    assert float(losses.loss_N.detach().sum()) == pytest.approx(float(full.detach()), rel=1e-5)
    torch.testing.assert_close(found, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-3)
    assert "forward" not in vars(model)


def test_recomputed_activations_change_no_gradient(student, store, tmp_path) -> None:
    plain = change(student, tmp_path, store, {})
    settings = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    assert torch.equal(change(student, tmp_path, store, settings), plain)
    torch.testing.assert_close(change(student, tmp_path, store, {"bf16": True}), plain, atol=0.01, rtol=0.1)


def test_the_teacher_is_frozen_in_eval_mode_out_of_the_optimizer_and_of_checkpoints(
    student, sequences, tmp_path
) -> None:
    shape = {"n_positions": LENGTH, "n_embd": 16, "n_layer": 1, "n_head": 2, "resid_pdrop": 0.5, "embd_pdrop": 0.5}
    teacher = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, **shape)).train()
    before, batch = flat(teacher), sequences.batch(range(4))
    options = {"train_dataset": range(8), "data_collator": SequenceCollator(sequences), "teacher": teacher}
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    trainer = DistillationTrainer(student, arguments(tmp_path, **settings), **options)
    trainer.train()
    assert not any(part.training for part in teacher.modules())
    first, again = (trainer.teacher.labels(batch).hidden_NE for _ in range(2))
    assert torch.equal(first, again) and not first.requires_grad
    assert torch.equal(flat(teacher), before) and all(one.grad is None for one in teacher.parameters())
    held = {id(one) for group in trainer.optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for one in student.parameters()}
    kept = load_file(tmp_path / "checkpoint-2/model.safetensors")
    assert set(kept) <= set(student.state_dict()) and sum(map(torch.numel, kept.values())) <= flat(student).numel()


def test_a_resumed_run_is_an_uninterrupted_one_bit_for_bit(student, store, tmp_path) -> None:
    objective = Objective(
        alpha=ALPHA, routing=Routing("random", 0.3), alpha_schedule=Schedule("linear", 0.5)
    )  # both change with the step
    settings = {
        "max_steps": 6, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "optim": "adamw_torch",
        "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "save_strategy": "steps", "save_steps": 3,
    }  # fmt: skip

    def trainer(name: str) -> DistillationTrainer:
        made = arguments(tmp_path / name, **settings)
        return DistillationTrainer(copy.deepcopy(student), made, objective=objective, teacher=store)

    whole, resumed = trainer("whole"), trainer("resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-3"))
    assert torch.equal(flat(whole.model), flat(resumed.model))
    assert resumed.state.global_step == 6


def test_terms_are_logged_and_an_evaluation_is_a_mean_over_targets(student, store, whole, tmp_path) -> None:
    settings = {"logging_steps": 1, "per_device_eval_batch_size": 3, "learning_rate": 0.0}
    trainer = DistillationTrainer(
        student, arguments(tmp_path, **settings), teacher=store, eval_dataset=LabelDataset(store)
    )
    trainer.train()
    logged = trainer.evaluate()
    student.eval()
    losses = token_losses(
        hidden_states(student, whole).flatten(0, 1), student.lm_head.weight, whole, Objective(alpha=ALPHA),
        store.lookup(whole.tokens_BT),
    )  # fmt: skip
    counted = losses.counted_N
    wanted = {
        name: float((one * weight).sum() / weight.sum()) for name, (one, weight) in losses.terms.items() if weight.any()
    }
    wanted["loss"] = float(losses.loss_N[counted].mean())
    for name in ("loss", "ce", "teacher_ce", "forward_kl", "teacher_entropy"):
        assert logged[f"eval_{name}"] == pytest.approx(wanted[name], abs=1e-5)
        assert trainer.state.log_history[0][name] == pytest.approx(wanted[name], abs=1e-5)


class Noise(torch.nn.Module):
    """A source of labels that no store has."""

    def labels(self, batch: Any) -> TeacherLogits:
        return TeacherLogits(torch.zeros(batch.num_positions, VOCAB), None)


def test_a_teacher_may_be_anything_that_answers(student, sequences, tmp_path) -> None:
    options = {"train_dataset": range(8), "data_collator": SequenceCollator(sequences), "teacher": Noise()}
    trainer = DistillationTrainer(student, arguments(tmp_path, logging_steps=1), **options)
    trainer.train()
    assert trainer.state.log_history[0]["teacher_entropy"] == pytest.approx(torch.tensor(VOCAB).log().item(), abs=1e-4)


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(student, store, whole, tmp_path) -> None:
    """Their micro-batches have differing numbers of targets, and DDP looks for parameters without gradient."""
    student.save_pretrained(tmp_path / "student")
    student = AutoModelForCausalLM.from_pretrained(tmp_path / "student")  # whose padding gets no gradient
    worker = Path(__file__).with_name("ddp_worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29533", str(worker)]
    ended = subprocess.run(
        [*command, str(store.place.url), str(tmp_path)], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    after = load_file(tmp_path / "after.safetensors")["flat"]
    torch.testing.assert_close(
        flat(student) - after, gradient(student, store, ObjectiveConfig(alpha=ALPHA), whole), atol=2e-6, rtol=1e-3
    )


WRONG: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("is the student itself", {"teacher": "student"}, {}),
    ("needs logits, which the fused head never forms", {"compute_metrics": len}, {}),
    ("is missing and the batches hold no labels", {}, {}),
    ("has no labels", {}, {"labels": None}),
    ("is padded before its texts", {}, {"attention_mask": torch.tensor([[0] + [1] * (LENGTH - 1)] * 2)}),
    ("reverse-kl needs", {"teacher": "store", "objective": Objective(0.5, divergence="reverse-kl")}, {}),
    ("labels were made at 1", {"teacher": "store", "objective": Objective(0.5, temperature=2.0)}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "options", "fields"), WRONG, ids=[said[:20] for said, _, _ in WRONG])
def test_what_would_train_on_something_else_is_refused(
    student, store, sequences, tmp_path, said, options, fields
) -> None:
    named = {"student": student, "store": store}
    options = {name: named.get(value, value) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(UserError, match=said):
        trainer = DistillationTrainer(student, arguments(tmp_path), train_dataset=range(8), **options)
        batch = {**SequenceCollator(sequences)([0, 1]), **fields}
        trainer.compute_loss(student, {name: value for name, value in batch.items() if value is not None})


def test_without_accelerate_one_sentence_says_what_to_install(monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "accelerate" else found(name, *rest)
    )
    monkeypatch.delitem(sys.modules, "stillroom.integrations.hf_trainer")
    with pytest.raises(UserError, match=r"pip install 'stillroom\[trainer\]'"):
        importlib.import_module("stillroom.integrations.hf_trainer")
