"""Where the parts of a run lie: what ``RUN``, ``RUN:dpt90``, ``RUN:dpt90@500``, ``RUN:corpus`` and ``RUN:labels`` name.

The one place that knows it, for every command and every field of a recipe that takes a corpus, a model or labels. A run
is the folder of a study, finished or under way, or that of one training. Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stillroom.files import read_json_object
from stillroom.results.json_form import read
from stillroom.results.runs import STEPS
from stillroom.results.schema import Places, StudyRecord
from stillroom.strict import nearest
from stillroom.types import UserError
from stillroom.yamlfiles import read_yaml

Wanted = Literal["model", "training", "corpus", "labels", "part"]
"""The kind of part that is asked for: ``training`` is the folder of a model's training, ``part`` takes each kind."""
PLACES = "places.json"
"""In the folder of a study under way: where its parts will lie."""
_MARKS = {"model": "config.json", "corpus": "corpus.json", "labels": "manifest.json"}
_ALL = "all"
_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class RunParts:
    """The parts of one run by name; ``models`` are Hugging Face folders, there or not yet."""

    folder: Path
    what: str
    """As it is told: what kind of run this is."""
    corpus: str | None = None
    labels: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)

    def names(self, wanted: Wanted) -> list[str]:
        """The names of a kind of part, as they are written after ``RUN:``."""
        single = [kind for kind in ("corpus", "labels") if wanted in (kind, "part") and getattr(self, kind)]
        return [*single, *(() if wanted in ("corpus", "labels") else self.models)]


@dataclass(frozen=True)
class RunPart:
    """What one reference names."""

    name: str
    """In its run, such as ``dpt90@500``; of a folder that is no part of a run the folder's own."""
    path: str
    """The folder, or what was given where it is none of a run: a hub id, a URL, a file."""
    run: Path | None = None

    def __str__(self) -> str:
        """As it is named on a command line."""
        return self.path if self.run is None else f"{self.run}:{self.name}"


def find_parts(wanted: Wanted, given: str | Path) -> list[RunPart]:
    """Every part of a kind that ``given`` names: ``RUN`` all of them, ``RUN:NAME`` one, ``RUN:NAME@all`` its steps.

    What names no run stands for itself, and the folder of a training for its model.

    Raises:
        UserError: the run holds no such part; it lists what it holds.
    """
    folder, name = split_reference(given)
    run = None if folder is None else run_parts(folder)
    if run is None and name is not None:
        raise UserError(f"{given}: {folder} is no run folder, so it has no part {name!r}; check the path.")
    if run is None:
        text = os.path.expanduser(str(given))
        if wanted == "corpus" and folder is None and "://" not in text:
            raise UserError(f"--corpus {given}: no such folder; expected a run folder or a built corpus.")
        return [RunPart(_own_name(text), text)]
    if name is None:
        return [_part(run, wanted, one) for one in _chosen(run, wanted)]
    return _named(run, wanted, name)


def find_part(wanted: Wanted, given: str | Path, default: str = "") -> RunPart:
    """The one part of a kind that ``given`` names; of a run with several the one called ``default``, if there is one.

    Raises:
        UserError: there is no such part, or several.
    """
    found = find_parts(wanted, given)
    if len(found) > 1:
        by_default = [one for one in found if one.name == default]
        if not by_default:
            names = ", ".join(one.name for one in found)
            raise UserError(f"{given}: holds {len(found)} of the kind {wanted}; name one as RUN:NAME, of {names}.")
        return by_default[0]
    return found[0]


def split_reference(given: str | Path) -> tuple[Path | None, str | None]:
    """The folder that is named and the part of it; a path that is there as it stands is one, colons and all."""
    text = os.path.expanduser(str(given))
    if os.path.lexists(text):
        return Path(text), None
    if ":" not in text or "://" in text or text.startswith(("world:", ":")):
        return None, None
    head = text
    while ":" in head:  # names of a ranking's teachers hold colons
        head = head.rpartition(":")[0]
        if os.path.isdir(head):
            return Path(head), text[len(head) + 1 :]
    parent = Path(head).parent
    if not parent.is_dir() or "/" in text[len(head) :]:
        return None, None
    beside = [str(parent / one.name) for one in sorted(parent.iterdir()) if one.is_dir() and one.name[0] != "."]
    raise UserError(f"{text}: there is no run folder {head}{nearest(head, beside)}; check the path.")


