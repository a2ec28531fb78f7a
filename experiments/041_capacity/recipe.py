"""Students near what their size can learn, and teachers far ahead of them on real text: finished and unfinished ones.

A teacher is a study of its own, as ``finished_0`` or ``unfinished_2``; students of hard labels are shared by all.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stillroom.config import ArmConfig, ModelConfig, RoutingConfig, StudyConfig, TeacherConfig, ladder, over_seeds
from stillroom.recipes.quickstart import quickstart

sys.path.insert(0, str(Path(__file__).parents[1]))
from setting import ONE, Scale, setting

TOKENS = 3_600_000
STUDENT = ModelConfig(hidden_size=64, intermediate_size=176, num_layers=2, num_heads=4, rope_theta=100.0)
LADDER = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
PARTS = {"quarter": 0.25, "half": 0.5, "all": 1.0}
RULES = {"entropy": "low-entropy", "copy": "copy-aware"}
SEEDS = {0: (10, 13, 16, 19), 1: (11, 14, 17), 2: (12, 15, 18)}
"""Seeds of the students by that of their teacher: ten students, each under one teacher of each kind."""
UNFINISHED = 0.25
"""Part of the text that an unfinished teacher has seen."""
STEP_TOKENS, KEEP_EVERY = 16 * 128, 100
"""Tokens of a step, and steps between the checkpoints that are kept to see when copying forms."""
ITEMS = {
    "heldout_sequences": 1280, "problems": 300, "samples_per_problem": 32, "temperatures": ONE,
    "suites": ("lm", "icl", "tts"), "over_training": (),
}  # fmt: skip


def _distilled() -> dict[str, ArmConfig]:
    """The arms that have a teacher, without seeds."""
    plain = {f"dpt90_{name}": ArmConfig(alpha=0.9, data=part) for name, part in PARTS.items()}
    return plain | {
        f"{short}15_all": ArmConfig(alpha=0.9, routing=RoutingConfig.model_validate({"rule": rule, "share": 0.15}))
        for short, rule in RULES.items()
    }


def _under(teacher: int, *, unfinished: bool = False) -> StudyConfig:
    """The arms under one teacher; those of hard labels stand beside the finished ones."""
    base = quickstart()
    assert base.teacher.training is not None
    quiet = {"validate_every": 0, "checkpoint_seconds": 600.0}
    seen = {"tokens": round(TOKENS * (UNFINISHED if unfinished else 1.0)), "epochs": 1.0, "seed": teacher}
    arms = (
        {f"early_{name}": arm for name, arm in _distilled().items()} if unfinished else ladder(*LADDER) | _distilled()
    )
    steps = round(TOKENS * max(arm.data for arm in arms.values())) // STEP_TOKENS
    kept = tuple(range(KEEP_EVERY, steps, KEEP_EVERY))
    return base.model_copy(
        update={
            "name": f"041-{'unfinished' if unfinished else 'finished'}-{teacher}",
            "corpus": base.corpus.model_copy(update={"train_tokens": 2 * TOKENS}),
            "teacher": TeacherConfig(
                model=base.teacher.model, training=base.teacher.training.model_copy(update=seen | quiet)
            ),
            "student": STUDENT,
            "training": base.training.model_copy(update={"tokens": TOKENS, "keep": kept, **quiet}),
            "arms": over_seeds(arms, SEEDS[teacher]),
            "evaluation": base.evaluation.model_copy(update=ITEMS),
        }
    )


def finished_0() -> StudyConfig:
    """Hard labels, and the first finished teacher."""
    return _under(0)


def finished_1() -> StudyConfig:
    """Hard labels, and the second finished teacher."""
    return _under(1)


def finished_2() -> StudyConfig:
    """Hard labels, and the third finished teacher."""
    return _under(2)


def unfinished_0() -> StudyConfig:
    """The first teacher after a quarter of the text."""
    return _under(0, unfinished=True)


def unfinished_1() -> StudyConfig:
    """The second teacher after a quarter of the text."""
    return _under(1, unfinished=True)


def unfinished_2() -> StudyConfig:
    """The third teacher after a quarter of the text."""
    return _under(2, unfinished=True)


RUNS = [f"{kind}_{number}" for number in range(3) for kind in ("finished", "unfinished")]
"""The functions above, in the order in which they are run."""


def gpu() -> StudyConfig:
    """The same arms with students of 120M parameters and one teacher."""
    return _larger("gpu")


def cluster() -> StudyConfig:
    """The same arms with 1B from 8B on web text."""
    return _larger("cluster")


def _larger(scale: Scale) -> StudyConfig:
    return setting("041-capacity", ladder(*LADDER) | _distilled(), scale=scale, temperatures=ONE)


_RUNGS = {"quarter": "spt_quarter", "half": "spt_half", "all": "spt"}
CONTRASTS: dict[str, dict[str, float]] = {
    **{f"gain_{name}": {f"dpt90_{name}": 1.0, rung: -1.0} for name, rung in _RUNGS.items()},
    **{f"early_gain_{name}": {f"early_dpt90_{name}": 1.0, rung: -1.0} for name, rung in _RUNGS.items()},
    "gain_quarter_less_all": {"dpt90_quarter": 1.0, "spt_quarter": -1.0, "dpt90_all": -1.0, "spt": 1.0},
    "early_gain_quarter_less_all": {
        "early_dpt90_quarter": 1.0, "spt_quarter": -1.0, "early_dpt90_all": -1.0, "spt": 1.0,
    },
    **{f"{short}15_over_dpt90": {f"{short}15_all": 1.0, "dpt90_all": -1.0} for short in RULES},
    **{f"early_{short}15_over_dpt90": {f"early_{short}15_all": 1.0, "early_dpt90_all": -1.0} for short in RULES},
    "early_over_finished": {"early_dpt90_all": 1.0, "dpt90_all": -1.0},
}  # fmt: skip
"""Weights of the arms; every contrast is worked out seed by seed."""
ROWS = {
    "gain_all": "DPT-90 minus SPT, all",
    "early_gain_all": "... of an unfinished teacher",
    "gain_quarter": "DPT-90 minus SPT, a quarter",
    "early_gain_quarter": "... of an unfinished teacher",
    "entropy15_over_dpt90": "entropy 15 % minus DPT-90",
    "copy15_over_dpt90": "copy-aware 15 % minus DPT-90",
}
WORTH_ARMS = {
    "dpt90_quarter": "DPT-90, a quarter",
    "dpt90_half": "DPT-90, half",
    "dpt90_all": "DPT-90, all (IsoData)",
    "early_dpt90_all": "... of an unfinished teacher",
}
PANELS = {
    "lm:by_source:python:bits_per_byte": "Python, bits per byte",
    "tts:1:pass_at:1": "pass@1",
    "tts:1:pass_at:16": "pass@16",
    "tts:1:unique_correct": "different right answers",
    "copying:accuracy_repeat": "copying",
    "counterfactual:follows_context": "follows context",
}
