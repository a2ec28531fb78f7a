"""Every example does what it says: its loss is our own reducer's over a global step, however that is split."""

from __future__ import annotations

import ast
import copy
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

from stillroom.config import ObjectiveConfig
from stillroom.corpora.order import batch_indices
from stillroom.labels import LabelCollator, LabelDataset, LabelStore, batch_of
from stillroom.training import Student, global_step
from stillroom.training.step import StepContext
from stillroom.types import Batch
from tiny_labels import LENGTH, VOCAB

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
QUIET = pytest.mark.filterwarnings("ignore")
"""Other packages' notices are theirs to mend."""


def example(name: str) -> Any:
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


def fields_of(store: LabelStore, rows: list[int]) -> dict[str, Tensor]:
    return LabelCollator(store)([{"row": row} for row in rows])


@pytest.fixture
def wanted(student: Any, store: LabelStore) -> tuple[float, Tensor]:
    """The mean of a step over the whole store, and its gradient, by our own step."""
    trained, objective = copy.deepcopy(student), ObjectiveConfig(alpha=0.9)
    batch = batch_of(fields_of(store, list(range(8))))
    sums = global_step(Student(trained), [batch], StepContext(objective, store), objective, seed=0)
    return sums.means()["loss"], gradient(trained)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_has_sixty_lines_at_most_and_says_how_it_is_run(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 60
    assert "\n    " in (ast.get_docstring(ast.parse(text)) or "")


@QUIET
@pytest.mark.parametrize("name", ["hf_trainer_from_store", "accelerate_loop"])
def test_a_script_trains_and_saves_a_student(name: str, store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, str(store.place.url), str(tmp_path / "out")])
    example(name).main()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert saved.config.vocab_size == VOCAB and saved.config.num_hidden_layers == 4


@pytest.mark.parametrize("parts", [[8], [3, 3, 2]], ids=str)
def test_a_loop_over_accelerate(student, store, wanted, parts) -> None:
    from accelerate import Accelerator

    rows = iter(range(8))
    micro_batches = [fields_of(store, [next(rows) for _ in range(size)]) for size in parts]
    model, accelerator = copy.deepcopy(student), Accelerator(cpu=True)
    mean = example("accelerate_loop").step(accelerator, accelerator.prepare(model), micro_batches, 0)
    assert mean == pytest.approx(wanted[0], abs=1e-5)
    close(gradient(model), wanted[1])


class NanoGPT(nn.Module):
    """As nanoGPT and nanochat are called: ids and targets, of which -1 does not count."""

    def __init__(self, padded: int = VOCAB + 20) -> None:
        super().__init__()
        self.embedding, self.mixer = nn.Embedding(padded, 16), nn.GRU(16, 16, batch_first=True)
        self.lm_head = nn.Linear(16, padded, bias=False)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.mixer(self.embedding(idx))[0]
        if targets is None:
            return self.lm_head(x[:, [-1], :]), None
        logits = self.lm_head(x)
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def test_a_reader_for_nanogpt_is_a_function_of_seed_epoch_and_step(sequences) -> None:
    reader = example("nanogpt_reader").Reader
    steps = [reader(sequences, 4, seed=3)(step) for step in range(4)]
    epochs = [{tuple(row) for x, _ in part for row in x.tolist()} for part in (steps[:2], steps[2:])]
    assert epochs[0] == epochs[1] and len(epochs[0]) == 8
    assert not torch.equal(steps[0][0], steps[2][0]) and torch.equal(reader(sequences, 4, seed=3)(2)[0], steps[2][0])
    assert not torch.equal(steps[0][0], reader(sequences, 4, seed=4)(0)[0])
    ranks = [reader(sequences, 4, 3, rank, 2)(0)[0] for rank in range(2)]
    assert torch.equal(torch.stack(ranks, 1).flatten(0, 1), steps[0][0])
    x, y = steps[0]
    assert torch.equal(x[:, 1:][y[:, :-1] >= 0], y[:, :-1][y[:, :-1] >= 0]) and (y == -1).any()


def test_the_loss_for_nanogpt_is_that_of_full_logits(sequences, store) -> None:
    module, model = example("nanogpt_reader"), NanoGPT()
    reader = module.Reader(sequences, 8)
    loss = module.distilled(model, reader, 0, store)
    loss.backward()
    found, batch = gradient(model), reader.batch(0)
    model.zero_grad()
    full_logits(model, batch, store, lambda tokens: model(tokens, tokens)[0], loss.detach())
    close(found, gradient(model))


@QUIET
@pytest.mark.real
def test_lightning(student, store, wanted, tmp_path) -> None:
    lightning = pytest.importorskip("lightning")
    module = example("lightning_module").Distilling(copy.deepcopy(student), store, micro_batch=3)
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=1.0)
    before = torch.cat([one.detach().flatten().clone() for one in module.parameters()])
    loader = DataLoader(LabelDataset(store), 8, collate_fn=LabelCollator(store))  # type: ignore[arg-type]
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(module, loader)
    close(before - torch.cat([one.detach().flatten() for one in module.parameters()]), wanted[1])
    assert float(trainer.callback_metrics["loss"]) == pytest.approx(wanted[0], abs=1e-5)
    (kept,) = tmp_path.rglob("*.ckpt")
    assert set(torch.load(kept, weights_only=False)["state_dict"]) == set(module.state_dict())


