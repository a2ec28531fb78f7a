"""A student of 120M parameters on the synthetic worlds, for one node of GPUs: every measure has a known truth.

``docs/scale.md`` has the commands. Nothing here has been run at this size; ``--dry-run`` says what it would take.
"""

from __future__ import annotations

from stillroom.config import (
    ArmConfig,
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    ParallelConfig,
    RoutingConfig,
    SourceConfig,
    StudyConfig,
    TeacherConfig,
    TrainingConfig,
)

TOKENS = 2_400_000_000  # 20 per parameter of the student
STUDENT = ModelConfig(
    hidden_size=768, intermediate_size=2560, num_layers=14, num_heads=12, num_kv_heads=4, max_positions=1024
)
TEACHER = ModelConfig(
    hidden_size=1024, intermediate_size=3072, num_layers=20, num_heads=16, num_kv_heads=4, max_positions=1024
)


def sandbox_120m() -> StudyConfig:
    """SPT, SPT with the FLOPs of DPT-90, DPT-90, and DPT-90 with routing."""
    training = TrainingConfig(
        tokens=TOKENS,
        batch_sequences=512,
        micro_batch_sequences=16,
        learning_rate=2e-3,
        schedule="wsd",
        warmup=0.01,
        validate_every=500,
        checkpoint_seconds=600.0,
        parallel=ParallelConfig(compile=True),
    )
    routing = RoutingConfig(rule="low-entropy", share=0.15)
    return StudyConfig(
        name="sandbox-120m",
        corpus=CorpusConfig(
            sources={
                "python": SourceConfig(kind="python-library", share=0.01),
                "facts": SourceConfig(kind="facts", share=0.34),
                "problems": SourceConfig(kind="problems", share=0.35),
                "copying": SourceConfig(kind="copying", share=0.3),
            },
            vocab_size=8192,
            sequence_length=1024,
            train_tokens=2 * TOKENS,
            heldout_tokens=2_000_000,
        ),
        teacher=TeacherConfig(model=TEACHER, training=training.model_copy(update={"epochs": 2.0})),
        student=STUDENT,
        training=training,
        arms={
            "spt": ArmConfig(),
            "spt_isocompute": ArmConfig(like="dpt90", budget="iso-compute"),
            "dpt90": ArmConfig(alpha=0.9),
            "dpt90_routed": ArmConfig(alpha=0.9, routing=routing),
        },
        evaluation=EvaluationConfig(heldout_sequences=1024, problems=500, samples_per_problem=64, max_new_tokens=64),
    )
