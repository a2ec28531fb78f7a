"""What the files of runs say, as typed numbers: loaded, compared, and with their units. Imports no torch, no numpy.

    run = stillroom.results.load("runs/quickstart-1a2b3c4d")
    run.model("dpt90").evaluation.lm.bits_per_byte      # Estimate(value, low, high, num): 95 % interval, items
    run.to_pandas().measures                            # a row for every number of every model, with its unit
    write_csv(run.worths, Path("worth.csv"))            # what a soft label was worth, for every arm and ability

``schema`` declares every file that a run leaves, ``measures`` is the registry of what is measured. Beside them:
``statistics`` and ``intervals`` (bootstrap over items, Student's t over seeds), ``coverage`` (pass@k), ``compare`` and
``worth`` (models and arms against one another; these import numpy). A file that is missing, damaged or of another
form is a ``UserError`` of one sentence that names it.
"""

from stillroom.results.measures import Measure, registered_measures
from stillroom.results.runs import (
    Curve,
    CurvePoint,
    Frames,
    HeadRow,
    MeasuredNumber,
    ModelRun,
    Run,
    SampleRow,
    WorthRow,
    estimates,
    load,
    write_csv,
)
from stillroom.results.schema import (
    Comparison,
    Difference,
    Environment,
    Evaluation,
    ModelRecord,
    StudyRecord,
    Worth,
    WorthTable,
)
from stillroom.types import Estimate

__all__ = [
    "Comparison",
    "Curve",
    "CurvePoint",
    "Difference",
    "Environment",
    "Estimate",
    "Evaluation",
    "Frames",
    "HeadRow",
    "Measure",
    "MeasuredNumber",
    "ModelRecord",
    "ModelRun",
    "Run",
    "SampleRow",
    "StudyRecord",
    "Worth",
    "WorthRow",
    "WorthTable",
    "estimates",
    "load",
    "registered_measures",
    "write_csv",
]