def _own_name(text: str) -> str:
    path = Path(text)
    return path.parent.name if path.name == "model" else path.name


def _chosen(run: RunParts, wanted: Wanted) -> list[str]:
    """What a run folder alone stands for."""
    names = run.names(wanted)
    if not names:
        others = run.names("part")
        holds = f"but {', '.join(others)}" if others else "nor anything else that can be named"
        raise UserError(
            f"{run.folder}: is {run.what} and holds no {wanted}, {holds}; name a run that does, or the {wanted} itself."
        )
    return names


def _named(run: RunParts, wanted: Wanted, name: str) -> list[RunPart]:
    if name in run.names(wanted):
        return [_part(run, wanted, name)]
    model, sign, step = name.rpartition("@")
    if sign and wanted not in ("corpus", "labels") and model in run.models:
        steps = _kept_steps(run, model)
        return [steps[one] for one in _steps_asked(run, model, step, sorted(steps))]
    if name in run.names("part"):
        kind = name if name in ("corpus", "labels") and name not in run.models else "model"
        instead = _chosen(run, wanted)
        raise UserError(f"{run.folder}:{name}: is the run's {kind}, expected its {wanted}: {', '.join(instead)}.")
    names = run.names("part")
    holds = f"; it holds {', '.join(names)}" if names else "; it holds no parts yet"
    close = nearest(name, names)
    end = f"{close} {holds[2:].capitalize()}" if close.endswith("?") else holds
    raise UserError(f"{run.folder}:{name}: {run.folder} is {run.what} and has no {wanted} {name!r}{end}.")


def _kept_steps(run: RunParts, model: str) -> dict[int, RunPart]:
    """The models of a training's kept checkpoints by step."""
    folder = Path(_training_of(run.models[model])) / STEPS
    found = [(int(match[1]), one) for one in folder.glob("step-*") if (match := _STEP.fullmatch(one.name))]
    return {step: RunPart(f"{model}@{step}", str(one), run.folder) for step, one in found}


def _steps_asked(run: RunParts, model: str, step: str, steps: list[int]) -> list[int]:
    if step == _ALL and steps:
        return steps
    if step.isdecimal() and int(step) in steps:
        return [int(step)]
    kept = f"it keeps {', '.join(map(str, steps))}" if steps else "it keeps none"
    raise UserError(
        f"{run.folder}:{model}@{step}: {model} keeps no checkpoint of that step, {kept}; ask for checkpoints with "
        "training.keep_every or training.keep before it is trained."
    )


def _part(run: RunParts, wanted: Wanted, name: str) -> RunPart:
    is_model = name in run.models and wanted not in ("corpus", "labels")
    path = run.models[name] if is_model else str(getattr(run, name))
    if wanted == "training":
        path = _training_of(path)
    if not os.path.exists(path) and _is_path(path):
        raise UserError(
            f"{run.folder}:{name}: lies at {path}, which is not there (not yet, or no more); run the command of the "
            "run again, which makes what is missing, or name the folder itself."
        )
    return RunPart(name, path, run.folder)


def _training_of(model: str) -> str:
    """The folder of the training that made a model: also one under way, whose model is not there yet."""
    made = Path(model).parent if not os.path.exists(model) else Path(os.path.realpath(model)).parent
    under_way = made.with_name(f".{made.name}.unfinished")
    return str(under_way if not made.exists() and under_way.is_dir() else made)


def _is_path(text: str) -> bool:
    """Whether a place is a path; a teacher of the hub is named by its id, labels may be at a URL."""
    return "://" not in text and (text.startswith((".", "/", "~")) or text.count("/") > 1)


def is_run(folder: str | Path) -> bool:
    """Whether a folder is that of a run: one whose parts can be named."""
    return os.path.isdir(folder) and run_parts(Path(folder)) is not None


