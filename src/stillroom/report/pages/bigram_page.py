"""The page of a bigram sandbox, and what it shows in words. Reads the run folder alone; imports no torch."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

from stillroom.files import shaped, write_text
from stillroom.report.charts.figure import Table
from stillroom.report.charts.lines import brief, brief_with_interval
from stillroom.report.formats import MISSING, duration, fixed, percent, si, with_interval
from stillroom.report.html import Lead, fill, stage_rows
from stillroom.report.pages.bigram_figures import bigram_figures
from stillroom.report.pages.bigram_results import CLASSES, BigramRun, load_bigram_run
from stillroom.results.bigram_file import BigramArm

TOLERANCE = 0.1
"""Total variation at which the summary calls a row learnt."""


def build_bigram_report(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Writes ``report.html`` into the run folder; returns its path and the summary's sentences.

    The page appears complete or not at all, and the same files give the same bytes.

    Raises:
        UserError: a file of the folder is missing or damaged, or the folder cannot be written.
    """
    run = load_bigram_run(folder)
    with shaped(folder / "sandbox.json", "that of stillroom sandbox bigram"):
        found = findings(run)
        text = bigram_text(run, found)
    page = folder / "report.html"
    write_text(page, text)
    return page, found


def bigram_text(run: BigramRun, summary: tuple[str, ...]) -> str:
    """The page as text; its one paragraph is the first finding, what was run and how theory fares."""
    return fill(
        "sandbox_bigram.html.j2",
        kind="stillroom sandbox",
        title="Bigram sandbox",
        lead=Lead(((summary[0], *summary[-2:]),), summary[1:-2]),
        table_title="At the largest sample",
        run_title="What was run",
        table=arms_table(run),
        figures=bigram_figures(run),
        stages=stage_rows(run.data.stages),
        total=duration(run.data.total_seconds),
        world=world_facts(run),
        environment=[(key, str(value)) for key, value in run.environment.items()],
        fingerprint=run.data.fingerprint,
        config=run.config,
    )


def world_facts(run: BigramRun) -> list[tuple[str, str]]:
    """What the world is, name by name."""
    world = run.data.world
    facts = [("source", world.source), ("tokens K", f"{world.states}"), ("rows are met", world.visits)]
    for kind, nats in world.entropy_nats.items():
        facts.append((f"{kind}-entropy rows", f"{world.rows[kind]}, mean {fixed(nats, 3)} nats"))
    facts.append(("lowest possible loss", f"{fixed(world.optimal_loss_nats, 4)} nats per sample"))
    return [*facts, ("on a long walk", f"{fixed(world.walk_loss_nats, 4)} nats per token")]


def arms_table(run: BigramRun) -> Table:
    """The drawn arms at the largest sample, and the samples that each needs."""
    head = ["arm"]
    for kind in run.classes:
        head += [f"{kind}-entropy rows", f"{kind}: left"]
    rows = []
    for arm in run.drawn:
        cells = [arm.name]
        for kind in run.classes:
            est = arm.tv[kind][-1]
            cells += [with_interval(est, 4), fixed(arm.floor[kind], 4)]
        needed = samples_needed(run, arm, run.classes[0])
        rows.append((*cells, MISSING if needed is None else si(needed)))
    return Table((*head, f"samples to {TOLERANCE:g}"), tuple(rows))


def samples_needed(run: BigramRun, arm: BigramArm, kind: str) -> float | None:
    """The smallest sample from which on the mean total variation is at most 0.1; None where none is."""
    curve = [(size, point.value) for size, point in zip(run.samples, arm.tv[kind], strict=True)]
    if curve[-1][1] > TOLERANCE:
        return None
    above = [place for place, (_, value) in enumerate(curve) if value > TOLERANCE]
    if not above:
        return float(curve[0][0])
    (low, high), (size, value) = curve[above[-1]], curve[above[-1] + 1]
    share = math.log(high / TOLERANCE) / math.log(high / max(value, 1e-12))
    return low * (size / low) ** share


def findings(run: BigramRun) -> tuple[str, ...]:
    """What was measured, in words computed from the numbers: what soft labels buy, what they cost, how theory fares."""
    told = [one for one in (_bought(run), _cost(run), _routed(run), _ratio(run), _drawing(run)) if one]
    return (*told, _what_was_run(run), _theory(run))


def _what_was_run(run: BigramRun) -> str:
    world, seeds = run.data.world, run.data.seeds
    rows = ", ".join(f"{world.rows[kind]} with {CLASSES[kind]}" for kind in run.classes)
    sizes = f"{si(run.samples[0])} to {si(run.samples[-1])} samples"
    count = f"{len(run.arms)} arms, {seeds} seed{'s' if seeds > 1 else ''}"
    return f"What was run: {count}, {sizes} of {world.states} tokens ({rows})."


