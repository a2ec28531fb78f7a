"""What a store says of itself: the plan that labelling follows and the manifest that readers trust.

Imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypedDict

import xxhash

from stillroom.files import fingerprint
from stillroom.labels.format.layout import check_schema, damaged
from stillroom.labels.settings import LabelSettings
from stillroom.types import UserError

FORMAT = "stillroom-labels"


class Identity(TypedDict):
    """What a store's labels are of: hashes of the teacher, the tokenizer and the corpus, and the tokenizer's size."""

    teacher: str
    tokenizer: str
    vocab_size: int
    corpus: str


IDENTITY = tuple(Identity.__annotations__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that determines a store's bytes: labelling resumes only under an equal plan."""

    schema: int
    identity: Identity
    labels: dict[str, Any]  # see ``LabelSettings``
    num_sequences: int
    sequence_length: int
    isolate_documents: bool
    precision: str
    forward_sequences: int  # sequences per forward pass of the teacher

    @property
    def settings(self) -> LabelSettings:
        """The codec and its parameters."""
        return LabelSettings.of(self.labels)

    @property
    def num_shards(self) -> int:
        """Shards of the whole store."""
        return -(-self.num_sequences // self.settings.shard_sequences)

    @property
    def vocab_size(self) -> int:
        """Tokens of the tokenizer: every id is below it."""
        return int(self.identity["vocab_size"])

    def shard_range(self, shard: int) -> range:
        """Numbers of the sequences of a shard."""
        size = self.settings.shard_sequences
        return range(shard * size, min((shard + 1) * size, self.num_sequences))


@dataclass(frozen=True, kw_only=True)
class Manifest(Plan):
    """A finished store: its plan, what it holds and what was measured while it was made."""

    num_records: int
    """Distinct sequences (a corpus that repeats one stores it once in the index)."""
    num_tokens: int
    """Positions labelled."""
    num_entries: int
    """Ids kept, over all positions."""
    num_bytes: int
    """Every byte of the store: shards, codebook, index and this manifest's own file left out."""
    teacher_entropy_nats: float
    """Mean over positions with a target, as stored."""
    teacher_ce_nats: float
    """Mean of minus the gold log-probability over the same positions, as stored."""
    fidelity: dict[str, float | int | str] = field(default_factory=dict)
    """Measured on a sample while labelling: see ``fidelity.measure``."""

    @property
    def bytes_per_token(self) -> float:
        """Everything included."""
        return self.num_bytes / max(1, self.num_tokens)


def check_identity(identity: Mapping[str, object]) -> None:
    """Refuses an identity that does not name teacher, tokenizer, vocabulary size and corpus."""
    missing = [name for name in IDENTITY if name not in identity]
    if missing:
        raise UserError(f"identity: has no {', '.join(missing)}; expected {', '.join(IDENTITY)}.")


def ordered_identity(identity: Mapping[str, Any]) -> Identity:
    """What a plan keeps of an identity: its four names, in one order."""
    check_identity(identity)
    return Identity(**{name: identity[name] for name in IDENTITY})


def to_text(plan: Plan) -> str:
    """JSON that carries its own hash, so that a changed value is noticed."""
    body = {"format": FORMAT, **asdict(plan)}
    return json.dumps({**body, "check": _check(body)}, indent=2, ensure_ascii=False) + "\n"


def from_text(text: str | bytes, kind: type[Plan], name: str) -> Any:
    """The plan or manifest of a file's text; refuses damage and later schemas."""
    try:
        body = json.loads(text, parse_constant=_refuse_constant)
        found = body.pop("check")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise damaged(name, "it is not JSON with a checksum") from error
    if isinstance(body.get("schema"), int) and body.get("format") == FORMAT:
        check_schema(body["schema"], name)
    if found != _check(body):
        raise damaged(name, "it does not match its checksum")
    if body.pop("format", None) != FORMAT or set(body) != {entry.name for entry in fields(kind)}:
        raise UserError(f"{name}: is not a {kind.__name__.lower()} of a label store; check the path.")
    _check_fields(body, name)
    return kind(**body)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_NUMBER = (int, float)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "identity": dict,
    "labels": dict,
    "fidelity": dict,
    "isolate_documents": bool,
    "precision": str,
    "teacher_entropy_nats": _NUMBER,
    "teacher_ce_nats": _NUMBER,
}
"""What the fields of a plan or a manifest are; those that are not here are whole numbers."""


def _check_fields(body: dict[str, Any], name: str) -> None:
    """Refuses values that no store is written with, whoever wrote them: types, signs, infinities, fields of labels."""
    values = [(field_name, value, _KINDS.get(field_name, int)) for field_name, value in body.items()]
    for inner, kind in (("identity", (str, int)), ("fidelity", (str, int, float))):
        held = body.get(inner, {})
        values += [(f"{inner}.{key}", value, kind) for key, value in held.items()] if isinstance(held, dict) else []
    for where, value, kind in values:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{name}: {where} is {value!r}, which no store is written with; check the file.")
    check_identity(body["identity"])
    LabelSettings.of(body["labels"], f"{name}: labels")
    counts = {"num_sequences": 1, "sequence_length": 1, "forward_sequences": 1, "num_records": 1, "num_bytes": 0}
    counts |= {"num_tokens": 0, "num_entries": 0}
    for field_name, least in counts.items():
        if body.get(field_name, least) < least:
            raise UserError(f"{name}: {field_name} is {body[field_name]}, expected at least {least}; check the file.")
    numbers = [
        body.get("teacher_entropy_nats", 0.0),
        body.get("teacher_ce_nats", 0.0),
        *body.get("fidelity", {}).values(),
    ]
    if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
        raise UserError(f"{name}: holds a number that is not finite; check the file.")
    if not isinstance(body["identity"]["vocab_size"], int) or body["identity"]["vocab_size"] < 1:
        raise UserError(
            f"{name}: identity.vocab_size is {body['identity']['vocab_size']!r}, expected a number of tokens."
        )


def _check(body: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True, ensure_ascii=False).encode())


def refuse_difference(found: Plan, wanted: Plan, name: str) -> None:
    """Raises a ``UserError`` that names the first thing in which a store differs from what is asked for."""
    for label, old, new in _differences(asdict(found), asdict(wanted), ""):
        raise UserError(
            f"{name}: holds labels with {label} {old!r} but {new!r} is asked for; "
            "give another folder or delete this one."
        )


def _differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str) -> list[tuple[str, Any, Any]]:
    differences = []
    for key in wanted:
        old, new = found.get(key), wanted[key]
        if isinstance(old, dict) and isinstance(new, dict):
            differences += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            differences.append((f"{prefix}{key}", old, new))
    return differences


def plan_of(manifest: Manifest) -> Plan:
    """The plan alone."""
    return Plan(**{entry.name: getattr(manifest, entry.name) for entry in fields(Plan)})


def plan_fingerprint(plan: Plan) -> str:
    """A hash of everything that determines the store's bytes."""
    return fingerprint(asdict(plan))