@QUIET
@pytest.mark.real
def test_trl_packs_text_and_documents_do_not_see_one_another(student, teacher, tmp_path) -> None:
    pytest.importorskip("trl")
    from datasets import Dataset

    from stillroom.corpora import train_tokenizer
    from stillroom.corpora.tokenizer import with_marks

    texts = [f"number {n} " * (1 + n % 5) for n in range(40)]
    tokenizer = with_marks(train_tokenizer(texts, 280))
    settings = {"max_steps": 1, "per_device_train_batch_size": 4, "max_length": LENGTH, "packing_strategy": "bfd"}
    settings |= {"use_cpu": True, "bf16": False, "save_strategy": "no", "learning_rate": 1.0, "optim": "sgd"}
    settings |= {"max_grad_norm": 0.0, "lr_scheduler_type": "constant", "gradient_checkpointing": False}

    def change(size: int, parts: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        model, seen = copy.deepcopy(student), []
        trainer = example("trl_sft_with_teacher").trainer_of(
            model, copy.deepcopy(teacher), Dataset.from_dict({"text": texts}), tmp_path, processing_class=tokenizer,
            **{**settings, "per_device_train_batch_size": size, "gradient_accumulation_steps": parts},
        )  # fmt: skip
        own = trainer.compute_loss
        trainer.compute_loss = lambda model, inputs, *rest, **named: (
            seen.append(inputs) or own(model, inputs, *rest, **named)
        )
        before = torch.cat([one.detach().flatten().clone() for one in model.parameters()])
        trainer.train()
        return before - torch.cat([one.detach().flatten() for one in model.parameters()]), seen

    whole, seen = change(4, 1)
    close(change(1, 4)[0], whole)
    restarts = (seen[0]["position_ids"] == 0).sum()
    assert restarts > 4  # several texts to a row
    objective, model = ObjectiveConfig(alpha=0.9), copy.deepcopy(student)
    from stillroom.teachers import LiveTeacher

    live = LiveTeacher(copy.deepcopy(teacher))
    global_step(Student(model), [batch_of(seen[0])], StepContext(objective, live), objective, seed=0)
    close(whole, gradient(model))


@QUIET
@pytest.mark.real
def test_the_script_for_trl_trains_and_saves_a_student(student, teacher, tmp_path, monkeypatch) -> None:
    pytest.importorskip("trl")
    from stillroom.corpora import train_tokenizer
    from stillroom.corpora.tokenizer import with_marks

    texts = [f"number {n} " * (1 + n % 5) for n in range(40)]
    tokenizer = with_marks(train_tokenizer(texts, 280))
    for name, model in (("student", student), ("teacher", teacher)):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["trl_sft_with_teacher", "student", "teacher", "texts.jsonl", "out"])
    example("trl_sft_with_teacher").main()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert any(not torch.equal(*pair) for pair in zip(saved.parameters(), student.parameters(), strict=True))


@QUIET
@pytest.mark.real
def test_litgpt(store, sequences) -> None:
    pytest.importorskip("litgpt")
    import lightning
    from litgpt import GPT, Config

    module = example("litgpt_distillation")
    shape = {"block_size": LENGTH, "n_layer": 1, "n_embd": 16, "n_head": 2, "final_logit_softcapping": 5.0}
    model = GPT(Config(vocab_size=VOCAB, padded_vocab_size=VOCAB + 20, **shape))
    data = module.StoredCorpus(sequences)
    data.connect(batch_size=3, max_seq_length=LENGTH)
    micro_batches = list(data.train_dataloader())
    assert [len(one["input_ids"]) for one in micro_batches] == [3, 3, 2]
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    model = fabric.setup(model)
    mean = module.step(fabric, model, micro_batches, store)
    found = gradient(model)
    model.zero_grad()
    full_logits(model, sequences.batch(range(8)), store, lambda tokens: model(tokens), mean)
    close(found, gradient(model))


def full_logits(model: nn.Module, batch: Batch, store: LabelStore, logits: Any, mean: Tensor) -> None:
    """Checks a mean against full logits, and leaves their gradient."""
    log_p = torch.log_softmax(logits(batch.tokens_BT)[..., :VOCAB].double(), -1)
    soft = store.labels(batch)
    teacher = -(soft.weights.double() * log_p.gather(2, soft.ids)).sum(-1)
    hard = -log_p.gather(2, batch.targets_BT.clamp(min=0)[..., None])[..., 0]
    full = (0.1 * hard + 0.9 * teacher)[batch.targets_BT >= 0].mean()
    full.backward()
    assert float(mean) == pytest.approx(float(full.detach()), abs=1e-5)


