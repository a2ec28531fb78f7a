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
    Passage,
    QuantileBin,
    Split,
    batch_entropies,
    batch_losses,
    by_quantile,
    largest_differences,
    split_losses,
)
from stillroom.analysis.pictures import (
    attention_svg,
    figure_html,
    heading_html,
    page_html,
    scores_svg,
    series_svg,
    tokens_html,
    visible,
)

__all__ = [
    "Ablation",
    "HeadScores",
    "Passage",
    "QuantileBin",
    "Split",
    "attention_svg",
    "batch_entropies",
    "batch_losses",
    "by_quantile",
    "check_heads",
    "copying_ablation",
    "copying_scores",
    "figure_html",
    "head_scores",
    "heading_html",
    "largest_differences",
    "page_html",
    "prefix_matching_scores",
    "previous_token_scores",
    "scores_svg",
    "series_svg",
    "split_losses",
    "tokens_html",
    "visible",
    "without_head",
]
