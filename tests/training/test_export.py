"""What a run leaves behind for others: weights with the same logits, tokenizer, and a card with recipe and results."""

from __future__ import annotations

from pathlib import Path

import engine
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from stillroom.config import CorpusConfig, ModelConfig, ObjectiveConfig, RunConfig, SourceConfig, parse
from stillroom.models import build_model, export_model
from stillroom.study.export import gathered, model_card, trunk
from stillroom.training import ALONE, TrainingData, train
from stillroom.types import UserError

RECORD = {
    "parameters": 1234567, "distinct_tokens": 1000, "tokens": 2000, "steps": 20, "seconds": 3.0, "validation_ce": 2.5,
}  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("heads", [1, 2])
def test_exported_logits_are_those_of_the_trained_model(tmp_path: Path, tied: bool, heads: int) -> None:
    model = build_model(engine.MODEL.model_copy(update={"tie_embeddings": tied}), engine.VOCAB, 0)
    data = TrainingData(engine.sequence_set(96, 1), engine.sequence_set(16, 2))
    objective = ObjectiveConfig(heads=heads)
    train(model, data, engine.training_config(steps=4), objective, tmp_path / "run", precision_name="bf16")
    weights = gathered(model, ALONE)
    export_model(model, tmp_path / "model", weights)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = data.heldout.batch([0, 1]).tokens_BT
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(tokens).logits, model.eval()(tokens).logits, rtol=0, atol=0)
    assert "stillroom" not in (tmp_path / "model/config.json").read_text()


def test_the_card_holds_results_and_a_recipe_that_runs_again() -> None:
    run = RunConfig(
        name="dpt90",
        corpus=CorpusConfig(sources={"facts": SourceConfig(kind="facts")}),
        objective=engine.OBJECTIVES["routed"],
    )
    card = model_card(run, RECORD)
    assert "1,234,567" in card
    assert "2.5000 nats per token" in card
    assert "soft labels with weight 0.9, routing low-entropy (25% of the positions)" in card
    values = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert values.pop("kind") == "run"
    assert parse(RunConfig, values, "card") == run


def test_further_heads_take_their_blocks_off_the_trunk() -> None:
    assert trunk(ModelConfig(num_layers=4), 1).num_layers == 4
    assert trunk(ModelConfig(num_layers=4), 4).num_layers == 1
    with pytest.raises(UserError, match="as many layers as heads"):
        trunk(ModelConfig(num_layers=2), 3)
    with pytest.raises(UserError, match=r"model\.path somewhere"):
        trunk(ModelConfig(path="somewhere"), 2)
