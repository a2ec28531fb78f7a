"""Finding a fact in the context: one sentence in a haystack, and one of several stated facts.

Entities are made up afresh, so that no answer can come from memory. Letters: I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stillroom.evaluation.measuring.choices import Question, score_choices
from stillroom.evaluation.scoring import TOKENS_AT_A_TIME
from stillroom.models import num_positions
from stillroom.results.schema import ContextResult, NeedleResult
from stillroom.types import OnProgress, Sequences, UserError
from stillroom.vocabulary import Vocabulary, encode, encode_documents
from stillroom.worlds.words import ATTRIBUTES, Attribute, made_up_name


def _fact(random: Random) -> tuple[str, str, Attribute, str]:
    """A sentence about a fresh entity, the same sentence up to its value, the attribute and the value."""
    attribute, name = random.choice(ATTRIBUTES), made_up_name(random)
    value, pattern = random.choice(attribute.values), random.choice(attribute.ending)
    return pattern.format(e=name, v=value) + ".", pattern.format(e=name, v="").rstrip(), attribute, value


def needle_questions(
    tokenizer: PreTrainedTokenizerBase,
    filler: Sequences,
    *,
    lengths: Sequence[int],
    depths: Sequence[float],
    num_each: int,
    seed: int,
) -> list[Question]:
    """``num_each`` questions for every (length, depth): a stated fact within real text, and its start at the end.

    ``lengths`` are whole prompts in tokens; ``depths`` are from 0 (the fact comes first) to 1 (last). The choices are
    all values of the attribute. Every question is a function of the seed and its number, and the same facts and filler
    serve every cell, so that cells differ in length and depth alone. Raises ``UserError`` for a depth outside 0 to 1,
    and for a length that cannot hold the fact and its question.
    """
    vocabulary = Vocabulary.of(tokenizer)
    if not all(0 <= depth <= 1 for depth in depths):
        raise UserError(f"depths are {list(depths)}, expected numbers from 0 (first) to 1 (last).")
    questions = []
    for number in range(num_each):
        random = Random(f"needle/{seed}/{number}")
        sentence, start, attribute, value = _fact(random)
        needle, query = encode(tokenizer, [f"\n{sentence}\n", f"\n{start}"])
        hay = _filler(filler, vocabulary, max(lengths), random)
        choices = tuple(tuple(ids) for ids in encode(tokenizer, [f" {other}" for other in attribute.values]))
        for length in lengths:
            room = length - len(vocabulary.start) - len(needle) - len(query)
            if room < 0:
                raise UserError(f"needle length is {length} tokens, expected at least {length - room}; lengthen it.")
            for depth in depths:
                before = round(depth * room)
                context = (*vocabulary.start, *hay[:before], *needle, *hay[before:room], *query)
                questions.append(Question(context, choices, attribute.values.index(value), (length, depth)))
    return questions


def _filler(filler: Sequences, vocabulary: Vocabulary, length: int, random: Random) -> list[int]:
    """At least ``length`` ordinary ids of consecutive sequences from a random one on."""
    ids: list[int] = []
    place = random.randrange(len(filler))
    while len(ids) < length:
        row = filler.batch([place % len(filler)]).tokens_BT[0].tolist()
        ids += [i for i in row if i not in vocabulary.special]
        place += 1
        if place > 2 * len(filler) + length:
            raise UserError("needle: the filler has too little ordinary text; give longer held-out text.")
    return ids


def measure_needle(
    model: PreTrainedModel,
    questions: Sequence[Question],
    *,
    seed: int = 0,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> NeedleResult:
    """Needle in a haystack: accuracy in all, and the grid of lengths (rows) by depths (columns) for a heat map.

    Raises ``UserError`` without questions, or where one is longer than the model's positions.
    """
    longest = num_positions(model.config)
    needed = max(len(question.context) + max(map(len, question.choices)) for question in questions)
    if longest is not None and needed > longest:
        raise UserError(f"needle: needs {needed} tokens but the model has {longest} positions; shorten the lengths.")
    answered = score_choices(model, questions, tokens_at_a_time=tokens_at_a_time, progress=progress)
    lengths = sorted({question.group[0] for question in questions})  # type: ignore[index]
    depths = sorted({question.group[1] for question in questions})  # type: ignore[index]
    grid = tuple(tuple(answered.of_group((length, depth)).accuracy(seed) for depth in depths) for length in lengths)
    whole, items = vars(answered.summary(seed)), answered.per_item()
    return NeedleResult(**whole, lengths=tuple(lengths), depths=tuple(depths), grid=grid, per_item=items)


def context_questions(tokenizer: PreTrainedTokenizerBase, *, num: int, notes: int, seed: int) -> list[Question]:
    """Questions about one of ``notes`` facts that the context states, each about an entity of its own.

    The choices are the values of the attribute; facts about other attributes are there to mislead a reader who only
    picks a value from the context, and where two facts share the attribute, a reader who does not tell entities apart.
    """
    start = Vocabulary.of(tokenizer).start
    questions = []
    for number in range(num):
        random = Random(f"context/{seed}/{number}")
        facts = [_fact(random) for _ in range(notes)]
        _, query, attribute, value = random.choice(facts)
        text = "Notes: " + " ".join(sentence for sentence, *_ in facts) + "\n" + query
        (context,) = encode_documents(tokenizer, [text])
        choices = tuple(tuple(ids) for ids in encode(tokenizer, [f" {other}" for other in attribute.values]))
        questions.append(Question((*start, *context), choices, attribute.values.index(value), notes))
    return questions


def measure_context(
    model: PreTrainedModel,
    questions: Sequence[Question],
    *,
    seed: int = 0,
    tokens_at_a_time: int = TOKENS_AT_A_TIME,
    progress: OnProgress | None = None,
) -> ContextResult:
    """Context question answering: accuracy in all, and by the number of stated facts."""
    answered = score_choices(model, questions, tokens_at_a_time=tokens_at_a_time, progress=progress)
    by_notes = {int(notes): answered.of_group(notes).summary(seed) for notes in dict.fromkeys(answered.groups)}  # type: ignore[call-overload]
    return ContextResult(**vars(answered.summary(seed)), by_notes=by_notes, per_item=answered.per_item())
