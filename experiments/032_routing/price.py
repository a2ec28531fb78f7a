"""What routing costs and whether it carries over: calibration, over-copying, and tasks that no decision has used.

    python experiments/032_routing/price.py RUN_FOLDER [RUN_FOLDER ...]

Reads the students' weights from finished runs and the sources of installed packages that no run was trained on. Writes
``price.json``: every measure of every arm and seed, and the contrasts of ``recipe.py``.
"""

from __future__ import annotations

import argparse
import keyword
import math
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).parents[1]))
from over_seeds import Measures, Table, contrast, means

from stillroom.corpora import Corpus, load_tokenizer, open_corpus
from stillroom.evaluation.measuring.calibration import calibration
from stillroom.evaluation.measuring.choices import Question, score_choices
from stillroom.evaluation.scoring import Continuation, evaluating, score_continuations
from stillroom.files import write_json
from stillroom.models import hidden_states, load_model, unembedding
from stillroom.objectives import last_successor
from stillroom.places import find_part, run_parts
from stillroom.results.schema import arm_and_seed
from stillroom.study.recipe_files import load_module
from stillroom.types import IGNORE_INDEX

PACKAGES = ("click", "Jinja2", "mpmath", "networkx")
"""Not in the training text, which is Python's own library; pinned by ``requirements.lock``."""
NUM_ITEMS, CONTEXT, LONGEST_ANSWER, CHOICES = 400, 96, 30, 4
NAME = re.compile(r"[A-Za-z_]\w{2,}")


def sources() -> dict[str, str]:
    """Text of the packages' Python files by path, without tests."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for file in sorted(files(package) or (), key=str):
            if file.suffix == ".py" and "tests" not in file.parts:
                found[str(file)] = file.read_text(encoding="utf-8")
    return found


def spread(texts: dict[str, str], seed: int) -> Iterator[tuple[str, np.random.Generator]]:
    """Files at random again and again, as likely as they are long."""
    rng = np.random.default_rng(seed)
    every = list(texts.values())
    lengths = np.array([len(text) for text in every], dtype=float)
    while True:
        yield every[rng.choice(len(every), p=lengths / lengths.sum())], rng


def names(texts: dict[str, str], tokenizer: PreTrainedTokenizerBase) -> list[Question]:
    """Which of four names of the context comes next; the right one stood there before."""
    made: list[Question] = []
    for text, rng in spread(texts, 1):
        matches = list(NAME.finditer(text))
        if len(matches) < 2:
            continue
        place = matches[rng.integers(1, len(matches))]
        before = text[max(0, place.start() - 20 * CONTEXT) : place.start()]  # far more than the tokens that are kept
        context = tokenizer.encode(before.rstrip(" "), add_special_tokens=False)[-CONTEXT:]
        known = {name for name in NAME.findall(str(tokenizer.decode(context))) if not keyword.iskeyword(name)}
        others = sorted(known - {place[0]})
        if place[0] not in known or len(others) < CHOICES - 1:
            continue
        gap = " " if before.endswith(" ") else ""
        chosen = [place[0], *rng.choice(others, CHOICES - 1, replace=False)]
        made.append(_question(tokenizer, context, [gap + name for name in chosen]))
        if len(made) == NUM_ITEMS:
            return made
    raise AssertionError


def lines(texts: dict[str, str], tokenizer: PreTrainedTokenizerBase) -> list[Question]:
    """Which of four lines of the same file, of like length, comes next."""
    made: list[Question] = []
    for text, rng in spread(texts, 2):
        rows = text.split("\n")
        if len(rows) < 20:
            continue
        place = int(rng.integers(8, len(rows)))
        right = rows[place]
        before = "\n".join(rows[max(0, place - 30) : place])
        alike = {row for row in rows if row.strip() and 0.7 < len(row) / max(1, len(right)) < 1.4 and row not in before}
        others = sorted(alike - {right})
        if len(right.strip()) < 10 or right in before or len(others) < CHOICES - 1:
            continue
        context = tokenizer.encode(before, add_special_tokens=False)[-CONTEXT:]
        chosen = [right, *rng.choice(others, CHOICES - 1, replace=False)]
        question = _question(tokenizer, context, ["\n" + row for row in chosen])
        if max(map(len, question.choices)) <= LONGEST_ANSWER:
            made.append(question)
        if len(made) == NUM_ITEMS:
            return made
    raise AssertionError


def _question(tokenizer: PreTrainedTokenizerBase, context: list[int], choices: Sequence[str]) -> Question:
    ids = tuple(tuple(tokenizer.encode(choice, add_special_tokens=False)) for choice in choices)
    return Question(tuple(context), ids, right=0)


def pieces_of(texts: dict[str, str], tokenizer: PreTrainedTokenizerBase) -> tuple[list[Continuation], int]:
    """Pieces of the packages' text, each after its first token, and their bytes."""
    pieces: list[Continuation] = []
    for text, rng in spread(texts, 3):
        start = int(rng.integers(0, max(1, len(text) - 400)))
        ids = tokenizer.encode(text[start : start + 400], add_special_tokens=False)[: CONTEXT + LONGEST_ANSWER]
        if len(ids) > 1:
            pieces.append(Continuation(tuple(ids[:1]), tuple(ids[1:])))
        if len(pieces) == NUM_ITEMS:
            break
    return pieces, sum(len(str(tokenizer.decode(list(piece.continuation))).encode()) for piece in pieces)


