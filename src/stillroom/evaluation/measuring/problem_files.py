"""Records of a benchmark from a local file or the hub: a person's own files, read as they are or refused by line.

A file holds one record a line, a list of records or a table (Parquet), compressed or not, in any Unicode encoding that
says which it is. What it holds decides, not its name.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stillroom.evaluation.grading.answers import last_number
from stillroom.files import read_bytes, reading
from stillroom.packed import DAMAGES, UNPACKERS
from stillroom.types import UserError

Record = Mapping[str, Any]
"""One problem by the field names of the published set."""
Hub = tuple[str, str | None, str]
"""A dataset on the hub: its id, configuration and split."""
_IDS = ("task_id", "unique_id", "id")


def _text(value: Any) -> Any:
    """A text that says something; a number is the text of itself."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a text that is not empty")
    return _whole(value)


def _maybe_text(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return _whole(value or "")
    raise ValueError("expected a text")


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("expected a text without halves of characters (lone surrogates)") from None
    return text


def _numbered(text: str) -> str:
    if last_number(text) is None:
        raise ValueError("which holds no number, expected one after ####")
    return text


def _texts(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise ValueError("expected a list of texts that is not empty")
    return value


Text = Annotated[str, BeforeValidator(_text)]
OwnText = Annotated[str, BeforeValidator(_maybe_text)]
Texts = Annotated[list[Text], BeforeValidator(_texts)]
Numbered = Annotated[Text, AfterValidator(_numbered)]
TextOrTexts = Annotated[
    Text | Texts, BeforeValidator(lambda value: _texts(value) if isinstance(value, list) else value)
]


class _Form(BaseModel):
    """What a record must hold; whatever else it holds is kept."""

    model_config = ConfigDict(extra="allow")


class WordProblem(_Form):
    """A record of GSM8K."""

    question: Text
    answer: Numbered


class Competition(_Form):
    """A record of MATH."""

    problem: Text
    answer: Text


class ProgramTask(_Form):
    """A record of MBPP, in either of its published forms."""

    test_list: Texts
    text: Text | None = None
    prompt: Text | None = None
    test_setup_code: OwnText = ""
    test_imports: list[Text] | None = Field(default=None)

    @model_validator(mode="after")
    def _asks(self) -> ProgramTask:
        if self.text is None and self.prompt is None:
            raise ValueError("text")
        return self


class Contradiction(_Form):
    """A context that contradicts what is known."""

    context: Text
    question: Text
    answer: TextOrTexts
    memory_answer: TextOrTexts


FORMS: dict[str, type[_Form]] = {
    "gsm8k": WordProblem,
    "math500": Competition,
    "mbpp": ProgramTask,
    "counterfactual": Contradiction,
}


@dataclass(frozen=True)
class _Found:
    """Records and, of each, where it stands."""

    records: list[Any]
    where: Callable[[int], str]


def read_problem_records(source: str, name: str, fields: Sequence[str], hub: Hub | None = None) -> list[Record]:
    """The records of ``source``, each with these fields: a file, or the word ``hub`` where ``hub`` says which.

    Records of a known form (``FORMS``) are checked against it, and numbers that stand for texts become texts. Errors
    name the benchmark (``name``), the file, the record, its line where it has one, and the field.
    """
    path, from_hub = Path(source), source == "hub" and hub is not None
    with reading(path, "a file of records"):
        is_file = not from_hub and path.is_file()
    if from_hub and hub is not None:
        found = _Found(_from_hub(*hub), lambda number: f"record {number} of {hub[0]}")
    elif not is_file:
        choices = ".jsonl, .json or .parquet" + ("" if hub is None else ", or the word hub")
        raise UserError(f"{name}: {source} is no file; expected {choices}.")
    else:
        found = _from_file(path)
    if not isinstance(found.records, list) or not found.records:
        raise UserError(f"{name}: {source} holds no records, expected one for each problem.")
    records = [_with_fields(record, name, found.where(n), fields) for n, record in enumerate(found.records, 1)]
    records = checked_records(records, name, found.where)
    _check_ids(records, name, found.where)
    return records


def checked_records(
    records: Iterable[Record], name: str, where: Callable[[int], str] = "record {}".format
) -> list[Record]:
    """The records as their form has them; a ``UserError`` that names ``where`` and the field of what does not fit."""
    form = FORMS.get(name)
    if form is None:
        return [dict(record) for record in records]
    return [_checked(record, form, f"{name}: {where(number)}") for number, record in enumerate(records, 1)]


def _checked(record: Mapping[str, Any], form: type[_Form], where: str) -> dict[str, Any]:
    try:
        return form.model_validate(dict(record)).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function-", "list[")))
        reason = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "missing" or not field:
            raise UserError(f"{where} has no field {field or reason}; see docs/evaluation.md.") from None
        raise UserError(f"{where} has {field} {_shown(first['input'])}, {_expectation(reason)}.") from None


def _expectation(reason: str) -> str:
    return reason if reason.startswith(("expected", "which")) else f"expected a value that fits ({reason.rstrip('.')})"


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=True, default=str)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _with_fields(record: Any, name: str, where: str, fields: Sequence[str]) -> dict[str, Any]:
    wanted = f"an object with {', '.join(fields)}" if fields else "an object"
    if not isinstance(record, dict):
        raise UserError(f"{name}: {where} is {_shown(record)}, expected {wanted}.")
    missing = [one for one in fields if one not in record]
    if missing:
        raise UserError(f"{name}: {where} has no field {missing[0]}; see docs/evaluation.md.")
    return record


def _check_ids(records: Sequence[Mapping[str, Any]], name: str, where: Callable[[int], str]) -> None:
    """Refuses a problem that comes twice: it would count twice."""
    for field in _IDS:
        first: dict[str, int] = {}
        for number, record in enumerate(records, 1):
            if field in record and record[field] is not None:
                before = first.setdefault(json.dumps(record[field], default=str), number)
                if before != number:
                    raise UserError(
                        f"{name}: {where(number)} has the {field} of record {before} ({_shown(record[field])}), "
                        "expected every problem once."
                    )


def _from_file(path: Path) -> _Found:
    data = read_bytes(path, "a file of records")
    if data.startswith(b"PAR1") or path.suffix == ".parquet":
        return _Found(_from_parquet(path), lambda number: f"record {number} of {path}")
    text = _decoded(path, _unpacked(path, data))
    whole = text.lstrip()
    if whole.startswith("["):
        return _Found(_parsed(path, text), lambda number: f"record {number} of {path}")
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and whole.startswith("{") and lines[0][1].strip() == "{":  # one record over several lines
        return _Found([_parsed(path, text)], lambda number: f"record {number} of {path}")
    records = [_parsed(path, line, number) for number, line in lines]
    return _Found(records, lambda number: f"record {number} of {path} (line {lines[number - 1][0]})")


def _parsed(path: Path, text: str, line: int | None = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        place = f"line {line or error.lineno}, column {error.colno}"
        raise UserError(f"{path}: {place}: is not JSON ({error.msg}); expected one record a line, or a list.") from None
    except (ValueError, RecursionError) as error:
        place = "" if line is None else f" line {line}:"
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path}:{place} is not JSON ({reason}); expected one record a line, or a list.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ValueError(f"the field {twice} comes twice")
    return made


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON's")


_PACKED = {
    b"\x1f\x8b": ("gzip", ".gz"),
    b"BZh": ("bzip2", ".bz2"),
    b"\xfd7zXZ\x00": ("xz", ".xz"),
    b"\x28\xb5\x2f\xfd": ("zstandard", ".zst"),
}
"""How the files that each of the unpackers reads begin."""


def _unpacked(path: Path, data: bytes) -> bytes:
    """The bytes of a file that is packed, by its first bytes; others as they are."""
    for begins, (kind, suffix) in _PACKED.items():
        if data.startswith(begins):
            try:
                return UNPACKERS[suffix](io.BytesIO(data)).read()
            except (*DAMAGES, ValueError) as error:
                raise UserError(f"{path}: cannot be decompressed ({kind}: {error}); expected a whole file.") from None
    return data


_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"))
_MARKS_16 = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def _decoded(path: Path, data: bytes) -> str:
    """Text in the encoding that a byte order mark names, else UTF-8."""
    encoding = next((name for mark, name in (*_MARKS, *_MARKS_16) if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x}" if error.start < len(data) else "an early end"
        raise UserError(f"{path}: line {line} is not {encoding.upper()} ({found}); save the file as UTF-8.") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}: line {line} holds a zero byte, as UTF-16 does; save the file as UTF-8.")
    return text


def _from_parquet(path: Path) -> list[dict[str, Any]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"{path}: reading Parquet needs pyarrow; pip install 'stillroom[parquet]', or give .jsonl.")
    from pyarrow import ArrowException, parquet

    try:
        return parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{path}: is no whole Parquet file ({reason}).") from None


def _from_hub(dataset: str, configuration: str | None, split: str) -> list[dict[str, Any]]:
    if importlib.util.find_spec("datasets") is None:
        raise UserError(f"{dataset}: reading it needs datasets; pip install 'stillroom[hub]', or give a file.")
    from datasets import load_dataset  # pyright: ignore[reportMissingImports]

    try:
        return [dict(record) for record in load_dataset(dataset, configuration, split=split)]
    except Exception as error:  # whatever the library, the hub and the network between may raise
        reason = (str(error).split("\n", 1)[0] or type(error).__name__).rstrip(".")
        raise UserError(f"{dataset}: could not be read from the hub ({reason}); give a file instead.") from error
