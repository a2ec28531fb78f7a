"""What is inside a model, for ``stillroom inspect``: heads, ablation, attention, checkpoints, two models apart."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor
from transformers import PreTrainedModel

from stillroom.analysis import (
    HeadScores,
    batch_entropies,
    batch_losses,
    copying_ablation,
    head_scores,
    largest_differences,
    split_losses,
)
from stillroom.console import line
from stillroom.corpora import load_tokenizer, open_corpus
from stillroom.models import attention_patterns, num_positions
from stillroom.results.inspected import AttentionPattern, InspectedCheckpoints, InspectedModel, Passage
from stillroom.results.schema import Numbers
from stillroom.study.export import export_checkpoint
from stillroom.study.teacherfolders import check_measured
from stillroom.study.train_stage import load_here
from stillroom.types import Batch, UserError, printable
from stillroom.vocabulary import encode_documents

PERIOD, REPEATS, SEQUENCES = 25, 4, 16
_ALL_HEADS = 64
_SHOWN_HEADS = 4
_SIGNS = str.maketrans({"\n": "⏎", "\t": "⇥", "\r": "␍"})
_STEP = re.compile(r"step-(\d+)$")


@dataclass(frozen=True)
class ModelRequest:
    """What is asked about a model beside its heads."""

    against: Path | None = None
    """Another model, compared token by token on the held-out text of ``corpus``."""
    corpus: Path | None = None
    teacher: Path | None = None
    """A model whose entropy sorts the tokens."""
    text: str = ""
    """Text whose attention is drawn, instead of repeated random tokens."""
    attention: bool = False
    """Whether a page is to show where the strongest heads look."""
    ablation: bool = True
    sequences: int = 32
    """Held-out sequences on which two models are compared."""


def show_model(path: Path, console: Console, request: ModelRequest) -> InspectedModel:
    """Prints the scores of every head and what the loss on repeats becomes without it; returns what a page draws."""
    _check_comparison(path, request, console)
    model = load_here(path)
    tokens_BT, start = copying_sequences(model)
    scores = head_scores(model, tokens_BT, period=PERIOD, start=start)
    effect = _effects(model, scores, tokens_BT, start) if request.ablation else None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    console.print(_heads_table(f"{path}: {parameters / 1e6:.2f} M parameters", scores, effect))
    console.print(
        "An induction head is high in prefix matching and in copying (Olsson et al. 2022); without it the loss on "
        "repeated tokens rises.",
        style="dim",
    )
    return InspectedModel(
        name=str(path),
        heads=scores.result(),
        ablation=None if effect is None else _rows(effect),
        attention=_attention(path, model, scores, tokens_BT, start, request) if request.attention else (),
        against=str(request.against or ""),
        passages=() if request.against is None else _compare(path, model, request, console),
    )


def _rows(scores_LH: Tensor) -> tuple[Numbers, ...]:
    return tuple(tuple(row) for row in scores_LH.tolist())


def copying_sequences(model: PreTrainedModel) -> tuple[Tensor, int]:
    """Random tokens that repeat (B, T), and how many tokens open each sequence."""
    bos = getattr(model.config.get_text_config(), "bos_token_id", None)
    start = [] if bos is None else [int(bos)]
    longest = num_positions(model.config) or PERIOD * REPEATS + len(start)
    repeats = min(REPEATS, (longest - len(start)) // PERIOD)
    if repeats < 2:
        raise UserError(
            f"the model has {longest} positions, expected at least {2 * PERIOD + len(start)} to see copying."
        )
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    once = torch.stack([torch.randperm(vocabulary - 3, generator=generator)[:PERIOD] + 3 for _ in range(SEQUENCES)])
    opening = torch.tensor([start] * SEQUENCES, dtype=torch.int64).view(SEQUENCES, len(start))
    return torch.cat([opening, once.repeat(1, repeats)], dim=1), len(start)


def _named(scores: HeadScores) -> list[tuple[str, Tensor]]:
    named = [("previous token", scores.previous_token), ("prefix matching", scores.prefix_matching)]
    return named if scores.copying is None else [*named, ("copying", scores.copying)]


def _effects(model: PreTrainedModel, scores: HeadScores, tokens_BT: Tensor, start: int) -> Tensor | None:
    """Rise of the loss without each head, (L, H); in large models of likely heads only; None in other layouts."""
    heads = None
    if scores.prefix_matching.numel() > _ALL_HEADS:
        heads = list(dict.fromkeys([*_best(scores.prefix_matching, 12), *_best(scores.previous_token, 4)]))
    try:
        return copying_ablation(model, tokens_BT[:4], period=PERIOD, start=start, heads=heads).effect
    except UserError:
        return None


def _best(score: Tensor, num: int) -> list[tuple[int, int]]:
    width = score.shape[1]
    return [divmod(int(place), width) for place in score.flatten().argsort(descending=True, stable=True)[:num]]


def _heads_table(title: str, scores: HeadScores, effect: Tensor | None) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("layer", "head", "previous token", "prefix matching", "copying", "loss without it"):
        table.add_column(heading, justify="right")
    num_layers, num_heads = scores.previous_token.shape
    for layer in range(num_layers):
        for head in range(num_heads):
            rise = None if effect is None else float(effect[layer, head])
            table.add_row(
                str(scores.layer(layer)),
                str(head),
                f"{float(scores.previous_token[layer, head]):.2f}",
                f"{float(scores.prefix_matching[layer, head]):.2f}",
                "" if scores.copying is None else f"{float(scores.copying[layer, head]):.2f}",
                "" if rise is None or rise != rise else f"{rise:+.3f}",
            )
    return table


def _attention(
    path: Path, model: PreTrainedModel, scores: HeadScores, tokens_BT: Tensor, start: int, request: ModelRequest
) -> tuple[AttentionPattern, ...]:
    """The patterns of the heads that look most at the previous token and at what followed earlier copies."""
    words: tuple[str, ...] = ()
    shown_T = tokens_BT[0, : start + 2 * PERIOD]
    if request.text:
        tokenizer = load_tokenizer(path)
        (ids,) = encode_documents(tokenizer, [request.text])
        shown_T = torch.cat([tokens_BT[0, :start], torch.tensor(ids, dtype=torch.int64)])
        words = tuple(str(tokenizer.decode([i])) for i in shown_T.tolist())
    patterns = attention_patterns(model, shown_T[None].to(model.device))[:, 0].float().cpu()
    return tuple(
        AttentionPattern(
            f"layer {scores.layer(layer)} head {head}: {name} {float(score[layer, head]):.2f}",
            _rows(patterns[layer, head]),
            words,
        )
        for name, score in _named(scores)[:2]
        for layer, head in _best(score, _SHOWN_HEADS // 2)
    )


def _check_comparison(path: Path, request: ModelRequest, console: Console) -> None:
    """Refuses to compare models on text of which they have other tokens."""
    if request.against is None:
        return
    if request.corpus is None:
        raise UserError("inspect: --against compares two models on held-out text; give its corpus with --corpus.")
    corpus = open_corpus(request.corpus)
    for one in filter(None, (path, request.against, request.teacher)):
        if note := check_measured(str(one), corpus):
            console.print(note, style="yellow", markup=False, soft_wrap=True)


def _compare(path: Path, model: PreTrainedModel, request: ModelRequest, console: Console) -> tuple[Passage, ...]:
    """Prints losses of two models apart by kind of token; prints and returns the passages where they differ most."""
    assert request.against is not None and request.corpus is not None  # _check_comparison has seen to it
    corpus = open_corpus(request.corpus)
    batch = corpus.heldout.batch(range(min(request.sequences, len(corpus.heldout))))
    losses = [batch_losses(one, batch, isolate=corpus.isolate) for one in (model, load_here(request.against))]
    entropy = (
        None if request.teacher is None else batch_entropies(load_here(request.teacher), batch, isolate=corpus.isolate)
    )
    table = Table(title="Loss in nats per token", title_justify="left")
    for heading in ("tokens", "number", str(path), str(request.against), "difference"):
        table.add_column(heading, justify="right")
    for part in split_losses(losses[0], losses[1], batch, entropy_BT=entropy):
        numbers = (f"{part.first:.3f}", f"{part.second:.3f}", f"{part.second - part.first:+.3f}")
        table.add_row(part.name, f"{part.num:,}", *numbers)
    console.print(table)
    passages = largest_differences(losses[0], losses[1], batch, corpus.tokenizer)
    console.print(line(f"Where {request.against} does better (blue) or worse (red), strongest first:"), style="dim")
    for passage in passages:
        console.print(coloured(passage))
    return tuple(passages)


def coloured(passage: Passage) -> Text:
    """A passage for the terminal: every token on a ground of its colour, blue for better and red for worse."""
    text = Text(f"{passage.total:+6.1f} nats  ")
    for token, gain in zip(passage.tokens, passage.gains, strict=True):
        strength = round(min(1.0, abs(gain) / 3.0) * 160)
        ground = (255 - strength, 255 - strength // 2, 255) if gain >= 0 else (255, 255 - strength, 255 - strength)
        text.append(printable(token.translate(_SIGNS)), style=f"black on rgb({ground[0]},{ground[1]},{ground[2]})")
    return text


def checkpoint_folders(path: Path) -> list[tuple[int, Path]]:
    """Model folders ``step-N`` in a folder, by step; empty where there are none."""
    found = [(int(match[1]), one) for one in path.glob("step-*") if (match := _STEP.search(one.name))]
    return sorted((step, one) for step, one in found if (one / "config.json").is_file())


def show_checkpoints(path: Path, console: Console) -> InspectedCheckpoints:
    """Prints the strongest scores at every checkpoint of a run under way, or of exported ``step-N`` folders.

    Returns what a page draws.
    """
    steps: list[int] = []
    losses: list[float] = []
    strongest: dict[str, list[float]] = {}
    table = Table(title=f"{path}: strongest head at each checkpoint", title_justify="left")
    for heading in ("step", "previous token", "prefix matching", "copying", "loss on repeats"):
        table.add_column(heading, justify="right")
    for step, model in _models(path):
        tokens_BT, start = copying_sequences(model)
        scores = dict(_named(head_scores(model, tokens_BT, period=PERIOD, start=start)))
        loss = _repeat_loss(model, tokens_BT, start)
        steps.append(step)
        for name, score in scores.items():
            strongest.setdefault(name, []).append(float(score.max()))
        losses.append(loss)
        cells = [f"{float(scores[name].max()):.2f}" if name in scores else "" for name in table_names()]
        table.add_row(str(step), *cells, f"{loss:.3f}")
    console.print(table)
    scores_over_training = {name: tuple(values) for name, values in strongest.items()}
    return InspectedCheckpoints(str(path), tuple(steps), scores_over_training, tuple(losses))


def table_names() -> Sequence[str]:
    """The scores in the order of the table's columns."""
    return ("previous token", "prefix matching", "copying")


def _models(path: Path) -> Iterator[tuple[int, PreTrainedModel]]:
    """The models of a folder's checkpoints in the order of training; a run's own are exported aside first."""
    folders = checkpoint_folders(path)
    if folders:
        for step, folder in folders:
            yield step, load_here(folder)
        return
    saved = sorted(int(match[1]) for one in (path / "checkpoints").glob("step-*") if (match := _STEP.search(one.name)))
    for step in saved:
        with tempfile.TemporaryDirectory() as aside:
            export_checkpoint(path, Path(aside) / "model", step)
            yield step, load_here(Path(aside) / "model")


def _repeat_loss(model: PreTrainedModel, tokens_BT: Tensor, start: int) -> float:
    """Nats per token on repeated tokens, from the second token of the second period on."""
    targets_BT = torch.full_like(tokens_BT, -100)
    targets_BT[:, start + PERIOD : -1] = tokens_BT[:, start + PERIOD + 1 :]
    batch = Batch(tokens_BT, targets_BT, torch.zeros_like(tokens_BT, dtype=torch.int32))
    losses_BT = batch_losses(model, batch, isolate=False)
    return float(losses_BT.sum() / (targets_BT != -100).sum())
