"""Records of a benchmark from a local file or the hub.

A file holds one record a line (``.jsonl``), a list (``.json``) or a table (``.parquet``).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillroom.files import read_json, read_json_lines
from stillroom.types import UserError

Hub = tuple[str, str | None, str]
"""A dataset on the hub: its id, configuration and split."""


def read_records(source: str, name: str, fields: Sequence[str], hub: Hub | None = None) -> list[dict[str, Any]]:
    """The records of ``source``, each with these fields: a file, or the word ``hub`` where ``hub`` says which.

    Errors name the benchmark (``name``), the record and the field.
    """
    path = Path(source)
    if source == "hub" and hub is not None:
        records = _from_hub(*hub)
    elif not path.is_file():
        choices = ".jsonl, .json or .parquet" + ("" if hub is None else ", or the word hub")
        raise UserError(f"{name}: {source} is no file; expected {choices}.")
    elif path.suffix == ".parquet":
        records = _from_parquet(path)
    elif path.suffix == ".json":
        records = read_json(path)
    else:
        records = read_json_lines(path)
    if not isinstance(records, list) or not records:
        raise UserError(f"{name}: {source} holds no records, expected one for each problem.")
    for number, record in enumerate(records, 1):
        missing = [one for one in fields if one not in record]
        if missing:
            raise UserError(f"{name}: record {number} of {source} has no field {missing[0]}; see docs/evaluation.md.")
    return records


def _from_parquet(path: Path) -> list[dict[str, Any]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"{path}: reading Parquet needs pyarrow; pip install 'stillroom[parquet]', or give .jsonl.")
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()


def _from_hub(dataset: str, configuration: str | None, split: str) -> list[dict[str, Any]]:
    if importlib.util.find_spec("datasets") is None:
        raise UserError(f"{dataset}: reading it needs datasets; pip install 'stillroom[hub]', or give a file.")
    from datasets import load_dataset  # pyright: ignore[reportMissingImports]

    return [dict(record) for record in load_dataset(dataset, configuration, split=split)]
