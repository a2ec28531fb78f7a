"""What happens inside a model: pure functions of taps and weights that return dataclasses."""

from stillroom.analysis.ablation import Ablation, copying_ablation, without_head
from stillroom.analysis.heads import (
    HeadScores,
    copying_scores,
    head_scores,
    prefix_matching_scores,
    previous_token_scores,
)
from stillroom.analysis.losses import Bin, Passage, by_quantile, largest_differences, token_losses

__all__ = [
    "Ablation",
    "Bin",
    "HeadScores",
    "Passage",
    "by_quantile",
    "copying_ablation",
    "copying_scores",
    "head_scores",
    "largest_differences",
    "prefix_matching_scores",
    "previous_token_scores",
    "token_losses",
    "without_head",
]
