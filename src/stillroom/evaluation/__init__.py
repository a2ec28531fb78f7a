"""What a model can do: likelihood, in-context learning, and what more samples buy, each with its interval."""

from stillroom.evaluation.contamination import contamination
from stillroom.evaluation.diversity import distinct_n, ngram_similarity, self_bleu, vendi_score
from stillroom.evaluation.sampling.draw import Samples, Sampling, sample
from stillroom.evaluation.sampling.stops import StopTexts
from stillroom.evaluation.scoring import Continuation, Scores, score_continuations
from stillroom.evaluation.suite import copying_tokens, evaluate, item_tokens, longest_items
from stillroom.evaluation.measuring.benchmarks import Benchmark, load_benchmark, measure_benchmark
from stillroom.evaluation.measuring.choices import Question, answer
from stillroom.evaluation.measuring.counterfactual import measure_counterfactual, read_counterfactuals
from stillroom.evaluation.measuring.few_shot_rules import few_shot_items, measure_induction
from stillroom.evaluation.measuring.in_context_copying import frequent_tokens, measure_copying, repeated_tokens
from stillroom.evaluation.measuring.language_modelling import Heldout, measure_likelihood
from stillroom.evaluation.measuring.needles import context_questions, measure_context, measure_needle, needle_questions
from stillroom.evaluation.measuring.rules import RuleItem, rule_items
from stillroom.evaluation.measuring.test_time_scaling import Graded, measure_scaling, solve, summarise
from stillroom.evaluation.measuring.trigger_recall import RecallTokens, measure_recall, recall_tokens
from stillroom.results.across_seeds import difference_over_seeds, mean_over_seeds
from stillroom.results.compare import compare_items
from stillroom.results.coverage import (
    CoverageLaw,
    at_level,
    entropy_nats,
    fit_coverage,
    majority_correct,
    pass_at_k,
)
from stillroom.results.statistics import holm, mean, paired_difference, paired_interval, paired_t_test, ratio
from stillroom.results.sweeps import Sweep, compare_sweeps, entropy_matched
from stillroom.vocabulary import Vocabulary, token_bytes

__all__ = [
    "Benchmark",
    "Continuation",
    "CoverageLaw",
    "Graded",
    "Heldout",
    "Question",
    "RecallTokens",
    "RuleItem",
    "Samples",
    "Sampling",
    "Scores",
    "StopTexts",
    "Sweep",
    "Vocabulary",
    "answer",
    "at_level",
    "compare_items",
    "compare_sweeps",
    "contamination",
    "context_questions",
    "copying_tokens",
    "difference_over_seeds",
    "distinct_n",
    "entropy_matched",
    "entropy_nats",
    "evaluate",
    "few_shot_items",
    "fit_coverage",
    "frequent_tokens",
    "holm",
    "item_tokens",
    "load_benchmark",
    "longest_items",
    "majority_correct",
    "mean",
    "mean_over_seeds",
    "measure_benchmark",
    "measure_context",
    "measure_copying",
    "measure_counterfactual",
    "measure_induction",
    "measure_likelihood",
    "measure_needle",
    "measure_recall",
    "measure_scaling",
    "needle_questions",
    "ngram_similarity",
    "paired_difference",
    "paired_interval",
    "paired_t_test",
    "pass_at_k",
    "ratio",
    "read_counterfactuals",
    "recall_tokens",
    "repeated_tokens",
    "rule_items",
    "sample",
    "score_continuations",
    "self_bleu",
    "solve",
    "summarise",
    "token_bytes",
    "vendi_score",
]
