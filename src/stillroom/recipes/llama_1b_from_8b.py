"""A 1B student from an 8B teacher on web text, for several nodes of GPUs: the paper's setting.

``docs/scale.md`` has the commands. Nothing here has been run at this size; ``--dry-run`` says what it would take. The
teacher and its tokenizer come from a hub and need its licence to be accepted there; the text needs the extra ``hub``.
"""

from __future__ import annotations

from stillroom.config import (
    ArmConfig,
    CorpusConfig,
    EvaluationConfig,
    LabelsConfig,
    ModelConfig,
    ParallelConfig,
    RoutingConfig,
    SourceConfig,
    StudyConfig,
    TeacherConfig,
    TrainingConfig,
)

TOKENS = 25_000_000_000
VOCABULARY = 128_256
TEACHER_ID = "meta-llama/Llama-3.1-8B"
STUDENT = ModelConfig(
    hidden_size=2048,
    intermediate_size=8192,
    num_layers=16,
    num_heads=32,
    num_kv_heads=8,
    max_positions=4096,
    rope_theta=500_000.0,
)
TEACHER = ModelConfig(  # the sizes are those of the model at ``path``; the plan reads them
    hidden_size=4096,
    intermediate_size=14_336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    max_positions=4096,
    rope_theta=500_000.0,
    tie_embeddings=False,
    path=TEACHER_ID,
)


def llama_1b_from_8b() -> StudyConfig:
    """SPT, SPT on twice the tokens, DPT-90, and DPT-90 with routing, each in whole nodes of eight."""
    routing = RoutingConfig(rule="low-entropy", share=0.15)
    return StudyConfig(
        name="llama-1b-from-8b",
        corpus=CorpusConfig(
            sources={"web": SourceConfig(kind="hub", path="HuggingFaceFW/fineweb-edu", max_document_chars=100_000)},
            vocab_size=VOCABULARY,
            tokenizer=TEACHER_ID,
            sequence_length=2048,
            train_tokens=2 * TOKENS,
            heldout_tokens=10_000_000,
        ),
        teacher=TeacherConfig(model=TEACHER, training=None),
        labels=LabelsConfig(codec="sampled", num_samples=50, shard_sequences=4096),
        student=STUDENT,
        training=TrainingConfig(
            tokens=TOKENS,
            batch_sequences=1024,
            micro_batch_sequences=4,
            learning_rate=6e-4,
            schedule="cosine",
            warmup=0.02,
            validate_every=500,
            checkpoint_steps=500,
            keep_every=5000,
            parallel=ParallelConfig(compile=True, recompute=True),
        ),
        arms={
            "spt": ArmConfig(),
            "spt2x": ArmConfig(data=2.0),
            "dpt90": ArmConfig(alpha=0.9),
            "dpt90_routed": ArmConfig(alpha=0.9, routing=routing),
        },
        evaluation=EvaluationConfig(heldout_sequences=2048, samples_per_problem=64, max_new_tokens=128),
    )
