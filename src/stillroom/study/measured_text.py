"""What a model is measured on: a corpus's held-out text in the corpus's tokens or, where its own differ, in its own."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from stillroom.config import SourceConfig
from stillroom.corpora import Corpus, load_tokenizer, special_ids, tokenizer_hash
from stillroom.corpora.tokenizer import with_marks
from stillroom.evaluation import Heldout, Material
from stillroom.evaluation.measuring.other_tokens import in_other_tokens
from stillroom.results.schema import MeasuredOn
from stillroom.study.teacherfolders import check_measured, check_rows, has_tokenizer, reads_ids_of
from stillroom.types import UserError
from stillroom.vocabulary import token_bytes

Sources = dict[str, SourceConfig]


@dataclass(frozen=True)
class MeasuredText:
    """What items are made of for one model, and what their numbers compare by."""

    material: Material
    measured_on: MeasuredOn | None
    """None where nothing says what the ids of a model are."""
    corpus: Corpus | None = None
    material_of_corpus: Material | None = None
    """In the corpus's own tokens, to be looked for in its training text."""
    note: str = ""
    """What a person should know of it."""


def material_of(corpus: Corpus, sources: Sources) -> Material:
    """What a corpus gives to make items of; of two worlds of a kind the first is taken."""
    worlds = {source.kind: dict(source.options) for source in reversed(sources.values())}
    return Material(corpus.tokenizer, _heldout(corpus), worlds)


def _heldout(corpus: Corpus) -> Heldout:
    corpus.check_bytes()
    return Heldout(
        sequences=corpus.heldout,
        byte_lengths_V=token_bytes(corpus.tokenizer),
        source_names=corpus.source_names,
        source_codes=corpus.heldout.source,
        documents=corpus.heldout.texts,
        bytes_of=corpus.heldout.token_bytes,
        isolate=corpus.isolate,
        real_sources=corpus.real_sources,
    )


def text_of(corpus: Corpus, sources: Sources) -> MeasuredText:
    """What a model of a corpus's own tokenizer is measured on."""
    material = material_of(corpus, sources)
    measured_on = MeasuredOn(text=corpus.text_identity, tokenizer=corpus.manifest["tokenizer_hash"])
    return MeasuredText(material, measured_on, corpus, material)


def text_for(model: Path, corpus: Corpus | None, sources: Sources) -> MeasuredText:
    """What a model folder is measured on: held-out text in its own tokens where they are not the corpus's.

    Raises ``UserError`` for a model without a tokenizer whose vocabulary is not the corpus's, and for a tokenizer that
    loses text or cannot open a document.
    """
    if corpus is None:
        tokenizer = load_tokenizer(model)
        return MeasuredText(Material(tokenizer), MeasuredOn(tokenizer=tokenizer_hash(tokenizer)))
    own = text_of(corpus, sources)
    if not has_tokenizer(model) or reads_ids_of(str(model), corpus):
        return replace(own, note=check_measured(str(model), corpus) or "")
    tokenizer = load_tokenizer(model)
    try:
        marks = special_ids(with_marks(load_tokenizer(model)))
        check_rows(str(model), 1 + max(marks.bos or 0, marks.eos or 0), "model")
        heldout = in_other_tokens(own.material.heldout, corpus.tokenizer, tokenizer, marks)
    except UserError as error:
        raise _cannot_say(model, error) from None
    note = (
        f"{model}: its tokenizer differs from the corpus's, so it reads the held-out text in tokens of its own: bits "
        "per byte compare with those of other models, nats per token and all that counts tokens do not."
    )
    on = MeasuredOn(text=corpus.text_identity, tokenizer=tokenizer_hash(tokenizer))
    return MeasuredText(replace(own.material, tokenizer=tokenizer, corpus_text=heldout), on, corpus, own.material, note)


def _cannot_say(model: Path, error: UserError) -> UserError:
    reason = re.sub(r"^(corpus\.)?tokenizer: |^model .*?: ", "", str(error)).rstrip(".")
    return UserError(
        f"model {model}: its tokenizer is not the corpus's, and the text cannot be read in its tokens ({reason})."
    )
