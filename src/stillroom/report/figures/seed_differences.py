"""Arms over training seeds: each arm minus the baseline's, seed by seed, with intervals of Student's t."""

from __future__ import annotations

from stillroom.report.arms import Paired, SeededArm, arms_over_seeds, baseline_arm, mean_of, paired_with
from stillroom.report.charts.figure import Figure, Panel, Table, panel_width, span
from stillroom.report.figures import captions
from stillroom.report.figures.bars import bars
from stillroom.report.formats import MISSING, with_interval
from stillroom.report.headline import seed_measures
from stillroom.report.view import View
from stillroom.results.intervals import corrected, p_text
from stillroom.results.measures import Measure

ID, TITLE = "fig-seeds", "Differences over training seeds"


def seeds_figure(view: View) -> Figure:
    """Differences between arms that were trained at several seeds; means, differences and p-values in the table."""
    arms = arms_over_seeds(view)
    baseline = baseline_arm(arms)
    if baseline is None or len(arms) < 2:
        return Figure(ID, TITLE)
    measures = [one for one in seed_measures(view) if any(mean_of(arm, one) is not None for arm in arms)]
    found = {
        measure: [
            paired
            for arm in arms
            if arm is not baseline and (paired := paired_with(baseline, arm, measure)) is not None
        ]
        for measure in measures
    }
    drawn = [(measure, rows) for measure, rows in found.items() if rows]
    width = panel_width(len(drawn))
    panels = tuple(
        Panel(
            measure.title,
            bars(
                measure,
                [(one.arm.entry, one.mean.estimate) for one in rows],
                width,
                dots=[one.differences for one in rows],
            ),
        )
        for measure, rows in drawn
    )
    pairs = [len(one.differences) for _, rows in drawn for one in rows]
    caption = captions.SEEDS.format(baseline=baseline.label, count=span(pairs) if pairs else "0")
    return Figure(ID, TITLE, caption, panels, table=_table(arms, baseline, measures, found))


def _table(
    arms: tuple[SeededArm, ...], baseline: SeededArm, measures: list[Measure], found: dict[Measure, list[Paired]]
) -> Table:
    every = [one for rows in found.values() for one in rows]
    tested = zip(every, corrected(one.mean for one in every), strict=True)
    tests = {(one.arm, one.measure): difference for one, difference in tested}
    rows = []
    for arm in arms:
        for measure in measures:
            mean = mean_of(arm, measure)
            if mean is None:
                continue
            one = tests.get((arm, measure))
            difference = with_interval(one and one.estimate, measure.decimals)
            pairs = MISSING if one is None else str(one.num)
            shown_p = MISSING if one is None or one.p_holm is None else p_text(one.p_holm)
            value = with_interval(mean, measure.decimals)
            rows.append((arm.label, measure.title, value, str(mean.num), difference, pairs, shown_p))
    head = ("arm", "measure", "mean over seeds", "seeds", f"minus {baseline.label}", "pairs", "p (Holm)")
    return Table(head, tuple(rows))