def on_heldout(model: PreTrainedModel, corpus: Corpus, num: int = 256) -> Measures:
    """Calibration error, and the probability of what followed last time where something else follows now."""
    batch = corpus.heldout.batch(range(min(num, len(corpus.heldout))))
    with evaluating(model):
        hidden_BTD = hidden_states(model, batch, isolate=True)
        weight_VD, _ = unembedding(model)
        probability_BTV = (hidden_BTD @ weight_VD.T).float().softmax(-1)
    confidence_BT, first_BT = probability_BTV.max(-1)
    counted_BT = batch.targets_BT != IGNORE_INDEX
    expected_BT = last_successor(batch)
    tempted_BT = counted_BT & (expected_BT >= 0) & (expected_BT != batch.targets_BT)
    copied_BT = probability_BTV.gather(-1, expected_BT.clamp(min=0)[..., None])[..., 0]
    items = torch.arange(len(counted_BT))[:, None].expand_as(counted_BT)[counted_BT]
    right = (first_BT == batch.targets_BT)[counted_BT]
    error = calibration(confidence_BT[counted_BT].numpy(), right.numpy(), items.numpy(), resamples=10).error.value
    return {"calibration_error": float(error), "over_copying": float(copied_BT[tempted_BT].mean())}


def measure(runs: list[Path]) -> Table:
    """Every student of the runs."""
    table: Table = {}
    texts = sources()
    asked: dict[str, list[Question]] = {}
    pieces, num_bytes = [], 0
    for run in runs:
        corpus = open_corpus(Path(find_part("corpus", run).path))
        parts = run_parts(run)
        for student, folder in sorted(parts.models.items() if parts is not None else ()):
            arm, seed = arm_and_seed(student)
            if seed is None:
                continue
            tokenizer, model = load_tokenizer(folder), load_model(folder)
            if not asked:  # all students share the tokenizer
                asked = {"names": names(texts, tokenizer), "lines": lines(texts, tokenizer)}
                pieces, num_bytes = pieces_of(texts, tokenizer)
            bits = -score_continuations(model, pieces).logprob_I.sum() / math.log(2)
            found = on_heldout(model, corpus) | {"other:bits_per_byte": float(bits / num_bytes)}
            for task, questions in asked.items():
                answered = score_choices(model, questions)
                found[f"{task}:accuracy"] = float(answered.chosen_I.mean())
                found[f"{task}:margin_nats"] = float(answered.margin_I.mean())
            table.setdefault(arm, {})[seed] = found
            print(
                f"{student}: names {found['names:accuracy']:.3f}, lines {found['lines:accuracy']:.3f}", file=sys.stderr
            )
    return table


def freeze(study: Path, runs: list[Path]) -> None:
    """Writes ``price.json``."""
    table = measure(runs)
    wanted: dict[str, dict[str, float]] = load_module(study / "recipe.py").CONTRASTS
    made: dict[str, Any] = {
        "packages": {package: version(package) for package in PACKAGES},
        "items": NUM_ITEMS,
        "arms": {arm: means(seeds) for arm, seeds in table.items()},
        "contrasts": {
            name: contrast(table, {}, weights)
            for name, weights in wanted.items()
            if all(arm in table for arm in weights)
        },
        "values": {arm: {str(seed): found for seed, found in seeds.items()} for arm, seeds in table.items()},
    }
    write_json(study / "price.json", made)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="finished run folders")
    freeze(Path(__file__).parent, parser.parse_args().runs)