@QUIET
@pytest.mark.real
def test_the_head_of_olmo_core(store, sequences) -> None:
    pytest.importorskip("olmo_core")
    from olmo_core.nn.lm_head import LMHead
    from olmo_core.nn.transformer import TransformerConfig

    module = example("olmo_core_head")
    own = inspect.signature(LMHead.forward).parameters
    read = {"ignore_index", "loss_reduction", "z_loss_multiplier", "loss_div_factor"}
    assert read <= set(own) and [own[name].default for name in ("ignore_index", "loss_reduction")] == [-100, "mean"]
    model = TransformerConfig.llama_like(
        d_model=16, vocab_size=VOCAB, n_layers=1, n_heads=2, hidden_size_multiplier=1.0
    ).build(init_device="cpu")
    model.init_weights(device=torch.device("cpu"))
    names = set(model.state_dict())
    module.distil(model, store)
    assert set(model.state_dict()) == names
    batch = sequences.batch(range(8))
    count, total = (batch.targets_BT >= 0).sum(), torch.zeros(())
    for start in (0, 3, 6):  # as its train module does: sums over the micro-batches, divided by the step's count
        tokens, labels = batch.tokens_BT[start : start + 3], batch.targets_BT[start : start + 3]
        found = model(tokens, labels=labels, loss_reduction="sum", loss_div_factor=count, return_logits=False)
        found.loss.backward()
        total += found.loss.detach()
    taken = gradient(model)
    model.zero_grad()
    full_logits(model, batch, store, model, total)
    close(taken, gradient(model))
    each = model(batch.tokens_BT, labels=batch.targets_BT, loss_reduction="none")
    assert each.loss.shape == batch.tokens_BT.shape
    whole = model(batch.tokens_BT, labels=batch.targets_BT)
    assert float(whole.loss.detach()) == pytest.approx(float(total), abs=1e-5)
    model.eval()
    plain = model(batch.tokens_BT, labels=batch.targets_BT)
    assert float(plain.loss.detach()) == pytest.approx(float(whole.ce_loss), abs=1e-5)


@QUIET
@pytest.mark.real
def test_the_loss_for_torchtitan(store, sequences) -> None:
    loss_module = pytest.importorskip("torchtitan.components.loss", exc_type=ImportError)
    pytest.importorskip("torchtitan.trainer", exc_type=ImportError)  # which needs triton
    own = inspect.signature(loss_module.ChunkedLossWrapper.__call__).parameters
    assert list(own)[:4] == ["self", "pred", "labels", "global_valid_tokens"]
    module, model = example("torchtitan_loss"), NanoGPT(VOCAB)
    loss = module.DistillationLoss.Config(store=store.place.url).build()
    loss.set_lm_head(model.lm_head)
    trainer = SimpleNamespace(
        loss_fn=loss, model_config=None, ntokens_seen=0,
        parallel_dims=SimpleNamespace(cp_enabled=False),
        config=SimpleNamespace(parallelism=SimpleNamespace(spmd_backend="default")),
    )  # fmt: skip
    batch = sequences.batch(range(8))
    count, total = (batch.targets_BT >= 0).sum(), torch.zeros(())
    for start in (0, 3, 6):
        fields = {"input": batch.tokens_BT[start : start + 3]}
        post = module.Trainer.post_dataloading_process
        tokens, labels, _ = _bound(module.Trainer, post, trainer)(fields, batch.targets_BT[start : start + 3])
        hidden = model.mixer(model.embedding(tokens))[0]
        value, _ = loss(hidden, labels, count, positions=None)
        value.backward()
        total += value.detach()
    taken = gradient(model)
    model.zero_grad()
    full_logits(model, batch, store, lambda tokens: model(tokens, tokens)[0], total)
    close(taken, gradient(model))


def _bound(kind: type, method: Any, given: SimpleNamespace) -> Any:
    """A method on an object that has only what it reads: torchtitan's trainer starts on accelerators alone."""
    made = object.__new__(kind)
    vars(made).update(vars(given))
    return method.__get__(made)


@QUIET
@pytest.mark.real
def test_the_loader_for_torchtitan(tiny_corpus) -> None:
    pytest.importorskip("torchtitan.components.dataloader", exc_type=ImportError)
    module = example("torchtitan_loader")
    options = {"tokenizer": None, "seq_len": 1, "local_batch_size": 2, "dp_world_size": 2}
    config = module.CorpusLoader.Config(corpus=str(tiny_corpus.folder), seed=5)
    first, second = (config.build(dp_rank=rank, **options) for rank in range(2))
    seen = [next(iter(one)) for one in (first, second)]
    numbers = batch_indices(0, 4, len(tiny_corpus.train), 5)
    wanted = tiny_corpus.train.batch(numbers.tolist())
    assert torch.equal(seen[0][0]["input"], wanted.tokens_BT[::2]) and torch.equal(seen[1][1], wanted.targets_BT[1::2])
    assert bool((seen[0][0]["positions"][:, 0] == 0).all())
    stream = iter(first)
    next(stream)
    again = config.build(dp_rank=0, **options)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert torch.equal(next(iter(again))[1], next(stream)[1])
