"""A Hugging Face folder from a run's folder, finished or under way, and the further heads beside it."""

from __future__ import annotations

from pathlib import Path

import engine
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from stillroom.config import CorpusConfig, ObjectiveConfig, RunConfig, SourceConfig, to_yaml
from stillroom.files import read_json, write_json, write_text
from stillroom.models import build_model, use_short_attention
from stillroom.study.export import (
    FURTHER_HEADS,
    describe_start,
    export_run,
    export_run_folder,
    forget_start,
    load_further_heads,
)
from stillroom.training import Hooks, Interrupted, train
from stillroom.training.mtp_heads import FurtherHeads
from stillroom.types import UserError

HEADS = ObjectiveConfig(heads=3)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = WordLevel({f"w{number}": number for number in range(engine.VOCAB)}, unk_token="w2")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), bos_token="w0", eos_token="w1", pad_token="w2")


def _run(folder: Path, stop_at: int | None, seed: int = 0) -> tuple[PreTrainedModel, FurtherHeads | None]:
    """Eight steps with three heads, a checkpoint after every second; ``stop_at`` leaves the run under way.

    Returns the model, and the further heads of a finished run.
    """
    model = build_model(engine.MODEL, engine.VOCAB, seed)
    training = engine.training_config(steps=8, checkpoint_steps=2, keep_last=3, validate_every=4)
    run = RunConfig(
        name="small",
        corpus=CorpusConfig(sources={"facts": SourceConfig(kind="facts")}),
        model=engine.MODEL.model_copy(update={"num_layers": engine.MODEL.num_layers + HEADS.heads - 1}),
        training=training, objective=HEADS,
    )  # fmt: skip
    folder.mkdir(parents=True)
    write_text(folder / "config.yaml", to_yaml(run, "run"))
    start = {"parameters": model.num_parameters(), "distinct_tokens": 1536}
    describe_start(folder, model, _tokenizer(), start)
    steps = iter(range(1, 100))
    data = engine.training_data()
    try:
        result = train(
            model,
            data,
            training,
            HEADS,
            folder,
            precision_name="fp32",
            hooks=Hooks(stop=lambda: next(steps) == stop_at),
        )
    except Interrupted:
        return model, None
    record = start | {"tokens": result.tokens, "steps": 8, "seconds": 1.0, "validation_ce": result.validation_ce}
    _tokenizer().save_pretrained(folder / "model")
    assert result.further is not None
    export_run(folder / "model", run, record, model, model.state_dict(), result.further.state_dict())
    write_json(folder / "result.json", record)
    forget_start(folder)
    return model, result.further


def _logits(model: PreTrainedModel) -> torch.Tensor:
    model.eval().set_attn_implementation("sdpa")
    with torch.no_grad():
        return model(engine.training_data().heldout.batch(range(4)).tokens_BT).logits


def test_a_run_under_way_is_exported_as_it_was_at_its_newest_checkpoint(tmp_path: Path) -> None:
    model, _ = _run(tmp_path / "run", stop_at=5)
    assert export_run_folder(tmp_path / "run", tmp_path / "out") == 5
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(_logits(loaded), _logits(model), rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").decode([3, 4]) == "w3 w4"
    card = (tmp_path / "out/README.md").read_text()
    assert "640 in 5 steps" in card
    assert "a checkpoint of a run under way" in card
    assert "kind: run" in card
    assert not (tmp_path / "out/start.json").exists()


def test_an_earlier_checkpoint_can_be_named(tmp_path: Path) -> None:
    _run(tmp_path / "run", stop_at=5)
    earlier, _ = _run(tmp_path / "again", stop_at=2)
    assert export_run_folder(tmp_path / "run", tmp_path / "out", step=2) == 2
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(_logits(loaded), _logits(earlier), rtol=0, atol=0)
    assert "not measured yet" in (tmp_path / "out/README.md").read_text()
    with pytest.raises(UserError, match=r"--step 3: .* of these: 2, 4, 5\."):
        export_run_folder(tmp_path / "run", tmp_path / "third", step=3)


def test_a_finished_run_is_copied_and_further_heads_come_back(tmp_path: Path) -> None:
    model, trained = _run(tmp_path / "run", stop_at=None)
    assert isinstance(trained, FurtherHeads)
    assert export_run_folder(tmp_path / "run", tmp_path / "out") is None
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(_logits(loaded), _logits(model), rtol=0, atol=0)
    assert read_json(tmp_path / "out/config.json")["further_heads"] == {"num": 2, "file": FURTHER_HEADS}
    further = load_further_heads(tmp_path / "out", loaded)
    batch = engine.training_data().heldout.batch(range(8))
    use_short_attention(loaded)  # as the trained model does
    use_short_attention(model)
    with torch.no_grad():
        ours = further.hidden_states(loaded, batch, isolate=True)
        expected = trained.hidden_states(model, batch, isolate=True)
        fresh = FurtherHeads(loaded, 2).hidden_states(loaded, batch, isolate=True)
    assert torch.equal(ours, expected)
    assert not torch.equal(ours[1:], fresh[1:])


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder of a training run"):
        export_run_folder(tmp_path, tmp_path / "out")
    _run(tmp_path / "run", stop_at=None)
    with pytest.raises(UserError, match="is a finished run, whose checkpoints are gone"):
        export_run_folder(tmp_path / "run", tmp_path / "out", step=4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(UserError, match="is there already; name a folder that is new or empty"):
        export_run_folder(tmp_path / "run", tmp_path / "full")
