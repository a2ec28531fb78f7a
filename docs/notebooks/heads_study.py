"""The study behind the notebook on heads over training: ``stillroom study docs/notebooks/heads_study.py``."""

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
)

TOKENS = 600_000


def study() -> StudyConfig:
    """Hard labels, and a teacher's, on random letters that repeat; every fiftieth step is kept."""
    training = TrainingConfig(tokens=TOKENS, batch_sequences=16, optimizer="muon", learning_rate=1e-2, keep_every=50)
    model = ModelConfig(hidden_size=64, intermediate_size=192, num_layers=2, num_heads=4, rope_theta=100.0)
    letters = {"letters_share": 1.0, "lookup_share": 0.0, "alphabet": "abcdefghijklmnopqrstuvwxyz"}
    return StudyConfig(
        name="heads",
        corpus=CorpusConfig(
            sources={"copying": SourceConfig(kind="copying", options=letters)},
            vocab_size=300,
            sequence_length=64,
            train_tokens=TOKENS,
            heldout_tokens=64 * 64,
        ),
        teacher=TeacherConfig(model=model, training=training.model_copy(update={"keep_every": 0})),
        student=model,
        training=training,
        arms={"spt": ArmConfig(), "dpt90": ArmConfig(alpha=0.9)},
        evaluation=EvaluationConfig(
            suites=("lm", "icl", "heads"), heldout_sequences=64, copying_period=16, copying_vocabulary=32
        ),
    )
