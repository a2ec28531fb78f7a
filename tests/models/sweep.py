"""Everything that this package reads off a causal model, beside what the model's own forward pass says.

``examine`` gives a verdict for every facet: ``equal``, or ``refused`` with the sentence that a user reads; a number
that differs is an error. ``python tests/models/sweep.py`` writes the table of all architectures that the documentation
shows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from architectures import ARCHITECTURES, VOCAB, tiny_model
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from stillroom.config import ObjectiveConfig
from stillroom.corpora.corpus import make_batch
from stillroom.evaluation.sampling.llama_cache import encode_prompts
from stillroom.evaluation.scoring import Continuation, score_continuations
from stillroom.models import export_model, load_model
from stillroom.models.contract import checked
from stillroom.models.forward import layer_list, patterns_by_layer
from stillroom.teachers.scores import ModelScores
from stillroom.training.mtp_heads import check_further
from stillroom.training.step import StepContext, Student, global_step
from stillroom.types import IGNORE_INDEX, Batch, UserError

TABLE = Path(__file__).parents[2] / "docs" / "architectures.json"
TOLERANCE = 2e-4
"""Of the largest number, in float32."""
LENGTHS = ((13, 5, 1, 14), (20, 13))
"""Tokens of the documents of two rows; the window is 8."""
FACETS = ("load", "labels", "training", "further heads", "scores", "sampling", "heads", "export")


def examine(name: str) -> dict[str, str]:
    """Facet to verdict; the facets after ``load`` are missing where loading refuses the model."""
    try:
        model = tiny_model(name)
    except Exception as error:
        return {"load": f"no tiny model could be made: {_sentence(error)}"}
    verdicts: dict[str, str] = {}
    for facet, check in _CHECKS.items():
        verdicts[facet] = _verdict(check, model)
        if facet == "load" and verdicts[facet] != "equal":
            break
    return verdicts


def _verdict(check: Callable[[PreTrainedModel], None], model: PreTrainedModel) -> str:
    try:
        check(model)
    except UserError as error:
        return f"refused: {_sentence(error)}"
    return "equal"


def _sentence(error: Exception) -> str:
    return f"{error}".split("\n", 1)[0][:300] or type(error).__name__


def batch() -> Batch:
    """Two rows of packed documents that begin at token 0."""
    generator = torch.Generator().manual_seed(1)
    tokens_BT = torch.randint(3, VOCAB, (len(LENGTHS), sum(LENGTHS[0])), generator=generator)
    for row, lengths in enumerate(LENGTHS):
        for start in (sum(lengths[:number]) for number in range(len(lengths))):
            tokens_BT[row, start] = 0
    return make_batch(tokens_BT, 0)


def documents() -> Iterator[tuple[int, slice]]:
    """Row and place of every document."""
    for row, lengths in enumerate(LENGTHS):
        for number, length in enumerate(lengths):
            yield row, slice(sum(lengths[:number]), sum(lengths[:number]) + length)


def own_logits(model: PreTrainedModel, isolate: bool) -> Tensor:
    """The model's own logits (B, T, V): of every document alone, or of the rows as they are."""
    tokens_BT = batch().tokens_BT
    if not isolate:
        return model(input_ids=tokens_BT, use_cache=False).logits.float()
    rows: list[list[Tensor]] = [[] for _ in LENGTHS]
    for row, place in documents():
        rows[row].append(model(input_ids=tokens_BT[row : row + 1, place], use_cache=False).logits[0].float())
    return torch.stack([torch.cat(parts) for parts in rows])


def assert_equal(found: Tensor, expected: Tensor, what: str) -> None:
    """Fails where a number differs by more than ``TOLERANCE`` of the largest."""
    error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    assert error <= TOLERANCE, f"{what}: differs by {error:.2g} of the largest number"


def _loads(model: PreTrainedModel) -> None:
    checked(model, "model")


@torch.no_grad()
def _labels(model: PreTrainedModel) -> None:
    before = model.config._attn_implementation
    for implementation in ("eager", "sdpa"):
        try:
            model.set_attn_implementation(implementation)
        except (ValueError, ImportError):
            continue
        for isolate in (True, False):
            found = torch.cat(list(ModelScores(model, VOCAB, isolate, "fp32").chunks(batch())))
            expected = own_logits(model, isolate).flatten(0, 1)[:, :VOCAB]
            assert_equal(found, expected, f"labels, {implementation}, isolate={isolate}")
    model.set_attn_implementation(before or "eager")


