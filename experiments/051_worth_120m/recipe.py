"""The arms of 040 with students of 120M parameters on a tenth of the text of ``sandbox-120m``."""

from __future__ import annotations

from pathlib import Path

from stillroom.config import ModelConfig, StudyConfig, TeacherConfig, over_seeds
from stillroom.recipes.sandbox_120m import sandbox_120m
from stillroom.study.recipe_files import load_module

WORTH = load_module(Path(__file__).parents[1] / "040_worth" / "recipe.py")
LADDER, PARTS, RULES, ITEMS = WORTH.LADDER, WORTH.PARTS, WORTH.RULES, WORTH.ITEMS
CONTRASTS, ROWS, PANELS, ARMS = WORTH.CONTRASTS, WORTH.ROWS, WORTH.PANELS, WORTH.ARMS
TOKENS = 240_000_000
SEEDS = (20, 21, 22)
"""No study had them before."""
_SEEDED = {"name": "051-worth-120m", "arms": over_seeds(ARMS, SEEDS)}


def study() -> StudyConfig:
    """Fourteen arms at three seeds; a checkpoint every two minutes."""
    base = sandbox_120m()
    own = {"tokens": TOKENS, "batch_sequences": 128, "validate_every": 0, "checkpoint_seconds": 120.0}
    training = base.training.model_copy(update=own)
    python = base.corpus.sources["python"].model_copy(update={"epochs": 4.0})  # the library is short for so many tokens
    return base.model_copy(
        update={
            **_SEEDED,
            "corpus": base.corpus.model_copy(
                update={"train_tokens": 2 * TOKENS, "sources": {**base.corpus.sources, "python": python}}
            ),
            "teacher": TeacherConfig(model=base.teacher.model, training=training),
            "training": training,
            "evaluation": base.evaluation.model_copy(update={**ITEMS, "temperatures": WORTH.ONE}),
        }
    )


def tiny() -> StudyConfig:
    """The same stages at a size of seconds, which says nothing: four of the arms at two seeds."""
    base = study()
    model = ModelConfig(hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, max_positions=64)
    training = base.training.model_copy(
        update={"tokens": 2048, "batch_sequences": 8, "micro_batch_sequences": None,
                "parallel": base.training.parallel.model_copy(update={"compile": False})}
    )  # fmt: skip
    few = {name: arm for name, arm in ARMS.items() if name in ("spt_half", "spt", "dpt90_half", "dpt90_all")}
    small = {"vocab_size": 300, "sequence_length": 64, "train_tokens": 4096, "heldout_tokens": 1024}
    items = {
        "suites": ("lm", "tts"), "heldout_sequences": 8, "problems": 4, "samples_per_problem": 16, "max_new_tokens": 4,
    }  # fmt: skip
    return base.model_copy(
        update={
            "name": "051-tiny",
            "corpus": base.corpus.model_copy(update=small),
            "teacher": TeacherConfig(model=model, training=training),
            "student": model,
            "training": training,
            "arms": over_seeds(few, SEEDS[:2]),
            "evaluation": base.evaluation.model_copy(update=items),
        }
    )
