"""The page of a recall study, from its run folder alone: no network, no torch, one file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from stillroom.checksums import require
from stillroom.files import read_json_object, read_text, shaped, write_text
from stillroom.report.figures import Figure, Table
from stillroom.report.figures.recall_study import (
    RecallArm,
    attention_maps,
    cost_of_copying,
    head_curves,
    learning,
    rows_by_entropy,
)
from stillroom.report.formats import MISSING, duration, fixed, percent, si, with_interval
from stillroom.report.html import Lead, fill
from stillroom.report.view import styles
from stillroom.results.json_form import from_json
from stillroom.results.recall_file import RecallResults, RecallTeacherResult
from stillroom.types import UserError

_TOLD = 4
"""Arms that have a sentence of their own each."""


def build_recall_report(run_folder: Path) -> Path:
    """Writes ``report.html`` into a run folder of ``stillroom sandbox recall`` and returns its path.

    Raises:
        UserError: a file is missing, damaged, or of another kind of run.
    """
    results = _results(run_folder)
    environment = read_json_object(run_folder / "environment.json")
    config = read_text(run_folder / "config.yaml", "the configuration of the study")
    with shaped(run_folder / "sandbox.json", "that of stillroom sandbox recall"):
        page = recall_text(results, environment, config)
    write_text(run_folder / "report.html", page)
    return run_folder / "report.html"


def _results(run_folder: Path) -> RecallResults:
    require(run_folder)
    file = run_folder / "sandbox.json"
    found = read_json_object(file, "that of stillroom sandbox recall")
    if found.get("kind") != "recall":
        raise UserError(f"{file}: is not that of a recall study; give a folder of stillroom sandbox recall.")
    return from_json(RecallResults, found, file)


def recall_figures(run_folder: Path) -> tuple[Figure, ...]:
    """The figures of the page."""
    results = _results(run_folder)
    with shaped(run_folder / "sandbox.json", "that of stillroom sandbox recall"):
        return figures(results, shown_arms(results))


def recall_text(results: RecallResults, environment: Mapping[str, object], config: str) -> str:
    """The page as text."""
    arms = shown_arms(results)
    return fill(
        "sandbox_recall.html.j2",
        kind="stillroom sandbox",
        title=results.name,
        lead=recall_summary(results, arms),
        table_title="At the end of training",
        run_title="What was run",
        table=final_table(arms),
        teachers=teacher_table(results.teachers),
        figures=figures(results, arms),
        costs=recall_costs(results, arms),
        environment=[(name, str(value)) for name, value in environment.items()]
        + [("fingerprint", results.fingerprint), ("total time", duration(results.total_seconds))],
        config=config,
    )


def shown_arms(results: RecallResults) -> tuple[RecallArm, ...]:
    """Every arm with its colour and marker."""
    shown = zip(styles([record.label for record in results.arms], first_marker=1), results.arms, strict=True)
    return tuple(RecallArm(**vars(style), record=record) for style, record in shown)


def figures(results: RecallResults, arms: Sequence[RecallArm]) -> tuple[Figure, ...]:
    """Every figure in the order of the page."""
    world = results.world
    floors = [(arm, floor) for arm in arms if (floor := leak_floor(arm, results)) is not None]
    return (
        learning(arms, world, floors),
        head_curves(arms),
        attention_maps(arms, world.symbols, world.trigger_symbols),
        rows_by_entropy(arms, world),
        cost_of_copying(arms),
    )


def leak_floor(arm: RecallArm, results: RecallResults) -> float | None:
    """Copy loss (nats) that an unrouted arm keeps because its teacher leaks; None where the theory says nothing.

    The population optimum is q* = (1 - α)·π + α·s, so the answer keeps 1 - α·η·(1 - r), r being what the leak gives the
    answer itself. Answers are drawn evenly over V characters, so the mean of r is 1/V for the unigram and the uniform.
    """
    teacher = results.teachers.get(arm.record.teacher or "")
    if teacher is None or teacher.kind != "leaking" or arm.record.routing is not None:
        return None
    if teacher.towards == "context" or teacher.leak == 0 or results.world.outputs == "row":
        return None
    lost = arm.record.alpha * teacher.leak * (1 - 1 / results.world.characters)
    return -math.log(1 - lost) if lost < 1 else None


def recall_summary(results: RecallResults, arms: Sequence[RecallArm]) -> Lead:
    """What was found in one paragraph, however many arms there are; with one seed it speaks of this run alone."""
    world, seeds = results.world, results.seeds
    run = (
        f"What was run: {len(arms)} students, {len(seeds)} seed{'s' if len(seeds) > 1 else ''} each, "
        f"{si(results.tokens)} tokens of text in which {world.triggers} of {world.characters} characters always repeat "
        "the answer that they were given first."
    )
    sure = (
        "One seed: what differs between arms here is an observation, not a finding."
        if len(seeds) == 1
        else f"How sure: intervals are 95 % ones of Student’s t over {len(seeds)} seeds."
    )
    of_text = (
        f"Of every sequence about {world.scored_per_sequence:.1f} answers can be known only by looking back; chance is "
        f"{fixed(world.chance_loss, 2)} nats, and one who knows the truth loses {fixed(world.optimal_loss, 3)} nats "
        "per token."
    )
    told = tuple(map(_arm_sentence, arms)) if len(arms) <= _TOLD else (_reached(arms),)
    floors = _floor_sentences([(arm, floor) for arm in arms if (floor := leak_floor(arm, results)) is not None])
    return Lead(((_range_sentence(arms), run, sure),), (" ".join((of_text, *told, *floors)),))


def _range_sentence(arms: Sequence[RecallArm]) -> str:
    """The arms that repeat the most and the least at the end."""
    found = [(one.value, arm.name) for arm in arms if (one := arm.final("copy_accuracy")) is not None]
    if not found:
        return "No arm was measured at the end."
    (low, worst), (high, best) = min(found), max(found)
    if len(found) == 1:
        return f"{best} repeats {percent(high)} of the later answers at the end."
    return (
        f"Of all {len(arms)} arms, {best} repeats the most of the later answers at the end, {percent(high)}, and "
        f"{worst} the least, {percent(low)}."
    )


def _reached(arms: Sequence[RecallArm]) -> str:
    reached = sum(arm.record.half["copy_accuracy"] is not None for arm in arms)
    return f"{_arm_sentence(arms[0])} The copy accuracy of {reached} arms reached one half. The table has every one."


def _floor_sentences(floors: Sequence[tuple[RecallArm, float]]) -> list[str]:
    """How far arms of a leaky teacher are from what theory says that the leak leaves: each of a few, or the range."""
    measured = [(arm, floor, loss.value) for arm, floor in floors if (loss := arm.final("copy_loss")) is not None]
    if len(measured) > _TOLD:
        away = [found - floor for _, floor, found in measured]
        return [
            f"Of {len(measured)} arms whose teacher leaks, the loss per later answer lies {fixed(min(away), 3)} to "
            f"{fixed(max(away), 3)} nats above what theory says that the leak leaves."
        ]
    return [
        f"{arm.name}: theory puts the loss that the leak leaves at {fixed(floor, 3)} nats per later answer; "
        f"measured {fixed(found, 3)}, {fixed(found - floor, 3)} from it."
        for arm, floor, found in measured
    ]


def _arm_sentence(arm: RecallArm) -> str:
    final, half = arm.final("copy_accuracy"), arm.record.half["copy_accuracy"]
    share = MISSING if final is None else percent(final.value)
    accuracy = f"{arm.name} repeats {share} of the later answers at the end"
    if half is None:
        return f"{accuracy}; its copy accuracy never reached one half."
    transition = arm.seeds[0].crossings.transition
    place = f", crossing one half after {si(half.value)} tokens"
    if math.isfinite(half.low):
        place += f" ({si(half.low)} to {si(half.high)})"
    if transition is None:
        return f"{accuracy}{place}."
    where = f"{si(transition.low)} and {si(transition.high)}"
    return f"{accuracy}{place}; its induction head rose fastest between {where} tokens (first seed)."


_COLUMNS = (
    *(("copy_accuracy", "copy accuracy", 3), ("copy_loss", "copy loss (nats)", 3), ("kl", "KL, all (nats)", 4)),
    *(("kl_high", "KL, high entropy", 4), ("kl_low", "KL, low entropy", 4)),
    *(("over_copying", "over-copying", 4), ("calibration_error", "calibration error", 4)),
)


def final_table(arms: Sequence[RecallArm]) -> Table:
    """Every arm at the end of training."""
    rows = tuple(
        (arm.name, *(with_interval(arm.final(name), decimals) for name, _, decimals in _COLUMNS)) for arm in arms
    )
    return Table(("arm", *(title for _, title, _ in _COLUMNS)), rows)


def teacher_table(teachers: Mapping[str, RecallTeacherResult]) -> Table | None:
    """What each teacher is, and how good a trained one is; None where there is none."""
    if not teachers:
        return None
    return Table(
        ("teacher", "what it is", "copy accuracy", "copy loss (nats)", "KL, all (nats)"),
        tuple((name, _described(one), *_own(one)) for name, one in teachers.items()),
    )


def _described(teacher: RecallTeacherResult) -> str:
    if teacher.kind == "exact":
        return "knows the rule"
    if teacher.kind == "leaking":
        warm = "" if teacher.temperature == 1 else f", temperature {teacher.temperature:g}"
        return f"knows the rule, leaks {teacher.leak:g} to the {teacher.towards}{warm}"
    until = teacher.until
    return "trained to the end" if until >= 1 else f"trained until its own copy accuracy was {until:g}"


def _own(teacher: RecallTeacherResult) -> tuple[str, str, str]:
    measured = teacher.measured
    if measured is None:
        return MISSING, MISSING, MISSING
    kinds = (("copy_accuracy", 3), ("copy_loss", 3), ("kl", 4))
    first, second, third = (with_interval(measured[name], decimals) for name, decimals in kinds)
    return first, second, third


def recall_costs(results: RecallResults, arms: Sequence[RecallArm]) -> Table:
    """Objective, routed share, size and time of every arm."""
    rows = []
    for arm in arms:
        routing, seeds = arm.record.routing, arm.seeds
        shares = [seed.routed_share for seed in seeds if seed.routed_share is not None]
        asked = MISSING if routing is None else f"{routing.rule}, {100 * routing.share:g} %"
        found = MISSING if not shares else f"{100 * sum(shares) / len(shares):.1f} %"
        seconds = sum(seed.seconds for seed in seeds) / len(seeds)
        cells = (f"{arm.record.alpha:g}", arm.record.teacher or MISSING, asked, found)
        rows.append((arm.name, *cells, si(seeds[0].parameters), si(results.tokens), duration(seconds)))
    head = ("arm", "α", "teacher", "routing asked", "routed", "parameters", "tokens", "time per seed")
    return Table(head, tuple(rows))
