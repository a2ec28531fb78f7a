"""A right loss and a right trainer have every property; one that is wrong in one way loses exactly one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import plain_trainer
import pytest
import wrong_losses

from stillroom.conformance import PROPERTIES, Adapter, Broken, all_verdicts, load_adapter, loss_properties, prove
from stillroom.conformance.own import adapter as own
from stillroom.types import UserError

OF_LOSS = [name for name, one in PROPERTIES.items() if one.__module__.endswith(".loss_properties")]
OF_TRAINER = [name for name in PROPERTIES if name not in OF_LOSS and name != "ranks"]


def outcomes(adapter: Adapter, names: list[str]) -> dict[str, str]:
    return {one.name: one.outcome for one in all_verdicts(adapter, names)}


def broken(adapter: Adapter, names: list[str]) -> dict[str, str]:
    return {one.name: one.sentence for one in all_verdicts(adapter, names) if one.outcome == "broken"}


def test_this_package_has_every_property_of_a_loss() -> None:
    assert outcomes(own, OF_LOSS) == dict.fromkeys(OF_LOSS, "holds")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"divergences": ("kl",)}, "Adapter.divergences: is 'kl', expected one of cross-entropy, forward-kl"),
        ({"reduction": "batchmean"}, "Adapter.reduction: is 'batchmean', expected one of mean, sum, step."),
        ({"temperature": "T"}, "Adapter.temperature: is 'T', expected one of squared, plain, teacher."),
        ({"tail": "ghost"}, "Adapter.tail: is 'ghost', expected one of bucket, renormalise, drop."),
        ({"divergences": ()}, "has nothing to try"),
        ({"loss": None}, "has nothing to try"),
    ],
    ids=["divergence", "reduction", "temperature", "tail", "no-divergence", "no-code"],
)
def test_a_declaration_that_is_none_is_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        replace(wrong_losses.RIGHT, **fields)


def _raises(*_: object) -> None:
    raise KeyError("teacher")


@pytest.mark.parametrize(
    ("adapter", "name"),
    [
        (Adapter("loud", _raises), "gradient"),
        (Adapter("loud", sample=_raises, loss=_raises), "sampling"),
        (Adapter("loud", train=_raises), "step"),
        (Adapter("vague", lambda case: case.logits_BTV), "identity"),
        (Adapter("detached", lambda case: case.logits_BTV.detach().sum()), "identity"),
    ],
    ids=["loss", "sample", "train", "no-scalar", "no-graph"],
)
def test_code_that_gives_no_answer_is_told_in_a_sentence(adapter: Adapter, name: str) -> None:
    with pytest.raises(Broken, match=rf"^{adapter.name}, {name}: .*expected .*, found (Key|Runtime)Error: "):
        prove(adapter, name)


def test_a_right_loss_in_plain_pytorch_has_what_it_declares() -> None:
    assert broken(wrong_losses.RIGHT, OF_LOSS) == {}


@pytest.mark.parametrize("what", wrong_losses.MUTANTS, ids=str)
def test_a_wrong_loss_loses_one_property(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_properties, "LARGE", {"length": 64, "vocab": 4096})
    name, adapter = wrong_losses.MUTANTS[what]
    found = broken(adapter, OF_LOSS)
    assert found.keys() == {name}, found
    assert all(word in found[name] for word in ("expected", "found", "tolerance"))
    assert f"prove('plain', '{name}')" in found[name]


def test_every_property_of_a_loss_is_lost_by_some_wrong_loss() -> None:
    assert {name for name, _ in wrong_losses.MUTANTS.values()} == set(OF_LOSS)


def test_a_right_trainer_has_every_property() -> None:
    assert outcomes(plain_trainer.RIGHT, OF_TRAINER) == dict.fromkeys(OF_TRAINER, "holds")


@pytest.mark.parametrize("what", [one for one in plain_trainer.MUTANTS if "ranks" not in one], ids=str)
def test_a_wrong_trainer_loses_one_property(what: str) -> None:
    name, train = plain_trainer.MUTANTS[what]
    found = broken(replace(plain_trainer.RIGHT, train=train), OF_TRAINER)
    assert found.keys() == {name}, found
    if name == "step":
        assert "it is the step of " in found[name]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("stillroom_trainer_adapter", OF_TRAINER),
        pytest.param("stillroom_trainer_adapter", ["ranks"], marks=pytest.mark.slow),
        pytest.param("hf_trainer_adapter", [*OF_TRAINER, "ranks"], marks=pytest.mark.slow),
    ],
    ids=["loop", "loop-ranks", "hf-trainer"],
)
def test_trainers_of_this_package_have_every_property(module: str, names: list[str], monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples" / "conformance")
    assert outcomes(load_adapter(f"{module}:adapter"), names) == dict.fromkeys(names, "holds")


@pytest.mark.slow
def test_a_step_that_two_ranks_share_is_that_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank imports this folder's trainer by its name."""
    monkeypatch.chdir(Path(__file__).parent)
    prove("plain_trainer:RIGHT", "ranks")
    with pytest.raises(Broken, match="one step shared by two ranks, on rank 0"):
        prove("plain_trainer:unsynced", "ranks")
