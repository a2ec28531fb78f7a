"""Few-shot rules, recall, and the contamination check, on models and texts whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stillroom.evaluation import contamination, few_shot_items, measure_induction, measure_recall, recall_tokens
from stillroom.evaluation.measuring.induced_rules import rule_items, rules
from stillroom.results.json_form import as_json, from_json
from stillroom.results.schema import InductionResult, SetContamination
from stillroom.types import Batch, UserError
from stillroom.vocabulary import Vocabulary


@pytest.mark.parametrize("kind", ["string", "number"])
def test_rules_are_split_by_name_alone(kind) -> None:
    held, train = rules(kind, "heldout"), rules(kind, "train")
    assert held and len(held) < len(train)
    assert {rule.name for rule in held}.isdisjoint(rule.name for rule in train)
    assert len({rule.name for rule in rules(kind)}) == len(rules(kind)) == len(held) + len(train)


@pytest.mark.parametrize("kind", ["string", "number"])
def test_examples_settle_the_answer_and_no_wrong_output_fits_them(kind) -> None:
    items = rule_items(60, shots=2, kind=kind, seed=1)
    by_name = {rule.name: rule for rule in rules(kind)}
    assert len({item.rule for item in items}) > 2
    for item in items:
        assert by_name[item.rule].split == "heldout"
        fitting = [r for r in rules(kind) if all(r.apply(given) == made for given, made in item.examples)]
        assert {rule.apply(item.query) for rule in fitting} == {item.answer}
        assert item.answer not in item.wrong and len(set(item.wrong)) == 3
        assert item.query not in [given for given, _ in item.examples]
        assert item.prompt.count("\n") == 2 and item.prompt.endswith(f"\n{item.query} ->")


def test_an_item_is_a_function_of_its_seed_and_number() -> None:
    whole = rule_items(8, shots=3, kind="number", seed=4)
    assert rule_items(3, shots=3, kind="number", seed=4) == whole[:3]
    assert rule_items(8, shots=3, kind="number", seed=5) != whole
    shown = {r.name for r in rules("number", "train")}
    assert {item.rule for item in rule_items(20, shots=3, kind="number", seed=4, split="train")} <= shown


def test_induction_is_measured_by_kind_and_shots_and_at_any_batch_size(llama, tokenizer) -> None:
    items = few_shot_items(num=4, shots=[1, 2], seed=0)
    part = measure_induction(llama, tokenizer, items)
    assert from_json(InductionResult, json.loads(json.dumps(as_json(part))), Path("x")) == part
    assert part.accuracy.num == 16 and part.chance == 0.25
    assert (set(part.by_kind), set(part.by_shots)) == ({"string", "number"}, {1, 2})
    assert measure_induction(llama, tokenizer, items, tokens_at_a_time=1).accuracy == part.accuracy


def test_a_model_that_writes_the_answer_is_right_both_ways(llama, tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    from stillroom.evaluation.measuring import few_shot_rules as induction
    from stillroom.evaluation.sampling.draw import Samples

    items = few_shot_items(num=3, shots=[2], seed=0)
    ended = {"right": "\n", "goes on": "x\n"}

    def write(tail: str):
        lines = [tuple(tokenizer(f" {item.answer}{tail}", add_special_tokens=False)["input_ids"]) for item in items]
        return [[Samples((line,), (True,), (0.0,)) for line in lines]]

    written = {}
    for name, tail in ended.items():
        monkeypatch.setattr(induction, "sample", lambda *a, tail=tail, **k: write(tail))
        written[name] = measure_induction(llama, tokenizer, items).written.value
    assert written == {"right": 1.0, "goes on": 0.0}


def test_shots_beyond_the_positions_are_left_out_and_named(make_llama, tokenizer) -> None:
    model = make_llama()
    model.config.max_position_embeddings = 40
    part = measure_induction(model, tokenizer, few_shot_items(num=2, shots=[1, 20], seed=0))
    assert part.skipped_shots == (20,) and set(part.by_shots) == {1}
    model.config.max_position_embeddings = 5
    with pytest.raises(UserError, match="rule_shots"):
        measure_induction(model, tokenizer, few_shot_items(num=2, shots=[1], seed=0))


@pytest.fixture
def recalled(tokenizer, heldout_sequences):
    vocabulary = Vocabulary.of(tokenizer)
    ids = [i for i in range(3, 300) if i not in vocabulary.special]
    return recall_tokens(ids, [0], heldout_sequences, num=6, length=80, triggers=3, seed=2)


def test_a_trigger_always_has_the_same_successor(recalled) -> None:
    assert recalled.tokens_BT.shape == recalled.occurrence_BT.shape == (6, 81)
    assert (recalled.occurrence_BT >= 2).sum() > 20
    for tokens, marks in zip(recalled.tokens_BT.tolist(), recalled.occurrence_BT.tolist(), strict=True):
        outputs: dict[int, list[int]] = {}
        for place, mark in enumerate(marks):
            if mark:
                outputs.setdefault(tokens[place - 1], []).append(tokens[place])
                assert len(outputs[tokens[place - 1]]) == mark
        assert all(len(set(made)) == 1 for made in outputs.values()) and 2 <= len(outputs) <= 3
        assert all(marks[place + 1] for place in range(80) if tokens[place] in outputs)


def test_a_copier_recalls_and_a_uniform_model_does_not(scripted, recalled) -> None:
    def rule(ids: list[int]) -> int | None:
        earlier = [place for place in range(len(ids) - 1) if ids[place] == ids[-1]]
        return ids[earlier[-1] + 1] if earlier else None

    part = measure_recall(scripted(600, rule), recalled)
    assert part.accuracy.value == 1.0 and part.loss_repeat.value < 0.01
    assert part.loss_first.value == pytest.approx(np.log(600), rel=0.01)
    assert set(part.by_occurrence) >= {2, 3}
    assert measure_recall(scripted(600, lambda _: None), recalled).accuracy.value < 0.2
    one = measure_recall(scripted(600, rule), recalled, tokens_at_a_time=1)
    assert one == part


def test_recall_mistakes_are_said(scripted, tokenizer, heldout_sequences) -> None:
    with pytest.raises(UserError, match="recall_triggers is 3"):
        recall_tokens([5, 6, 7], [0], heldout_sequences, num=1, length=20, triggers=3, seed=0)
    short = recall_tokens(range(3, 90), [], heldout_sequences, num=1, length=2, triggers=2, seed=0)
    with pytest.raises(UserError, match="came twice"):
        measure_recall(scripted(600, lambda _: None), short)


class Training:
    """Sequences of known ids."""

    def __init__(self, tokens_IT: torch.Tensor) -> None:
        self.tokens_IT = tokens_IT
        self.sequence_length = tokens_IT.shape[1]

    def __len__(self) -> int:
        return len(self.tokens_IT)

    def batch(self, indices) -> Batch:
        tokens = self.tokens_IT[list(indices)]
        return Batch(tokens, tokens, torch.zeros_like(tokens, dtype=torch.int32))


def test_contamination_finds_what_is_there_and_nothing_else() -> None:
    training = Training(torch.randint(3, 5000, (50, 64), generator=torch.Generator().manual_seed(0)))
    whole = training.tokens_IT[7, 10:40].tolist()
    half = [*training.tokens_IT[3, :20].tolist(), *range(6000, 6020)]
    fresh = list(range(7000, 7040))
    short = training.tokens_IT[49, -4:].tolist()
    steps: list[tuple[int, int]] = []
    part = contamination(
        {"mixed": [whole, half, fresh, short], "clean": [fresh[:5]], "none": []},
        training,
        n=8,
        progress=lambda *step: steps.append(step),
    )
    assert (part.n, part.training_tokens) == (8, 50 * 64)
    share = pytest.approx((1 + 13 / 33 + 0 + 1) / 4)
    assert vars(part.sets["mixed"]) == {"num": 4, "overlap": share, "any": 0.75, "whole": 0.5}
    assert part.sets["clean"] == SetContamination(num=1, overlap=0.0, any=0.0, whole=0.0)
    assert set(part.sets) == {"mixed", "clean"} and steps[-1] == (50, 50)


def test_contamination_reads_only_so_many_sequences() -> None:
    training = Training(torch.arange(1000).view(20, 50))
    part = contamination(
        {"a": [training.tokens_IT[0].tolist()], "b": [training.tokens_IT[1].tolist()]}, training, max_sequences=2
    )
    assert part.training_tokens == 100
    assert (part.sets["a"].whole, part.sets["b"].any) == (1.0, 0.0)
