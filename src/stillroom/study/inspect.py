"""Shows what a folder holds: a label store, a corpus or a model."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stillroom.analysis import head_scores
from stillroom.corpora import load_tokenizer, open_corpus
from stillroom.models import load_model
from stillroom.teachers import LabelStore, inspect_store, render
from stillroom.types import UserError


def inspect_path(path: Path, *, verify: bool, tokenizer: Path | None = None) -> None:
    """Prints what ``path`` is and holds; with ``verify`` checks every byte of a label store."""
    console = Console()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected a label store, a corpus or a model folder.")
    if (path / "corpus.json").is_file():
        _corpus(path, console)
    elif (path / "manifest.json").is_file():
        _store(path, console, verify, tokenizer)
    elif (path / "config.json").is_file():
        _model(path, console)
    else:
        raise UserError(
            f"{path}: holds none of manifest.json (label store), corpus.json (corpus) and config.json (model); "
            "give one of those folders."
        )


def _corpus(path: Path, console: Console) -> None:
    corpus = open_corpus(path)
    table = Table(title=f"Corpus {corpus.identity}", title_justify="left", show_header=False)
    table.add_row("vocabulary", f"{corpus.vocab_size} tokens")
    table.add_row("sequence length", f"{corpus.train.sequence_length} tokens")
    for name, part in (("train", corpus.train), ("held out", corpus.heldout)):
        table.add_row(name, f"{len(part)} sequences, {part.num_tokens} tokens")
    for code, name in enumerate(corpus.source_names):
        table.add_row(f"from {name}", f"{(corpus.train.source == code).mean():.1%} of the training sequences")
    console.print(table)
    console.print(f"First training sequence:\n[dim]{corpus.tokenizer.decode(corpus.train.tokens([0])[0])!r}[/]")


def _store(path: Path, console: Console, verify: bool, tokenizer: Path | None) -> None:
    store = LabelStore.open(path)
    words = None if tokenizer is None else load_tokenizer(tokenizer)
    decode = None if words is None else (lambda ids: str(words.decode(ids)))
    console.print(render(inspect_store(store, decode=decode)))
    if verify:
        shards = sum(1 for _ in store.verify())
        console.print(f"[green]✓[/] every byte of {shards} shards is as it was written")


def _model(path: Path, console: Console) -> None:
    model = load_model(path)
    period, repeats = 25, 4
    generator = torch.Generator().manual_seed(0)
    once = torch.randint(3, model.config.vocab_size, (16, period), generator=generator)
    tokens = torch.cat([torch.zeros(16, 1, dtype=torch.long), once.repeat(1, repeats)], dim=1)
    scores = head_scores(model, tokens, period=period).as_dict()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    table = Table(title=f"{path}: {parameters / 1e6:.2f} M parameters", title_justify="left")
    for heading in ("layer", "head", "previous token", "prefix matching", "copying"):
        table.add_column(heading, justify="right")
    for layer in range(scores["num_layers"]):
        for head in range(scores["num_heads"]):
            copying = scores["copying"]
            table.add_row(
                str(layer),
                str(head),
                f"{scores['previous_token'][layer][head]:.2f}",
                f"{scores['prefix_matching'][layer][head]:.2f}",
                "" if copying is None else f"{copying[layer][head]:.2f}",
            )
    console.print(table)
    console.print("An induction head is high in prefix matching and in copying (Olsson et al. 2022).", style="dim")
