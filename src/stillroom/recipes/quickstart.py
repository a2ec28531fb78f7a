"""The quickstart: the paper's comparison in a few minutes on two cores, with no network.

Text is the installed Python library's source beside three synthetic worlds. A teacher of 2.6 million parameters and
students of 0.15 million see exactly the same tokens (IsoData), so that the teacher is far ahead on real text, and a
ladder of hard labels says what a soft label is worth. ``docs/LOG.md`` has the runs behind the numbers.
"""

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

Option = int | float | str | bool

TOKENS = 1_600_000
HELDOUT_SEQUENCES = 1280  # a fifth is Python, from enough files for an interval
FAMILIES = "pair_sum between multiple pick progression chain_sum gcd"  # those that such a student begins to solve
LETTERS = "abcdefghijklmnopqrstuvwxyz"  # no digits, which are two tokens after a space
FACTS: dict[str, Option] = {"entities": 32, "skew": 0.7, "override_share": 0.15}
COPYING: dict[str, Option] = {"letters_share": 1.0, "lookup_share": 0.0, "alphabet": LETTERS}  # few different tokens


def quickstart() -> StudyConfig:
    """SPT on half, all and twice the text, DPT-90, and DPT-90 with the 15 % of lowest teacher entropy routed."""
    training = TrainingConfig(
        tokens=TOKENS, batch_sequences=16, optimizer="muon", learning_rate=1e-2, schedule="wsd", decay=0.3
    )
    return StudyConfig(
        name="quickstart",
        corpus=CorpusConfig(
            sources={
                "python": SourceConfig(kind="python-library", share=0.2),
                "facts": SourceConfig(kind="facts", share=0.35, options=FACTS),
                "problems": SourceConfig(kind="problems", share=0.2, options={"families": FAMILIES}),
                "copying": SourceConfig(kind="copying", share=0.25, options=COPYING),
            },
            vocab_size=640,
            sequence_length=128,
            train_tokens=2 * TOKENS,
            heldout_tokens=HELDOUT_SEQUENCES * 128,
        ),
        teacher=TeacherConfig(
            model=ModelConfig(hidden_size=224, intermediate_size=608, num_layers=4, num_heads=7, rope_theta=100.0),
            training=training,
        ),
        student=ModelConfig(hidden_size=64, intermediate_size=192, num_layers=2, num_heads=4, rope_theta=100.0),
        training=training,
        arms=_arms(),
        evaluation=EvaluationConfig(
            heldout_sequences=HELDOUT_SEQUENCES, max_new_tokens=32, copying_period=16, copying_vocabulary=32
        ),
    )


def _arms() -> dict[str, ArmConfig]:
    routing = RoutingConfig(rule="low-entropy", share=0.15)
    return {
        "spt": ArmConfig(),
        "spt_half": ArmConfig(data=0.5),
        "spt2x": ArmConfig(data=2.0),
        "dpt90": ArmConfig(alpha=0.9),
        "dpt90_routed": ArmConfig(alpha=0.9, routing=routing),
    }
