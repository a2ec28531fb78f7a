"""The engine on the device that runs take: the GPU where there is one, else this processor (``pytest -m gpu``).

The other tests hold the processor to float64 and to definitions; these hold the device to the processor and to itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engine
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from stillroom.config import LabelsConfig, ObjectiveConfig
from stillroom.labels.fidelity import measure_fidelity
from stillroom.labels.settings import settings_of
from stillroom.models import build_model, export_model, hidden_states, precision
from stillroom.objectives import Progress, TeacherLogits, token_losses
from stillroom.teachers import ModelScores
from stillroom.teachers.live import LiveLabels, LiveTeacher
from stillroom.training import Interrupted, prepare
from stillroom.training.distributed import own_device
from stillroom.types import SoftLabels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning"),  # torch's own, when it compiles
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]
DEVICE = own_device()
IS_GPU = DEVICE.type == "cuda"
NAMES = {**engine.OBJECTIVES, **engine.FURTHER_OBJECTIVES}
WIDTH = 32
REACH = {"fp32": 1e-4, "bf16": 3e-2}
"""Relative error of losses and gradients against float64, of inputs that both precisions hold exactly."""


def _asked() -> list[tuple[str, bool]]:
    allowed = [engine.STORED_ONLY, engine.LIVE_ONLY]
    return [(name, live) for name in NAMES for live in (False, True) if name not in allowed[not live]]


def _loss(objective: ObjectiveConfig, live: bool, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Loss (N), gradients of hidden states (H, N, D) and unembedding, and what was routed (N), on the processor."""
    draw = torch.Generator().manual_seed(0)
    batch = engine.training_data().train.batch(range(8))
    num = batch.tokens_BT.numel()
    shapes = ((objective.heads, num, WIDTH), (engine.VOCAB, WIDTH), (num, WIDTH), (engine.VOCAB, WIDTH))
    drawn = [torch.randn(shape, generator=draw).bfloat16().to(device, dtype) for shape in shapes]
    hidden, weight = (part.requires_grad_() for part in drawn[:2])
    labels: SoftLabels | TeacherLogits = engine.PairLabels().labels(batch.to(device))
    if live:
        labels = TeacherLogits(drawn[2], drawn[3])
    states = hidden if objective.heads > 1 else hidden[0]
    out = token_losses(states, weight, batch.to(device), objective, labels, progress=Progress(50, 100))
    gradients = torch.autograd.grad(out.loss_N.sum(), [hidden, weight])
    return tuple(part.detach().double().cpu() for part in (out.loss_N, *gradients, out.routed_N))


@pytest.mark.parametrize("name", REACH)
@pytest.mark.parametrize(("objective", "live"), _asked())
def test_fused_objectives_equal_float64(objective: str, live: bool, name: str) -> None:
    """Where rounding routes another position than float64 does, of two that are all but equal, that one is left out."""
    exact = _loss(NAMES[objective], live, torch.device("cpu"), torch.float64)
    with precision(name, DEVICE):
        found = _loss(NAMES[objective], live, DEVICE, torch.float32)
    alike_N = found[3] == exact[3]
    assert alike_N.double().mean() > 0.95 and (name == "bf16" or alike_N.all())
    pairs = [(found[0][alike_N], exact[0][alike_N]), (found[1][:, alike_N], exact[1][:, alike_N])]
    pairs += [(found[2], exact[2])] if alike_N.all() else []
    for one, other in pairs:
        assert (one - other).norm() <= REACH[name] * other.norm()


def test_a_live_teacher_says_what_it_says_on_a_processor() -> None:
    batch = engine.training_data().train.batch(range(4))
    model = build_model(engine.MODEL, engine.VOCAB, 7)
    rows = [LiveTeacher(model.to(device)).labels(batch.to(device)) for device in ("cpu", DEVICE)]
    here, there = ((found.hidden_NE @ found.weight_VE.T).cpu() for found in rows)
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)


def test_labels_are_those_of_a_processor_within_their_fidelity() -> None:
    batch, config = engine.training_data().train.batch(range(16)), LabelsConfig()
    model = build_model(engine.MODEL, engine.VOCAB, 7)
    here = LiveLabels(ModelScores(model, engine.VOCAB, precision="fp32"), config).labels(batch)
    scores = ModelScores(model.to(DEVICE), engine.VOCAB, precision="fp32")
    there = LiveLabels(scores, config).labels(batch.to(DEVICE)).to("cpu")
    torch.testing.assert_close(there.entropy, here.entropy, rtol=1e-4, atol=1e-4)
    told = [measure_fidelity(scores, batch, labels, settings_of(config))["gradient_error"] for labels in (here, there)]
    assert told[1] == pytest.approx(told[0], rel=0.1)


@pytest.mark.parametrize("name", REACH)
@pytest.mark.parametrize(
    ("objective", "live"), [("hard", False), ("routed", False), ("heads", False), ("reverse", True)]
)
def test_twelve_steps_equal_six_and_six_here(tmp_path: Path, objective: str, live: bool, name: str) -> None:
    options: dict[str, Any] = {"objective": objective, "precision": name, "live": live}
    whole = engine.run(tmp_path / "whole", **options)[1]
    with pytest.raises(Interrupted):
        engine.run(tmp_path / "parts", stop_at=6, **options)
    assert engine.run(tmp_path / "parts", **options)[1] == whole


def test_one_sharded_rank_is_a_plain_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine.run(tmp_path / "plain", objective="distilled")[1]
    with engine.socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for key, value in place.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.setattr(prepare, "is_sharded", lambda *_: True)
    assert engine.run(tmp_path / "sharded", objective="distilled")[1] == plain


@pytest.mark.parametrize("implementation", ["eager", "flex_attention", "flash_attention_2"])
def test_documents_are_kept_apart_alike(implementation: str) -> None:
    if implementation != "eager" and not IS_GPU:
        pytest.skip("for a GPU")
    if "flash" in implementation:
        pytest.importorskip("flash_attn")
    batch = engine.training_data().train.batch(range(6)).to(DEVICE)
    assert int(batch.document_BT.max()) >= 2
    found = []
    dtype = torch.bfloat16 if "flash" in implementation else torch.float32  # flash-attention knows no other
    for name in ("sdpa", implementation):
        model = build_model(engine.MODEL, engine.VOCAB, 0).eval().to(DEVICE, dtype)
        model.set_attn_implementation(name)
        with torch.no_grad():
            found.append(hidden_states(model, batch).float())
    tolerance = 3e-2 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(found[1], found[0], rtol=tolerance, atol=tolerance)


def test_an_exported_model_has_the_same_logits_here(tmp_path: Path) -> None:
    model = build_model(engine.MODEL, engine.VOCAB, 0).eval().to(DEVICE)
    export_model(model, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval().to(DEVICE)
    tokens_BT = engine.training_data().train.batch(range(4)).tokens_BT.to(DEVICE)
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens_BT).logits, model(tokens_BT).logits, rtol=0, atol=0)


@pytest.mark.parametrize("name", REACH)
@pytest.mark.parametrize(("objective", "live"), [("hard", False), ("distilled", False), ("reverse", True)])
def test_compiled_blocks_learn_the_same(tmp_path: Path, objective: str, live: bool, name: str) -> None:
    options: dict[str, Any] = {"objective": objective, "precision": name, "live": live}
    plain = engine.run(tmp_path / "plain", **options)[0].validation_ce
    compiled = engine.run(tmp_path / "compiled", parallel={"compile": True}, **options)[0].validation_ce
    assert compiled == pytest.approx(plain, rel=REACH[name])