def _training(model: PreTrainedModel) -> None:
    for isolate in (True, False):
        context = StepContext(ObjectiveConfig(), isolate=isolate)
        model.zero_grad()
        sums = global_step(Student(model), [batch()], context, context.objective, seed=0)
        found = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
        model.zero_grad()
        logits_NV = own_logits(model, isolate).flatten(0, 1)
        targets_N = batch().targets_BT.flatten()
        loss = torch.nn.functional.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE_INDEX)
        loss.backward()
        assert_equal(torch.tensor(sums.means()["loss"]), loss.detach(), f"loss, isolate={isolate}")
        expected = {name: part.grad for name, part in model.named_parameters() if part.grad is not None}
        assert {n for n, g in found.items() if g.any()} == {n for n, g in expected.items() if g.any()}
        largest = max(float(gradient.abs().max()) for gradient in expected.values())
        for name, gradient in expected.items():
            error = float((found.get(name, torch.zeros(())) - gradient).abs().max()) / largest
            assert error <= 5 * TOLERANCE, f"gradient of {name}, isolate={isolate}: differs by {error:.2g}"
        model.zero_grad(set_to_none=True)


def _text(seed: int, length: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def _last_logits(model: PreTrainedModel, text: tuple[int, ...]) -> Tensor:
    return model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1].float()


@torch.no_grad()
def _scores(model: PreTrainedModel) -> None:
    items = [Continuation(_text(seed, length), _text(10 * seed + number, size))
             for seed, length in ((1, 12), (2, 5)) for number, size in enumerate((1, 4, 11))]  # fmt: skip
    found = score_continuations(model, items)
    for item, logprob in zip(items, found.logprob_I, strict=True):
        text = item.context + item.continuation
        rows_TV = model(input_ids=torch.tensor([text]), use_cache=False).logits[0].float().log_softmax(-1)
        places = range(len(item.context) - 1, len(text) - 1)
        expected = sum(float(rows_TV[place, text[place + 1]]) for place in places)
        assert_equal(torch.tensor(logprob), torch.tensor(expected), "score of a continuation")


@torch.inference_mode()
def _sampling(model: PreTrainedModel) -> None:
    texts = [_text(5, 11), _text(6, 4)]
    prefix = encode_prompts(model, texts)
    assert_equal(prefix.logits_PV, torch.stack([_last_logits(model, text) for text in texts]), "first token")
    rows, texts = prefix.rows(2, 6), [text for text in texts for _ in range(2)]
    for step in range(5):
        chosen = _text(20 + step, len(texts))
        texts = [(*text, token) for text, token in zip(texts, chosen, strict=True)]
        found = rows.step(torch.tensor(chosen))
        assert_equal(found, torch.stack([_last_logits(model, text) for text in texts]), f"token {step + 2}")
        if step == 2:
            rows.keep(torch.tensor([0, 2, 3]))
            texts = [texts[number] for number in (0, 2, 3)]


@torch.no_grad()
def _heads(model: PreTrainedModel) -> None:
    tokens_BT = batch().tokens_BT[:, :12]
    patterns = patterns_by_layer(model, tokens_BT)
    layers = layer_list(model)
    for number, pattern_BHTT in patterns.items():
        assert float(pattern_BHTT.triu(1).abs().max()) == 0, f"layer {number} looks ahead"
        total = pattern_BHTT.sum(-1)
        assert bool((total <= 1 + 1e-4).all()), f"layer {number} gives no shares"
        assert layers is None or number < len(layers)


@torch.no_grad()
def _exports(model: PreTrainedModel) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export_model(model, Path(folder))
        again = load_model(folder)
    assert_equal(own_logits(again, False), own_logits(model, False), "after export and load")


_CHECKS: dict[str, Callable[[PreTrainedModel], None]] = dict(
    zip(FACETS, (_loads, _labels, _training, check_further, _scores, _sampling, _heads, _exports), strict=True)
)


def write_table(names: tuple[str, ...] = ARCHITECTURES) -> None:
    """Examines all architectures and writes what was found."""
    table = json.loads(TABLE.read_text()) if TABLE.exists() and names != ARCHITECTURES else {}
    wrong = []
    for name in names:
        try:
            table[name] = examine(name)
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
        print(name, table.get(name), *wrong[-1:], flush=True)
    if wrong:
        raise SystemExit("\n".join(wrong))
    TABLE.write_text(json.dumps({name: table[name] for name in sorted(table)}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="ARCHITECTURE", help="by model type; all where none is named")
    asked = parser.parse_args().kinds
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    write_table(tuple(asked) or ARCHITECTURES)
