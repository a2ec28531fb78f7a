"""What a build under way wrote down for whoever goes on with it: the plan of its tasks, and how many are wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stillroom.corpora.corpus_config import CorpusConfig
from stillroom.corpora.encoding import Encoder, PlainTokenizer
from stillroom.corpora.ledger import Ledger, UnfinishedError
from stillroom.corpora.sources.source_kinds import source_stamps
from stillroom.corpora.tasks import Parts, Task, TaskList, parts_from, parts_json, plan_parts, task_lists
from stillroom.files import fingerprint, read_json_object, write_json, write_text
from stillroom.strict import parse
from stillroom.worlds.base import Split

PLAN, AHEAD = "plan.json", "ahead.json"

Stamps = dict[str, list[list[Any]]]
"""By source: name, size and time of change of every file."""


class Marks(BaseModel):
    """What is known of a tokenizer beside its ``tokenizer.json``."""

    model_config = ConfigDict(strict=True, frozen=True)

    hash: str
    bos: int
    eos: int
    special: list[int]


class _PlanFile(BaseModel):
    """What ``plan.json`` holds."""

    model_config = ConfigDict(strict=True)

    schema_: int = Field(alias="schema")
    config: dict[str, Any]
    tokenizer: Marks
    stamps: Stamps
    parts: dict[str, dict[str, list[Any]]]


class _Ahead(BaseModel):
    """What ``ahead.json`` holds: how many tasks of every list are wanted."""

    numbers: dict[str, int]


@dataclass(frozen=True)
class BuildPlan:
    """Everything that determines the tasks of a corpus but for the tokenizer."""

    config: CorpusConfig
    stamps: Stamps
    parts: Parts

    @classmethod
    def of(cls, config: CorpusConfig) -> BuildPlan:
        """The plan of a corpus; nothing is read but what is needed to cut its sources."""
        stamps = stamps_of(config)
        sizes = {name: sum(int(size) for _, size, _ in files) for name, files in stamps.items()}
        return cls(config, stamps, plan_parts(config, sizes))

    @cached_property
    def lists(self) -> dict[tuple[Split, str], TaskList]:
        """The tasks of every source for both splits."""
        return task_lists(self.config, self.parts)


def stamps_of(config: CorpusConfig) -> Stamps:
    """What tells the files of every source from later ones of the same names."""
    return {name: [list(one) for one in source_stamps(source)] for name, source in config.sources.items()}


@dataclass(frozen=True)
class Build:
    """A build under way in a folder."""

    folder: Path
    plan: BuildPlan
    marks: Marks

    @cached_property
    def ledger(self) -> Ledger:
        """Which of its tasks are done."""
        marks, config = self.marks, self.plan.config
        tokenizer = PlainTokenizer(tokenizer_folder(self.folder), marks.bos, marks.eos, tuple(marks.special))
        key = fingerprint([_read_as(config), marks.model_dump(), self.plan.stamps])
        return Ledger(self.folder, key, dict(config.sources), config.seed, Encoder(tokenizer))

    def write(self) -> None:
        """Writes the plan, after which others may help."""
        values = {
            "schema": 1, "config": self.plan.config.canonical(), "tokenizer": self.marks.model_dump(),
            "stamps": self.plan.stamps, "parts": parts_json(self.plan.parts),
        }  # fmt: skip
        write_text(self.folder / PLAN, json.dumps(values))  # in ASCII: names of files need not be UTF-8

    def want(self, numbers: dict[tuple[Split, str], int]) -> None:
        """Says how many tasks of every list are to be done."""
        write_json(self.folder / AHEAD, {"numbers": {"/".join(key): number for key, number in numbers.items()}})

    def wanted(self) -> Iterator[tuple[float, Task]]:
        """The tasks to be done, each with how far it is along its list."""
        if not (self.folder / AHEAD).is_file():
            return
        for name, number in parse(_Ahead, read_json_object(self.folder / AHEAD), AHEAD).numbers.items():
            split, _, source = name.partition("/")
            tasks = self.plan.lists["heldout" if split == "heldout" else "train", source]
            for place in range(number):
                if (task := tasks.get(place)) is not None:
                    yield place / number + (split == "train"), task


def tokenizer_folder(folder: Path) -> Path:
    """Where a build under way has its tokenizer."""
    return folder / "corpus" / "tokenizer"


def open_build(folder: Path) -> Build | None:
    """The build that is under way in a folder; None where its plan is not written yet."""
    file = folder / PLAN
    if not file.is_file():
        return None
    found = parse(_PlanFile, read_json_object(file, "the plan of a corpus under way"), str(file))
    config = parse(CorpusConfig, found.config, f"{file}: config")
    return Build(folder, BuildPlan(config, found.stamps, parts_from(found.parts)), found.tokenizer)


def check_same(build: Build, plan: BuildPlan, tokenizer: str | None) -> None:
    """Refuses to go on with a build of other text, of another tokenizer or of settings that ask for other tasks."""
    if (changed := changed_file(build.plan.stamps, plan.stamps)) is not None:
        _refuse(build, f"{changed}: changed since")
    if tokenizer is not None and tokenizer != build.marks.hash:
        _refuse(build, f"corpus.tokenizer: {plan.config.tokenizer} is another tokenizer than the one that")
    names = [name for name, one in _read_as(plan.config).items() if one != _read_as(build.plan.config).get(name)]
    if not names and (plan.parts != build.plan.parts or _shape(plan) != _shape(build.plan)):
        names = ["train_tokens, heldout_tokens or a share"]
    if names:
        _refuse(build, f"corpus.{names[0]}: is another one than when")


def _refuse(build: Build, what: str) -> None:
    raise UnfinishedError(
        f"{what} the unfinished corpus in {build.folder} was begun; undo that, or remove {build.folder} to begin anew."
    )


def changed_file(before: Stamps, after: Stamps) -> str | None:
    """The first file that is not what it was, in any source."""
    for name in after:
        old, new = (tuple(map(tuple, one.get(name, []))) for one in (before, after))
        if old != new:
            return str(min(set(old) ^ set(new))[0]) if set(old) != set(new) else name
    return None


def _read_as(config: CorpusConfig) -> dict[str, object]:
    """The settings that tell how text is read and encoded."""
    names = ("seed", "tokenizer", "vocab_size", "digits", "specials")
    found: dict[str, object] = {name: getattr(config, name) for name in names}
    for name, source in config.sources.items():
        found[f"sources.{name}"] = {k: one for k, one in source.canonical().items() if k not in ("share", "epochs")}
    return found


def _shape(plan: BuildPlan) -> list[object]:
    """What tells the tasks of one plan from those of another with the same parts."""
    return [(name, one.documents, len(one.tasks), [task.key() for task in one.tasks[-1:]])
            for name, one in plan.lists.items()]  # fmt: skip
