"""A recipe for one's own text, written out with comments, to be changed from there: ``stillroom init``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stillroom.files import disk_errors, write_text
from stillroom.strict import Name
from stillroom.types import UserError

BYTES_PER_TOKEN = 5.0
"""More than a token of ordinary text takes, so that what the recipe asks for is there."""
_HELD_OUT = 0.9
"""Part of the text that may be trained on; a little is held out."""
_MOST_TOKENS = 2_000_000
_FEWEST_TOKENS = 4_096
_FEWEST_BYTES = 30_000
_PIECES = 200
"""Documents that even a small text is cut into: one in twenty is held out."""
_TEMPLATE = '''"""{title}

stillroom study {file} --dry-run    what it will take; nothing is written
stillroom study {file}              corpus, teacher, labels, students, evaluation, one HTML page
stillroom config {file}             every field here: what it is for, its unit, its default
"""

from stillroom.config import (
    ArmConfig,
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    SourceConfig,
    StudyConfig,
    TeacherConfig,
    TrainingConfig,
)

TEXT = {text}  # a folder or file, seen from where stillroom is run: text, or rows with a column "text"
TOKENS = {tokens:_}  # different training tokens of a student{about}
{teacher_path}

def study() -> StudyConfig:
    """Students of hard labels alone (spt) and of the teacher's soft labels (dpt90), on the very same tokens."""
    training = TrainingConfig(
        tokens=TOKENS,
        epochs=1.0,  # arms may say otherwise
        batch_sequences={batch},  # sequences per optimizer step
        optimizer="muon",  # or "adamw", with a learning rate of about 3e-3
        learning_rate=1e-2,
        schedule="wsd",  # stable, then falling in the last part of the run
        decay=0.3,
    )
    corpus = CorpusConfig(
        sources={{
            "text": SourceConfig(kind="files", path=TEXT{pieces}),
            # Further sources are mixed in by their share of the tokens:
            # "facts": SourceConfig(kind="facts", share=0.2),
        }},
        {tokenizer}
        sequence_length={length},  # tokens
        train_tokens=TOKENS,
        heldout_tokens={heldout:_},  # of text that no model is trained on
    )
    return StudyConfig(
        name={name},
        corpus=corpus,
        {teacher}
        student=ModelConfig(hidden_size={width}, intermediate_size={inner}, num_layers={layers}, num_heads={heads}),
        training=training,
        arms={{
            "spt": ArmConfig(),
            "dpt90": ArmConfig(alpha=0.9),  # 90 % of the loss on the teacher's labels
            # The remedy for copying from the context; needs RoutingConfig from stillroom.config:
            # "routed": ArmConfig(alpha=0.9, routing=RoutingConfig(rule="copy-aware", share=0.15)),
            # Several seeds tell a finding from luck; needs over_seeds from stillroom.config:
            # **over_seeds({{"spt": ArmConfig(), "dpt90": ArmConfig(alpha=0.9)}}, range(3)),
        }},
        evaluation=EvaluationConfig(
            suites=("lm", "icl", "heads"),  # bits per byte, copying and recall in context, induction heads
            heldout_sequences={measured},
        ),
    )
'''
_TRAINED = """teacher=TeacherConfig(  # trained here, on the same text; a pretrained one: stillroom init --teacher
            model=ModelConfig(hidden_size={width}, intermediate_size={inner}, num_layers={layers}, num_heads={heads}),
            training=training.model_copy(update={{"epochs": 2.0}}),
        ),"""
_PRETRAINED = "teacher=TeacherConfig(model=ModelConfig(path=TEACHER)),  # used as it is; its labels are stored once"


@dataclass(frozen=True)
class _Shape:
    """A model's sizes as the template takes them."""

    width: int
    inner: int
    layers: int
    heads: int


_SMALL, _LARGER = (_Shape(64, 192, 2, 4), _Shape(96, 256, 2, 4)), (_Shape(128, 384, 4, 4), _Shape(256, 768, 4, 4))
"""Student and teacher."""
_FEW_TOKENS = 100_000


def start_recipe(name: str, text: Path | None, teacher: str | None, tokens: int | None = None) -> Path:
    """Writes ``NAME.py`` into the current folder: a study of ``text``, with a teacher trained here or a given one.

    How many tokens it asks for follows from how much text there is, unless ``tokens`` says. Raises ``UserError`` where
    the name is none, the file is there already, or the text is not.
    """
    stem = name.removesuffix(".py")
    try:
        TypeAdapter(Name).validate_python(stem)
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UserError(f"init: {name!r}: {message}.") from None
    file = Path(f"{stem}.py")
    if os.path.lexists(file):
        raise UserError(f"{file}: is there already, nothing was written; choose another name or remove it.")
    size = None if text is None else _text_bytes(text)
    write_text(file, _recipe(stem, "text" if text is None else str(text), teacher, size, tokens))
    return file


def _text_bytes(text: Path) -> int:
    """Bytes of the files under a path; refuses one that is not there or empty."""
    with disk_errors(text):
        size = sum(file.stat().st_size for file in _files(text))
    if size < _FEWEST_BYTES:
        raise UserError(
            f"{text}: holds {size:,} bytes of text, expected at least {_FEWEST_BYTES:,} (a real try wants a million); "
            "put more there first."
        )
    return size


def _files(text: Path) -> Iterator[Path]:
    if text.is_file():
        yield text
    elif not text.is_dir():
        raise UserError(f"{text}: is no file and no folder, expected one of text; check the path.")
    for folder, _, names in os.walk(text):
        yield from (file for name in names if (file := Path(folder, name)).is_file() and not name.startswith("."))


def _recipe(name: str, text: str, teacher: str | None, size: int | None, asked: int | None) -> str:
    there = 1_000_000 if size is None else int(_HELD_OUT * size / BYTES_PER_TOKEN)
    tokens = asked or max(_FEWEST_TOKENS, min(_MOST_TOKENS, there) // 1024 * 1024)
    is_small = tokens <= _FEW_TOKENS
    student, own = _SMALL if is_small else _LARGER
    length = 128 if teacher is None else 256
    return _TEMPLATE.format(
        title=f"{_spoken(name)}: what a teacher's soft labels change for students of own text.",
        file=f"{_spoken(name)}.py",
        name=_quoted(name),
        text=_quoted(text),
        tokens=tokens,
        about="" if size is None else f"; about {_round(size / BYTES_PER_TOKEN):,} are there",
        teacher_path=""
        if teacher is None
        else f"TEACHER = {_quoted(teacher)}  # a model folder, hub id, .gguf or RUN:ARM\n",
        batch=8 if is_small else 16,
        tokenizer=f"vocab_size={1024 if is_small else 4096},  # of the tokenizer that is trained on the text"
        if teacher is None
        else "tokenizer=TEACHER,  # soft labels are of its tokens",
        length=length,
        heldout=max(length * 2, min(50_000, tokens // 25)),
        pieces="" if size is None or size >= _PIECES * 4000 else f", max_document_chars={max(200, size // _PIECES)}",
        teacher=_TRAINED.format(**vars(own)) if teacher is None else _PRETRAINED,
        measured=64 if is_small else 256,
        **vars(student),
    )


def _quoted(text: str) -> str:
    """A text as Python is written, in double quotes where that needs no more signs."""
    return repr(text) if '"' in text or "'" in text else f'"{repr(text)[1:-1]}"'


def _spoken(name: str) -> str:
    """A name inside of a docstring."""
    return name.replace('"', "'")


def _round(number: float) -> int:
    """To two digits."""
    return int(float(f"{number:.1e}"))
