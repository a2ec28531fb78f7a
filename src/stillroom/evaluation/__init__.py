"""What a model can do: likelihood, in-context learning, and what more samples buy, each with its interval."""

from stillroom.evaluation.choices import Question, answer
from stillroom.evaluation.copying import frequent_tokens, measure_copying, repeated_tokens
from stillroom.evaluation.counterfactual import measure_counterfactual
from stillroom.evaluation.coverage import (
    CoverageLaw,
    at_level,
    entropy_nats,
    fit_coverage,
    majority_correct,
    pass_at_k,
)
from stillroom.evaluation.diversity import distinct_n, ngram_similarity, self_bleu, vendi_score
from stillroom.evaluation.lm import Heldout, measure_likelihood
from stillroom.evaluation.retrieval import context_questions, measure_context, measure_needle, needle_questions
from stillroom.evaluation.sampling import Samples, Sampling, sample
from stillroom.evaluation.scaling import Graded, compare_samples, measure_scaling, solve, summarise
from stillroom.evaluation.scoring import Continuation, Scores, score_continuations
from stillroom.evaluation.statistics import mean, paired_difference, ratio
from stillroom.evaluation.suites import copying_tokens, evaluate
from stillroom.evaluation.vocabulary import Vocabulary, token_bytes

__all__ = [
    "Continuation",
    "CoverageLaw",
    "Graded",
    "Heldout",
    "Question",
    "Samples",
    "Sampling",
    "Scores",
    "Vocabulary",
    "answer",
    "at_level",
    "compare_samples",
    "context_questions",
    "copying_tokens",
    "distinct_n",
    "entropy_nats",
    "evaluate",
    "fit_coverage",
    "frequent_tokens",
    "majority_correct",
    "mean",
    "measure_context",
    "measure_copying",
    "measure_counterfactual",
    "measure_likelihood",
    "measure_needle",
    "measure_scaling",
    "needle_questions",
    "ngram_similarity",
    "paired_difference",
    "pass_at_k",
    "ratio",
    "repeated_tokens",
    "sample",
    "score_continuations",
    "self_bleu",
    "solve",
    "summarise",
    "token_bytes",
    "vendi_score",
]
