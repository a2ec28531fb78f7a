"""What happens inside a model: pure functions of taps and weights that return dataclasses."""

from stillroom.analysis.ablation import Ablation, copying_ablation, without_head
from stillroom.analysis.heads import (
    HeadScores,
    check_heads,
    copying_scores,
    head_scores,
    prefix_matching_scores,
    previous_token_scores,
)
from stillroom.analysis.loss_comparison import (
    Bin,
    Split,
    by_quantile,
    copyable,
    entropies,
    largest_differences,
    split_losses,
    token_losses,
)

__all__ = [
    "Ablation",
    "Bin",
    "HeadScores",
    "Split",
    "by_quantile",
    "check_heads",
    "copyable",
    "copying_ablation",
    "copying_scores",
    "entropies",
    "head_scores",
    "largest_differences",
    "prefix_matching_scores",
    "previous_token_scores",
    "split_losses",
    "token_losses",
    "without_head",
]
