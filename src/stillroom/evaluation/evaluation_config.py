"""What is measured, on how many items: the configurations of this package's suites as one, and those of others."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from stillroom.evaluation.suite import is_suite, suite_names
from stillroom.evaluation.suites.icl import InContextConfig
from stillroom.evaluation.suites.lm import LikelihoodConfig
from stillroom.evaluation.suites.retrieval import RetrievalConfig
from stillroom.evaluation.suites.tts import SamplesConfig
from stillroom.strict import ADDED_LATER, Positive, nearest


class EvaluationConfig(SamplesConfig, RetrievalConfig, InContextConfig, LikelihoodConfig):
    """What is measured, on how many items, from which seed; each suite reads the fields of its own class."""

    suites: tuple[str, ...] = ("lm", "icl", "tts", "heads")
    """``lm``: bits per byte. ``icl``: copying, recall, few-shot rules and counterfactual facts. ``tts``: pass@k and
    diversity. ``heads``: induction and previous-token heads. ``retrieval``: needle in a haystack and context question
    answering. Or a suite that a package adds under the entry point ``stillroom.suites``."""
    over_training: Annotated[tuple[str, ...], ADDED_LATER] = ("lm", "icl", "heads")
    """Which of them also measure the checkpoints that ``training.keep`` and ``keep_every`` keep; none with ``[]``."""
    contamination_ngram: Annotated[int, Field(ge=0, le=65_536)] = 13
    """Tokens of the n-grams by which items are looked for in the training text; 0 looks for none."""
    contamination_sequences: Positive = 50_000
    """Most training sequences that are read for it, evenly spaced."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Fields of suites from outside this package, by the name of the suite."""

    @model_validator(mode="after")
    def _suites_known(self) -> Self:
        for field in ("suites", "over_training"):
            for name in getattr(self, field):
                if not is_suite(name):
                    raise ValueError(f"{field} names {name!r}, which is none{nearest(name, suite_names())}")
        for name in self.options:
            if name not in self.suites:
                raise ValueError(f"options names {name!r}, which suites does not{nearest(name, list(self.suites))}")
        return self
