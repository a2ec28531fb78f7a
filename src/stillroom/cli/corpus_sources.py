"""From what was typed as DATA to the sources of a corpus.

``PLACE``, or ``NAME=PLACE`` to name the source. A place is a file, a folder, a pattern of files, a URL, ``KIND:PLACE``
for another kind (``hub:DATASET``, ``hub:DATASET:CONFIG@SPLIT``, ``tokens:FILE``), or a kind alone (``facts``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from stillroom.corpora.sources.source_kinds import source_kind, source_names
from stillroom.strict import nearest
from stillroom.types import UserError

Fields = dict[str, JsonValue]
_NAME = re.compile(r"\w[\w.+-]*")
_GLOB = re.compile(r"[*?\[]")


def sources_of(data: Sequence[str], shares: Sequence[str], common: Mapping[str, JsonValue], kind: str) -> Fields:
    """The fields of every source by its name; ``kind`` is that of a bare place.

    ``common`` fields are given to every source whose kind takes them, of which there must be one.
    """
    found: dict[str, Fields] = {}
    for text in data:
        name, place = _named(text)
        fields = _fields(place, kind)
        name = name or _own_name(str(fields.get("path", fields["kind"])), found)
        if name in found:
            raise UserError(f"{text}: there is a source {name!r} already; name this one, as in other={place}.")
        found[name] = fields
    for name, share in _shares(shares, found).items():
        found[name]["share"] = share
    for field, value in common.items():
        taking = [one for one in found.values() if field in source_kind(str(one["kind"])).takes]
        if not taking:
            raise UserError(f"--{field.replace('_', '-')}: has no effect on any of the sources; leave it out.")
        for one in taking:
            one[field] = value
    return {**found}


def _named(text: str) -> tuple[str | None, str]:
    """The name and the place; a path with an equals sign in it is a place where it is there."""
    name, sign, place = text.partition("=")
    is_named = sign and _NAME.fullmatch(name) and place and not Path(text).exists()
    return (name, place) if is_named else (None, text)


def _fields(place: str, kind: str) -> Fields:
    """The kind of a source and what says where it is."""
    prefix, sign, rest = place.partition(":")
    if not Path(place).exists():
        if sign and prefix in source_names() and not rest.startswith("//"):
            return _of_hub(rest) if prefix == "hub" else _fields(rest, prefix)
        if place in source_names():
            return {"kind": place}
    if not source_kind(kind).path:
        raise UserError(f"{kind}:{place}: {kind} has no path; give {kind} alone, and its options by --set.")
    return {"kind": kind, "path": _there(place, kind)}


def _there(place: str, kind: str) -> str:
    """The place itself; one that is nowhere here is told what it might have been."""
    if "://" in place or _GLOB.search(place) or Path(place).expanduser().exists():
        return place
    hub = f" (a dataset of the Hub is written hub:{place})" if re.fullmatch(r"[\w.-]+/[\w.-]+", place) else ""
    kinds = ", ".join(source_names())
    raise UserError(
        f"{place}: no such file or folder{hub}; expected {source_kind(kind).path}, or one of {kinds}"
        f"{nearest(place, source_names()) if '/' not in place else ''}."
    )


def _of_hub(place: str) -> Fields:
    path, _, split = place.partition("@")
    path, _, config = path.partition(":")
    fields: Fields = {"kind": "hub", "path": path, "name": config, "split": split}
    return {name: value for name, value in fields.items() if value}


def _own_name(place: str, taken: Mapping[str, object]) -> str:
    """A name after the last part of a place, with a number where it is taken."""
    path = place.partition("?")[0] if "://" in place else place
    last = next(
        (part for part in reversed(path.split("/")) if part not in ("", ".", "..") and not _GLOB.search(part)), "data"
    )
    plain = re.sub(r"[^\w+-]+", "-", last.split(".")[0]).strip("-_") or "data"
    names = [plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def _shares(texts: Sequence[str], names: Mapping[str, object]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in names:
            raise UserError(f"--share {text}: {name!r} is not a source{nearest(name, list(names))}.")
        try:
            shares[name] = float(number)
        except ValueError:
            raise UserError(f"--share {text}: {number!r} is no number; expected NAME=NUMBER, as in code=0.3.") from None
    return shares
