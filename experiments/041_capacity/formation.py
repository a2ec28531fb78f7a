"""When copying forms: the first kept checkpoint of every student that copies, and log-rank tests between arms.

    python experiments/041_capacity/formation.py --runs runs/041-capacity

Writes ``formation.json``, for the arms that are tested. A student that never copies is censored at the end of its
training.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import CensoredData, logrank

from stillroom.config import StudyConfig
from stillroom.files import write_json
from stillroom.results.schema import arm_and_seed
from stillroom.study.recipe_files import resolve_recipe

HERE = Path(__file__).parent
COPIES = 0.5
"""Accuracy on repeats from which a student is said to copy."""
PAIRS = {
    "dpt90_over_spt": ("dpt90_all", "spt"),
    "early_dpt90_over_spt": ("early_dpt90_all", "spt"),
    **{f"{early}{rule}15_over_dpt90": (f"{early}{rule}15_all", f"{early}dpt90_all")
       for early in ("", "early_") for rule in ("entropy", "copy")},
}  # fmt: skip


TESTED = {arm for pair in PAIRS.values() for arm in pair}


@dataclass(frozen=True)
class Formed:
    """One student: distinct tokens when it first copied, or those of its whole training."""

    tokens: int
    is_formed: bool
    accuracy: float
    """On repeats, at the end."""


def first_copying(accuracies: Mapping[int, float], tokens_per_step: int) -> Formed:
    """From the accuracy at every step that was measured; the last is the end of training."""
    last = max(accuracies)
    formed = [step for step, accuracy in sorted(accuracies.items()) if accuracy >= COPIES]
    return Formed((formed[0] if formed else last) * tokens_per_step, bool(formed), accuracies[last])


def log_rank(one: Sequence[Formed], other: Sequence[Formed]) -> dict[str, float | None]:
    """The log-rank test of two arms, above 0 where the first forms earlier; no p where nothing formed in either."""
    if not any(student.is_formed for student in (*one, *other)):
        return {"p": None, "statistic": None}
    samples = [
        CensoredData(
            uncensored=[student.tokens for student in arm if student.is_formed],
            right=[student.tokens for student in arm if not student.is_formed],
        )
        for arm in (one, other)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = logrank(samples[0], samples[1])
    return {"p": float(found.pvalue), "statistic": float(found.statistic)}


def measure(runs: Sequence[Path]) -> dict[str, dict[int, Formed]]:
    """Every student of the runs, by arm and seed."""
    from stillroom.corpora import open_corpus
    from stillroom.evaluation.measuring.in_context_copying import measure_copying
    from stillroom.evaluation.suites.icl import copying_tokens
    from stillroom.models import load_model

    found: dict[str, dict[int, Formed]] = {}
    for run in runs:
        config = resolve_recipe(str(run / "config.yaml"))
        assert isinstance(config, StudyConfig)
        corpus, asked = open_corpus(run), config.evaluation
        tokens_BT = copying_tokens(asked, corpus.tokenizer, corpus.heldout)
        per_step = config.training.batch_sequences * config.corpus.sequence_length
        for name, arm in config.arms.items():
            stem, seed = arm_and_seed(name)
            if stem not in TESTED:
                continue
            model = (run / "models" / name / "model").resolve()
            total = round(config.training.tokens * arm.data) // per_step
            places = {int(one.name.rpartition("-")[2]): one for one in model.parent.glob("steps/step-*")}
            accuracies = {}
            for step, place in sorted((places | {total: model}).items()):
                copied = measure_copying(
                    load_model(place), tokens_BT, period=asked.copying_period, repeats=asked.copying_repeats
                )
                assert copied.accuracy_repeat is not None
                accuracies[step] = copied.accuracy_repeat.value
            found.setdefault(stem, {})[seed or 0] = first_copying(accuracies, per_step)
            print(name, found[stem][seed or 0], flush=True)
    return found


def main() -> None:
    """Reads the command line and writes ``formation.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/041-capacity"))
    students = measure(sorted(one.parent for one in parser.parse_args().runs.glob("*/study.json")))
    arms = {
        arm: {
            "formed": sum(one.is_formed for one in seeds.values()), "of": len(seeds),
            "tokens": {str(seed): one.tokens if one.is_formed else None for seed, one in sorted(seeds.items())},
            "median_tokens": float(np.median([one.tokens if one.is_formed else np.inf for one in seeds.values()])),
            "accuracy": {str(seed): one.accuracy for seed, one in sorted(seeds.items())},
        }
        for arm, seeds in students.items()
    }  # fmt: skip
    for one in arms.values():
        one["median_tokens"] = one["median_tokens"] if np.isfinite(one["median_tokens"]) else None
    tests = {
        name: log_rank(list(students[one].values()), list(students[other].values()))
        for name, (one, other) in PAIRS.items()
        if one in students and other in students
    }
    write_json(HERE / "formation.json", {"copies_from": COPIES, "arms": arms, "log_rank": tests})


if __name__ == "__main__":
    main()
