"""What a model can do: likelihood, in-context learning, and what more samples buy, each with its interval."""

from stillroom.evaluation.copying import copying, frequent_tokens, repeated_tokens
from stillroom.evaluation.counterfactual import counterfactual
from stillroom.evaluation.coverage import entropy_nats, pass_at_k
from stillroom.evaluation.lm import Heldout, bits_per_byte
from stillroom.evaluation.sampling import Samples, Sampling, sample
from stillroom.evaluation.scaling import Graded, scaling, solve, summarise
from stillroom.evaluation.scoring import Continuation, Scores, score_continuations
from stillroom.evaluation.statistics import mean, paired_difference, ratio
from stillroom.evaluation.suites import copying_tokens, evaluate
from stillroom.evaluation.vocabulary import Vocabulary, token_bytes

__all__ = [
    "Continuation",
    "Graded",
    "Heldout",
    "Samples",
    "Sampling",
    "Scores",
    "Vocabulary",
    "bits_per_byte",
    "copying",
    "copying_tokens",
    "counterfactual",
    "entropy_nats",
    "evaluate",
    "frequent_tokens",
    "mean",
    "paired_difference",
    "pass_at_k",
    "ratio",
    "repeated_tokens",
    "sample",
    "scaling",
    "score_continuations",
    "solve",
    "summarise",
    "token_bytes",
]
