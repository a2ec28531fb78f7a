"""Which arms of a study are the ladder that worth is read off, and the ``worth.json`` of its run or its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stillroom.config import ArmConfig, StudyConfig
from stillroom.corpora.sources.source_kinds import is_world
from stillroom.objectives import ever_needs_teacher
from stillroom.results.abilities import AbilityItems, Effort, Ladder, read_items, worth_table
from stillroom.results.json_form import write
from stillroom.results.schema import ModelRecord, WorthTable, arm_and_seed


def write_worth(
    target: Path, config: StudyConfig, records: Sequence[ModelRecord], folders: Mapping[str, Path]
) -> WorthTable | None:
    """Writes ``worth.json`` and returns what it says; None, and no file, without a ladder and an arm to read off it.

    Arguments:
        target: the file.
        config: the study's.
        records: of ``study.json``.
        folders: with the evaluation of each student, by name, and those of kept checkpoints, as ``NAME@STEP``; those
            that are left out were not measured.
    """
    students = {one.name: one for one in records if one.role == "student" and one.name in folders}
    ladder = ladder_of(config, [name for name in students if name in config.arms])
    if len(ladder.rungs) < 2 or not ladder.others:
        target.unlink(missing_ok=True)
        return None
    real = [name for name, source in config.corpus.sources.items() if not is_world(source.kind)]
    items = {name: read_items(folders[name], real=real) for name in students}
    efforts = {name: Effort(record.distinct_tokens, record.flops) for name, record in students.items()}
    kept = {name: _over_training(name, config, folders, real) for name in students}
    found = worth_table(ladder, efforts, items, kept, seed=config.evaluation.seed)
    write(target, found)
    return found


def _over_training(
    name: str, config: StudyConfig, folders: Mapping[str, Path], real: Sequence[str]
) -> dict[float, AbilityItems]:
    """What was measured of a student's kept checkpoints, by the tokens that it had seen."""
    steps = {other.rpartition("@")[2]: folder for other, folder in folders.items() if other.rpartition("@")[0] == name}
    per_step = config.training.batch_sequences * config.corpus.sequence_length
    return {float(int(step) * per_step): read_items(folder, real=real) for step, folder in steps.items()}


def ladder_of(config: StudyConfig, names: Sequence[str]) -> Ladder:
    """The rungs of the ladder and the other arms; one rung for an amount of text."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(arm_and_seed(name)[0], []).append(name)
    ladders: dict[str, dict[int, str]] = {}
    is_one_pass = config.training.steps is None and config.training.flops is None
    for arm, models in grouped.items():
        asked = config.arms[models[0]]
        if is_one_pass and not ever_needs_teacher(asked) and asked.epochs == 1:
            sequences = round(config.training.tokens * asked.data) // config.corpus.sequence_length
            ladders.setdefault(_without_amount(asked), {}).setdefault(sequences, arm)
    longest = max(ladders.values(), key=len, default={})
    rungs = {arm: grouped[arm] for _, arm in sorted(longest.items())}
    return Ladder(rungs, {arm: models for arm, models in grouped.items() if arm not in rungs})


def _without_amount(arm: ArmConfig) -> str:
    """What rungs of one ladder share: all but text and seed."""
    return arm.model_copy(update={"data": 1.0, "seed": None, "like": None, "budget": "iso-data"}).fingerprint()
