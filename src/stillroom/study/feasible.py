"""What is refused before anything is made: a study that could not be trained and measured to its end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stillroom.config import RunConfig, StudyConfig, TrainingConfig
from stillroom.study.buildable import check_models
from stillroom.study.measurable import check_evaluation
from stillroom.study.scale import num_planned_steps
from stillroom.study.single import arm_run
from stillroom.types import UserError


def check_study(config: StudyConfig) -> None:
    """Refuses a measure that nothing gives, an architecture that cannot do it, and a checkpoint that no arm reaches."""
    check_evaluation(config)
    check_models(config)
    check_kept(config)


def check_kept(config: StudyConfig) -> None:
    """Refuses a checkpoint that no arm is long enough to keep."""
    refuse_unreached([arm_run(config, name).training for name in config.arms], config)


def refuse_unreached(runs: Sequence[TrainingConfig], config: StudyConfig | RunConfig) -> None:
    """Refuses a checkpoint that is asked for and that none of some training runs is long enough to keep."""
    wanted = config.training
    if wanted.flops is not None or not wanted.keep:
        return
    most = max(num_planned_steps(training, math.nan, config.corpus.sequence_length) for training in runs)
    if max(wanted.keep) > most:
        which = "run" if len(runs) == 1 else "longest arm"
        raise UserError(
            f"training.keep: names step {max(wanted.keep)}, but the {which} has {most} steps; name steps up to that."
        )
