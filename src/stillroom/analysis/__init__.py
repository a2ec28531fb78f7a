"""What happens inside a model: pure functions of taps and weights that return dataclasses."""

from stillroom.analysis.heads import (
    HeadScores,
    copying_scores,
    head_scores,
    prefix_matching_scores,
    previous_token_scores,
)

__all__ = [
    "HeadScores",
    "copying_scores",
    "head_scores",
    "prefix_matching_scores",
    "previous_token_scores",
]
