"""What happens inside a model: pure functions of taps and weights that return dataclasses."""

from stillroom.analysis.ablation import Ablation, copying_ablation, without_head
from stillroom.analysis.attention_heads import (
    HeadScores,
    check_heads,
    copying_scores,
    head_scores,
    prefix_matching_scores,
    previous_token_scores,
)
from stillroom.analysis.loss_comparison import (
    QuantileBin,
    Split,
    batch_entropies,
    batch_losses,
    by_quantile,
    largest_differences,
    split_losses,
)

__all__ = [
    "Ablation",
    "HeadScores",
    "QuantileBin",
    "Split",
    "batch_entropies",
    "batch_losses",
    "by_quantile",
    "check_heads",
    "copying_ablation",
    "copying_scores",
    "head_scores",
    "largest_differences",
    "prefix_matching_scores",
    "previous_token_scores",
    "split_losses",
    "without_head",
]