def run_parts(folder: Path) -> RunParts | None:
    """The parts of a run by its folder; None where it is none: a corpus, a label store, a model, or anything else."""
    if any((folder / mark).is_file() for mark in _MARKS.values()):
        return None
    for kind in (_study, _training, _artifact, _other):
        if (found := kind(folder)) is not None:
            return found
    return None


def _study(folder: Path) -> RunParts | None:
    """A study's: its record says where the parts lie, or a copy of a part stands in the folder itself."""
    name = next((one for one in ("study.json", PLACES) if (folder / one).is_file()), None)
    if name is None:
        return RunParts(folder, "a run under way") if _kind(folder) == "study" else None
    places = read(Places, folder / name) if name == PLACES else read(StudyRecord, folder / name).places
    if places is None:
        return RunParts(folder, f"a run whose {name} does not say where its parts lie (its command, run again, does)")
    models = {one: _place(folder, f"models/{one}/model", where) for one, where in places.models.items()}
    if "teacher" not in models and (hub := _teacher_named(folder)) is not None:
        models = {"teacher": hub, **models}
    return RunParts(
        folder,
        "a finished run" if name == "study.json" else "a run under way",
        None if places.corpus is None else _place(folder, "corpus", places.corpus),
        None if places.labels is None else _place(folder, "labels", places.labels),
        models,
    )


def _place(folder: Path, inside: str, recorded: str) -> str:
    """Where a part lies: what stands under its name in the run's folder, a link or a copy, or where it was made."""
    mark = _MARKS["model" if inside.startswith("models/") else inside]
    if (folder / inside / mark).is_file():
        return str(folder / inside)
    if "://" in recorded:
        return recorded
    plain = os.path.normpath(folder / recorded)
    return plain if os.path.exists(plain) else os.path.realpath(folder / recorded)  # through a link to the run


def _kind(folder: Path) -> str | None:
    """What kind of configuration a folder's ``config.yaml`` is."""
    return _config(folder).get("kind")


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    values = read_yaml(path, "the configuration of a run") if path.is_file() else None
    return values if isinstance(values, dict) else {}


def _teacher_named(folder: Path) -> str | None:
    """The pretrained teacher of a study that is no folder, by its configuration: a hub id."""
    teacher = _config(folder).get("teacher")
    model = teacher.get("model") if isinstance(teacher, dict) and not teacher.get("training") else None
    path = model.get("path") if isinstance(model, dict) else None
    return path if isinstance(path, str) else None


def _training(folder: Path) -> RunParts | None:
    """One training's: an artifact, beside which lies what it was made of."""
    if _kind(folder) != "run":
        return None
    config = _config(folder)
    identity = _json(folder / "identity.json") or _json(folder / "start.json")
    labels = config.get("labels") or _beside(folder, "labels", identity.get("labels"))
    models = {folder.name.strip(".").removesuffix(".unfinished"): str(folder / "model")}
    return RunParts(folder, "a training run", _beside(folder, "corpus", identity.get("corpus")), labels, models)


def _json(file: Path) -> dict[str, Any]:
    return read_json_object(file) if file.is_file() else {}


def _beside(folder: Path, kind: str, key: object) -> str | None:
    """The part of a kind in the artifact of a key; None where there is none."""
    found = folder.absolute().parent / f"{kind}-{key}" / kind
    return str(found) if (found / _MARKS[kind]).is_file() else None


def _artifact(folder: Path) -> RunParts | None:
    """The artifact of a corpus, of labels or of a model that was tuned: the part stands inside under its own name."""
    there = {kind: str(folder / kind) for kind, mark in _MARKS.items() if (folder / kind / mark).is_file()}
    if not there:
        return None
    models = {folder.name: there["model"]} if "model" in there else {}
    return RunParts(folder, "a folder of parts", there.get("corpus"), there.get("labels"), models)


def _other(folder: Path) -> RunParts | None:
    """A run of another kind, which has no parts of these kinds."""
    names = {"sandbox.json": "a run of a sandbox", "ranking.json": "a ranking of teachers"}
    return next((RunParts(folder, what) for name, what in names.items() if (folder / name).is_file()), None)
