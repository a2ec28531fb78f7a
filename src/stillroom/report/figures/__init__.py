"""The figures of the page, each a function from a view to a ``Figure``: of this package, then of others.

Another package names its own under the entry point ``stillroom.figures``.
"""

from stillroom.registry import entries_of, load_entry
from stillroom.report.charts.figure import Figure, Panel, Table
from stillroom.report.figures.bars import in_context
from stillroom.report.figures.coverage_curves import frontier, pass_curves, unique_right
from stillroom.report.figures.curves import copying_curve, learning_curves
from stillroom.report.figures.entropy_profile import profile_figure
from stillroom.report.figures.forecast_outcomes import forecast_figure
from stillroom.report.figures.head_maps import head_map
from stillroom.report.figures.needle import needle_map
from stillroom.report.figures.over_training import training_figure
from stillroom.report.figures.paired import paired_figure
from stillroom.report.figures.seed_differences import seeds_figure
from stillroom.report.figures.worth_bars import worth_figure
from stillroom.report.view import View

__all__ = ["Figure", "Panel", "Table", "all_figures"]


def all_figures(view: View) -> tuple[Figure, ...]:
    """Every figure in the order of the page; one that has nothing to draw carries a sentence that says why."""
    makers = (
        *(worth_figure, learning_curves, pass_curves, frontier, unique_right, in_context, copying_curve),
        *(needle_map, paired_figure, seeds_figure, head_map, training_figure, profile_figure, forecast_figure),
    )
    others = [load_entry(entry) for entry in entries_of("stillroom.figures").values()]
    return tuple(make(view) for make in (*makers, *others))
