"""What is refused before anything is made: a study that could not be trained and measured to its end."""

from __future__ import annotations

import math

from stillroom.config import StudyConfig
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
    """Refuses a checkpoint that no arm is long enough to keep, before anything is trained."""
    if config.training.flops is not None or not config.training.keep:
        return
    runs = (arm_run(config, name).training for name in config.arms)
    most = max(num_planned_steps(training, math.nan, config.corpus.sequence_length) for training in runs)
    if max(config.training.keep) > most:
        raise UserError(
            f"training.keep: names step {max(config.training.keep)}, but the longest arm has {most} steps; name steps "
            "up to that."
        )
