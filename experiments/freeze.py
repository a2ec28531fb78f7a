"""Freezes a run: copies what its report reads, without samples, into a folder here.

    python experiments/freeze.py runs/quickstart-1a2b3c4d experiments/000_quickstart

Writes ``config.yaml`` (runs again as it is), ``environment.json``, ``comparison.json`` (students against the first on
the same items), ``results.json`` (study and evaluations), ``profile.json``, and ``lines.json`` (thinned curves, and the
completions of the first problems). ``thaw`` makes a run folder of that again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillroom.files import read_json, write_json

EVERY, PROBLEMS = 100, 5
"""One training line of so many is kept, and so many problems at each temperature."""
_AS_THEY_ARE = ("config.yaml", "environment.json", "comparison.json", "worth.json", "profile.json")


def freeze(run: Path, target: Path) -> None:
    """Copies configuration, environment and every number of a finished run."""
    study = read_json(run / "study.json")
    evaluations = {model["name"]: _numbers(run / model["folder"] / "evaluation.json") for model in study["models"]}
    target.mkdir(parents=True, exist_ok=True)
    for name in _AS_THEY_ARE:
        if (run / name).exists():
            shutil.copyfile(run / name, target / name)
    write_json(target / "results.json", {"study": study, "evaluations": evaluations})
    write_json(target / "lines.json", {model["name"]: _lines(run / model["folder"]) for model in study["models"]})


def thaw(frozen: str | Path, target: Path | None = None) -> Path:
    """A run folder, new unless ``target`` names it, of what was frozen: ``stillroom.results.load`` reads it."""
    home = Path(frozen)
    run = Path(tempfile.mkdtemp(prefix=f"{home.name}-")) if target is None else target
    results = read_json(home / "results.json")
    lines = read_json(home / "lines.json") if (home / "lines.json").exists() else {}
    for name in _AS_THEY_ARE:
        if (home / name).exists():
            shutil.copyfile(home / name, run / name)
    has_profile = (home / "profile.json").exists()
    write_json(run / "study.json", results["study"] | ({} if has_profile else {"labels": None}))
    for model in results["study"]["models"]:
        folder = run / model["folder"]
        folder.mkdir(parents=True)
        write_json(folder / "evaluation.json", results["evaluations"][model["name"]])
        for kind in ("metrics", "samples"):
            rows = lines.get(model["name"], {}).get(kind, [])
            (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def _lines(folder: Path) -> dict[str, list[Any]]:
    """What was logged while a model was trained, thinned, and its completions of the first problems."""
    logged = list(_rows(folder / "metrics.jsonl"))
    kept = [row for place, row in enumerate(logged) if row["kind"] != "train" or place % EVERY == 0]
    shown: dict[float, list[Any]] = {}
    for row in _rows(folder / "samples.jsonl"):
        if len(shown.setdefault(row["temperature"], [])) < PROBLEMS:
            shown[row["temperature"]].append(row)
    return {"metrics": kept, "samples": [row for rows in shown.values() for row in rows]}


def _rows(file: Path) -> Iterator[Any]:
    if file.exists():
        yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())


def _numbers(file: Path) -> dict[str, object]:
    """An evaluation without what it keeps of every item, which the run folder has."""
    parts = read_json(file)
    return {name: {key: value for key, value in part.items() if not key.startswith("per_item")}
            if isinstance(part, dict) else part for name, part in parts.items()}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("target", type=Path, help="folder under experiments/")
    arguments = parser.parse_args()
    freeze(arguments.run, arguments.target)
