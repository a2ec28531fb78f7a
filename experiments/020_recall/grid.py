"""The grid of the recall study as one configuration; what is in it and why stands in README.md."""

from __future__ import annotations

from stillroom.config import ModelConfig, ObjectiveConfig, RoutingConfig
from stillroom.sandbox.recall.recall_config import (
    RecallArmConfig,
    RecallConfig,
    RecallProbeConfig,
    RecallTeacherConfig,
    RecallWorldConfig,
)
from stillroom.sandbox.recall.recall_presets import training

SEEDS = (0, 1, 2, 3, 4)
TEACHERS = {
    "exact": RecallTeacherConfig(),
    "leak-0.05": RecallTeacherConfig(kind="leaking", leak=0.05),
    "leak-0.1": RecallTeacherConfig(kind="leaking", leak=0.1),
    "leak-0.2": RecallTeacherConfig(kind="leaking", leak=0.2),
    "early": RecallTeacherConfig(kind="trained", until=0.65),
    "middle": RecallTeacherConfig(kind="trained", until=0.85),
    "late": RecallTeacherConfig(kind="trained"),
}
ALL = tuple(TEACHERS)
FOCUS = ("leak-0.1", "early", "middle")
"""Teachers of the primary contrasts: every share is run with them."""
RULES = {
    "entropy": "low-entropy",
    "copy": "copy-aware",
    "random": "random",
    "gold": "low-gold-probability",
    "student": "student-entropy",
}
GRID: dict[str, tuple[str, ...]] = {
    "dpt90": ALL,
    "entropy-15": ALL,
    "copy-15": ALL,
    "random-15": ("exact", "leak-0.1", "early", "middle", "late"),
    "entropy-5": FOCUS,
    "entropy-30": FOCUS,
    "copy-5": FOCUS,
    "copy-30": FOCUS,
    "dpt50": FOCUS,
}
"""Which teachers each method is run with."""
OTHER_RULES: dict[str, tuple[str, ...]] = {
    method: ("early", "middle") for method in ("dpt90", "copy-15", "gold-15", "student-15")
}
"""That of study 022: the two rules that are not in ``GRID``, and what they are compared with."""


def arm(method: str, teacher: str) -> RecallArmConfig:
    """One arm of the grid."""
    if method.startswith("dpt"):
        share = method.removeprefix("dpt")
        objective = ObjectiveConfig(alpha=int(share) / 100)
        return RecallArmConfig(label=f"DPT-{share}, {teacher}", teacher=teacher, objective=objective)
    rule, share = method.split("-")
    routing = RoutingConfig.model_validate({"rule": RULES[rule], "share": int(share) / 100})
    objective = ObjectiveConfig(alpha=0.9, routing=routing)
    label = f"DPT-90, {RULES[rule]} {share} %, {teacher}"
    return RecallArmConfig(label=label, teacher=teacher, objective=objective)


def study(
    seeds: tuple[int, ...] = SEEDS, grid: dict[str, tuple[str, ...]] = GRID, name: str = "020-recall"
) -> RecallConfig:
    """A whole grid at these seeds. Primary arms come first, so that a seed cut short has them."""
    arms = {"spt": RecallArmConfig(label="SPT")}
    for teachers in (FOCUS, ALL):
        for method, run_with in grid.items():
            arms |= {f"{method}@{teacher}": arm(method, teacher) for teacher in teachers if teacher in run_with}
    used = {teacher for run_with in grid.values() for teacher in run_with}
    return RecallConfig(
        name=name,
        world=RecallWorldConfig(characters=33, triggers=3, sequence_length=64),
        model=ModelConfig(
            hidden_size=64, intermediate_size=192, num_layers=2, num_heads=4, max_positions=64, tie_embeddings=False
        ),
        training=training(steps=250, batch=64, rate=6e-3).model_copy(update={"checkpoint_seconds": 600.0}),
        teachers={teacher: config for teacher, config in TEACHERS.items() if teacher in used},
        arms=arms,
        seeds=seeds,
        probes=RecallProbeConfig(sequences=128, pattern_sequences=16, per_doubling=4),
        keep_models=False,
    )