def _bought(run: BigramRun) -> str:
    """Samples to learn the high-entropy rows from hard labels, and with an exact teacher."""
    if "high" not in run.classes:
        return ""
    spt = next((arm for arm in run.arms if not arm.alpha), None)
    exact = [arm for arm in run.drawn if arm.kind == "exact" and arm.alpha and arm.routing == "none"]
    if spt is None or not exact:
        return ""
    parts = []
    for arm in (spt, exact[-1]):
        needed = samples_needed(run, arm, "high")
        parts.append(f"{arm.name} {'not within the sweep' if needed is None else f'after {si(needed)} samples'}")
    return f"Total variation {TOLERANCE:g} on high-entropy rows is reached by {parts[0]}, by {parts[1]}."


def _cost(run: BigramRun) -> str:
    """What leaks leave over on low-entropy rows, and when hard labels overtake."""
    leaky = [arm for arm in run.drawn if arm.leak and arm.routing == "none"]
    if "low" not in run.classes or not leaky:
        return ""
    arm = leaky[-1]
    est = arm.tv["low"][-1]
    words = (
        f"On low-entropy rows {arm.name} stays {brief_with_interval(est)} from the truth after "
        f"{si(run.samples[-1])} samples, where α·η is {brief(arm.alpha * arm.leak)}"
    )
    spt = next((other for other in run.drawn if not other.alpha), None)
    crossing = None if spt is None or "high" not in run.classes else _overtakes(run, spt, arm)
    if crossing is None:
        return f"{words}."
    return f"{words}; on high-entropy rows hard labels alone are ahead of it from about {si(crossing)} samples on."


def _overtakes(run: BigramRun, spt: BigramArm, arm: BigramArm) -> float | None:
    """The first size from which on SPT's interval lies below the arm's on high-entropy rows."""
    ahead = [own.high < other.low for own, other in zip(spt.tv["high"], arm.tv["high"], strict=True)]
    if not ahead[-1]:
        return None
    first = max((place for place, (before, after) in enumerate(pairwise(ahead)) if after and not before), default=-1)
    return run.samples[first + 1]


def _routed(run: BigramRun) -> str:
    """What is left on low-entropy rows with the same arm routed."""
    arms = [arm for arm in run.drawn if arm.leak and arm.routing != "none"]
    if "low" not in run.classes or not arms:
        return ""
    parts = []
    for arm in arms:
        rule = "at random" if arm.routing == "random" else "by teacher entropy"
        parts.append(f"{brief(arm.tv['low'][-1].value)} with {percent(arm.share)} routed {rule}")
    return f"Routing leaves {', '.join(parts)}."


def _ratio(run: BigramRun) -> str:
    slope = run.data.deviation.ratio_slope
    if slope.measured is None or slope.theory is None or not run.data.ratio:
        return ""
    last = run.data.ratio[-1]
    est = last.ratio
    return (
        f"Hard labels need {brief_with_interval(est)} times the samples of exact "
        f"soft labels at p = {last.support} and ε = {last.tolerance:g}; the ratio grows as (p/ε²) to the power "
        f"{fixed(slope.measured, 2)}, theory says {fixed(slope.theory, 2)}."
    )


def _drawing(run: BigramRun) -> str:
    """pass@k at the middle size of the first and last unrouted arm, and the best there is."""
    found, kind = run.data.pass_, run.classes[0]
    size, place = len(run.samples) // 2, len(found.ks) - 1
    plain = [arm.name for arm in run.drawn if arm.routing == "none"]
    parts = [f"{name} {fixed(found.arms[name][kind][size][place].value, 3)}" for name in plain]
    best = fixed(found.references["best"][kind][place], 3)
    return (
        f"With {si(run.samples[size])} samples, pass@{found.ks[place]} of guesses from the learnt {kind}-entropy "
        f"rows is {', '.join(parts)}; the best policy reaches {best}."
    )


def _theory(run: BigramRun) -> str:
    found = run.data.deviation.all_arms
    if found is None:
        return "No distance is large enough to be held against theory."
    return (
        f"Theory without a fitted constant: at the largest sample the {found.num} measured distances lie "
        f"{_percents(found.median)} from it in the median and {_percents(found.largest)} at most."
    )


def _percents(share: float) -> str:
    return "less than 0.1 %" if share < 1e-3 else f"{100 * share:.1f} %"
