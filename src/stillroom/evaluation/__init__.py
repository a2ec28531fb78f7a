"""What a model can do: likelihood, in-context learning, and what more samples buy, each with its interval.

A suite (``suite.Suite``) is asked for by name and gives dataclasses of ``stillroom.results.schema``; ``measure_*`` are
what suites measure, for a model and items of one's own. Names are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.evaluation.diversity import distinct_n, ngram_similarity, self_bleu, vendi_score
    from stillroom.evaluation.evaluation_config import EvaluationConfig
    from stillroom.evaluation.measuring.benchmarks import Benchmark, load_benchmark, measure_benchmark
    from stillroom.evaluation.measuring.choices import Question, score_choices
    from stillroom.evaluation.measuring.counterfactual import measure_counterfactual, read_counterfactuals
    from stillroom.evaluation.measuring.few_shot_rules import few_shot_items, measure_induction
    from stillroom.evaluation.measuring.in_context_copying import frequent_tokens, measure_copying, repeated_tokens
    from stillroom.evaluation.measuring.induced_rules import RuleItem, rule_items
    from stillroom.evaluation.measuring.language_modelling import Heldout, measure_likelihood
    from stillroom.evaluation.measuring.needles import (
        context_questions,
        measure_context,
        measure_needle,
        needle_questions,
    )
    from stillroom.evaluation.measuring.test_time_scaling import Attempts, measure_scaling, solve, summarise_samples
    from stillroom.evaluation.measuring.trigger_recall import RecallTokens, measure_recall, recall_tokens
    from stillroom.evaluation.overlap import contamination
    from stillroom.evaluation.sampling.draw import Samples, Sampling, SamplingRequest, sample
    from stillroom.evaluation.sampling.stops import StopTexts
    from stillroom.evaluation.scoring import Continuation, ContinuationScores, score_continuations
    from stillroom.evaluation.suite import Material, Suite, SuiteConfig, SuiteResult, find_suite, suite_names

__all__ = [
    "Attempts",
    "Benchmark",
    "Continuation",
    "ContinuationScores",
    "EvaluationConfig",
    "Heldout",
    "Material",
    "Question",
    "RecallTokens",
    "RuleItem",
    "Samples",
    "Sampling",
    "SamplingRequest",
    "StopTexts",
    "Suite",
    "SuiteConfig",
    "SuiteResult",
    "contamination",
    "context_questions",
    "distinct_n",
    "few_shot_items",
    "find_suite",
    "frequent_tokens",
    "load_benchmark",
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
    "read_counterfactuals",
    "recall_tokens",
    "repeated_tokens",
    "rule_items",
    "sample",
    "score_choices",
    "score_continuations",
    "self_bleu",
    "solve",
    "suite_names",
    "summarise_samples",
    "vendi_score",
]
__getattr__ = names_of(__name__)
