"""A study of seconds, for tests: every stage of a real one on a few thousand tokens."""

from __future__ import annotations

from stillroom.config import (
    ArmConfig,
    CorpusConfig,
    EvaluationConfig,
    LabelsConfig,
    ModelConfig,
    RoutingConfig,
    SourceConfig,
    StudyConfig,
    TeacherConfig,
    TrainingConfig,
)


def micro() -> StudyConfig:
    """Students of two layers of width 16, a teacher twice as wide, 4,096 tokens."""
    model = ModelConfig(hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, max_positions=128)
    training = TrainingConfig(
        tokens=4096, batch_sequences=8, learning_rate=2e-2, validate_every=4, checkpoint_seconds=0.2
    )
    return StudyConfig(
        name="micro",
        corpus=CorpusConfig(
            sources={
                "python": SourceConfig(kind="python-library", share=0.4),
                "facts": SourceConfig(kind="facts", share=0.3),
                "problems": SourceConfig(kind="problems", share=0.3),
            },
            vocab_size=300,
            sequence_length=64,
            train_tokens=8192,
            heldout_tokens=1024,
        ),
        teacher=TeacherConfig(model=model.model_copy(update={"hidden_size": 32}), training=training),
        labels=LabelsConfig(shard_sequences=16),
        student=model,
        training=training,
        arms={
            "spt": ArmConfig(),
            "dpt90": ArmConfig(alpha=0.9),
            "routed": ArmConfig(alpha=0.9, routing=RoutingConfig(rule="low-entropy", share=0.15)),
        },
        evaluation=EvaluationConfig(
            heldout_sequences=16,
            copying_sequences=4,
            copying_period=8,
            copying_repeats=3,
            counterfactual_items=8,
            problems=4,
            samples_per_problem=4,
            temperatures=(1.0,),
            ks=(1, 2),
            max_new_tokens=6,
        ),
    )
