"""The quickstart's shape in under a minute: it shows that every part works, and nothing about distillation."""

from __future__ import annotations

from stillroom.config import (
    ArmConfig,
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    RoutingConfig,
    SourceConfig,
    StudyConfig,
    TeacherConfig,
    TrainingConfig,
)

TOKENS = 32_768


def tiny() -> StudyConfig:
    """Four arms of two-layer models on some ten thousand tokens each."""
    training = TrainingConfig(tokens=TOKENS, batch_sequences=16, optimizer="muon", learning_rate=1e-2)
    return StudyConfig(
        name="tiny",
        corpus=CorpusConfig(
            sources={
                "python": SourceConfig(kind="python-library", share=0.3),
                "facts": SourceConfig(kind="facts", share=0.25, options={"entities": 16}),
                "problems": SourceConfig(
                    kind="problems", share=0.25, options={"families": "between multiple pair_sum"}
                ),
                "copying": SourceConfig(kind="copying", share=0.2),
            },
            vocab_size=512,
            sequence_length=128,
            train_tokens=2 * TOKENS,
            heldout_tokens=8_192,
        ),
        teacher=TeacherConfig(
            model=ModelConfig(hidden_size=96, intermediate_size=256, num_layers=2),
            training=training.model_copy(update={"epochs": 2.0}),
        ),
        student=ModelConfig(hidden_size=64, intermediate_size=192, num_layers=2),
        training=training,
        arms={
            "spt": ArmConfig(),
            "spt2x": ArmConfig(data=2.0),
            "dpt90": ArmConfig(alpha=0.9),
            "dpt90_routed": ArmConfig(alpha=0.9, routing=RoutingConfig(rule="low-entropy", share=0.15)),
        },
        evaluation=EvaluationConfig(
            heldout_sequences=32,
            copying_sequences=16,
            counterfactual_items=32,
            problems=12,
            samples_per_problem=16,
            max_new_tokens=16,
        ),
    )
