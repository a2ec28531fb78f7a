"""Questions over the context: built as they should be, and scored rightly on models whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from stillroom.evaluation.measuring.choices import Question, score_choices
from stillroom.evaluation.measuring.needles import context_questions, measure_context, measure_needle, needle_questions
from stillroom.types import Estimate, UserError
from stillroom.worlds.words import ATTRIBUTES


def test_choices_are_compared_by_their_log_probability(scripted) -> None:
    always_five = scripted(20, lambda _: 5)
    questions = [Question((3,), ((5,), (6,)), 0, "a"), Question((3,), ((5, 5), (5, 6), (7,)), 1, "b")]
    answered = score_choices(always_five, questions)
    assert answered.chosen_I.tolist() == [True, False]
    assert answered.written_I.tolist() == [True, False]
    assert answered.margin_I == pytest.approx([50.0, -50.0], abs=1e-3)
    assert answered.summary().chance == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert answered.of_group("b").summary().accuracy == Estimate(0.0, 0.0, 0.0, 1)


def test_a_model_without_a_preference_is_never_right(scripted) -> None:
    answered = score_choices(scripted(20, lambda _: None), [Question((3,), ((5,), (6,)), 0)])
    assert not answered.chosen_I.any()


def test_questions_at_batch_1_and_64(llama) -> None:
    rng = np.random.default_rng(0)
    questions = [
        Question(tuple(rng.integers(3, 600, 9).tolist()), tuple((int(i),) for i in rng.integers(3, 600, 4)), 1)
        for _ in range(64)
    ]
    one, many = (
        score_choices(llama, questions, tokens_at_a_time=1),
        score_choices(llama, questions, tokens_at_a_time=10**6),
    )
    np.testing.assert_allclose(one.margin_I, many.margin_I, atol=2e-5)
    assert (one.chosen_I == many.chosen_I).all()


@pytest.fixture(scope="module")
def haystack(tokenizer, heldout_sequences) -> list[Question]:
    return needle_questions(tokenizer, heldout_sequences, lengths=[60, 90], depths=[0.0, 0.5, 1.0], num_each=4, seed=0)


def test_needles_lie_where_they_were_put(tokenizer, haystack) -> None:
    assert len(haystack) == 24
    for question in haystack:
        length, depth = question.group
        assert len(question.context) == length
        assert question.context[0] == 0 and not {0, 1, 2} & set(question.context[1:])
        text = tokenizer.decode(question.context[1:])
        start = text.rsplit("\n", 1)[1]
        value = tokenizer.decode(question.choices[question.right])
        assert text.count(f"\n{start}{value}.\n") == 1
        place = text.index(f"\n{start}{value}.\n")
        rest = len(text) - len(start) - len(f"\n{start}{value}.\n") - 1
        assert place / rest == pytest.approx(depth, abs=0.25)
        assert any(value.strip() in attribute.values for attribute in ATTRIBUTES)
        assert len(set(question.choices)) == len(question.choices)


def test_cells_share_their_facts_and_a_question_does_not_depend_on_the_others(tokenizer, heldout_sequences, haystack):
    fewer = needle_questions(tokenizer, heldout_sequences, lengths=[60], depths=[0.5], num_each=2, seed=0)
    same = [question for question in haystack if question.group == (60, 0.5)][:2]
    assert [question.choices[question.right] for question in fewer] == [q.choices[q.right] for q in same]
    assert (
        needle_questions(tokenizer, heldout_sequences, lengths=[60, 90], depths=[0.0, 0.5, 1.0], num_each=4, seed=0)
        == haystack
    )


def finder(tokenizer):
    """A rule that looks for the text of its last line earlier on and writes what followed."""

    def rule(ids: list[int]) -> int | None:
        text = ids[1:]
        for size in range(12, 1, -1):
            tail = text[-size:]
            for place in range(len(text) - size):
                if text[place : place + size] == tail:
                    return text[place + size]
        return None

    return rule


def test_a_reader_finds_every_needle(tokenizer, scripted, haystack) -> None:
    steps: list[tuple[int, int]] = []
    part = measure_needle(scripted(600, finder(tokenizer)), haystack, progress=lambda *step: steps.append(step))
    assert (part.lengths, part.depths) == ((60, 90), (0.0, 0.5, 1.0))
    assert [[cell.value for cell in row] for row in part.grid] == [[1.0] * 3] * 2
    assert part.accuracy.value == part.exact.value == 1.0
    assert part.accuracy.num == 24
    assert steps[-1][0] == steps[-1][1]


def test_needle_mistakes_are_said(tokenizer, heldout_sequences, llama) -> None:
    with pytest.raises(UserError, match="needle length is 5 tokens"):
        needle_questions(tokenizer, heldout_sequences, lengths=[5], depths=[0.5], num_each=1, seed=0)
    with pytest.raises(UserError, match="depths are"):
        needle_questions(tokenizer, heldout_sequences, lengths=[60], depths=[1.5], num_each=1, seed=0)
    long = needle_questions(tokenizer, heldout_sequences, lengths=[512], depths=[0.5], num_each=1, seed=0)
    with pytest.raises(UserError, match="512 positions"):
        measure_needle(llama, long)
    with pytest.raises(UserError, match="no question"):
        score_choices(llama, [])


def test_context_questions_ask_what_was_stated(tokenizer, scripted) -> None:
    questions = [
        *context_questions(tokenizer, num=6, notes=1, seed=1),
        *context_questions(tokenizer, num=6, notes=4, seed=1),
    ]
    for question in questions:
        text = tokenizer.decode(question.context[1:])
        start = text.rsplit("\n", 1)[1]
        assert f"{start}{tokenizer.decode(question.choices[question.right])}." in text
        assert text.count(".") == question.group
    part = measure_context(scripted(600, finder(tokenizer)), questions)
    assert part.accuracy.value == 1.0
    assert list(part.by_notes) == [1, 4]
    assert part.by_notes[4].accuracy.num == 6
