"""``stillroom corpus``: from files to a corpus, what is in it, and ids of other software in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillroom.cli import corpus_options as options
from stillroom.cli.shared_options import folder_place
from stillroom.cores import num_cores
from stillroom.types import UserError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from stillroom.config import CorpusConfig

corpus = typer.Typer(
    name="corpus",
    help="Make a corpus of your own text, look into one, and exchange token ids with other software.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@corpus.callback()
def _corpus() -> None:
    """Keeps every verb a command of its own."""


@corpus.command("build")
def build_command(
    context: typer.Context,
    data: options.Data = None,
    out: options.Out = Path("corpus"),
    tokenizer: options.Tokenizer = None,
    train_tokenizer: options.TrainTokenizer = None,
    digits: options.Digits = None,
    specials: options.Specials = None,
    tokens: options.Tokens = None,
    heldout_tokens: options.HeldoutTokens = None,
    length: options.SequenceLength = None,
    shares: options.Shares = None,
    field: options.Field = None,
    template: options.Template = None,
    where: options.Where = None,
    exclude: options.Exclude = None,
    epochs: options.Epochs = None,
    errors: options.Errors = None,
    packing: options.Packing = None,
    deduplicate: options.Deduplicate = False,
    wait_for: options.WaitFor = None,
    seed: options.Seed = None,
    config: options.Config = None,
    assignments: options.Sets = None,
    jobs: options.Jobs = None,
    rank: options.Rank = 0,
    world: options.World = 1,
    on: options.On = "local",
    dry_run: options.DryRun = False,
) -> None:
    """Turn files, folders or datasets into a corpus: text, JSON lines, JSON, CSV, Parquet, Arrow, plain or packed.

    A part of the text is held out, by its content. Stopped anywhere, the same command goes on; the number of processes
    changes no byte.

    [bold]Example[/]:  stillroom corpus build notes/ --out corpus --train-tokenizer 4096 --tokens 1M --length 256

    [bold]Several sources[/]:  stillroom corpus build web='crawl/*.jsonl.zst' code=repos/ --share web=0.7
    --share code=0.3 --out corpus --tokenizer teachers/smollm2-135m --tokens 100M --length 1024

    [bold]Four machines[/]:  the same command on each, with --rank 0 to --rank 3 and --world 4
    """
    if tokenizer is not None and train_tokenizer is not None:
        raise UserError("corpus: --tokenizer and --train-tokenizer are both given; choose one of them.")
    made = options.asked_corpus(context.params, config, "files")
    _make(made, out, {"jobs": jobs or num_cores(), "rank": rank, "world": world, "on": on}, dry_run)


@corpus.command("import")
def import_command(
    context: typer.Context,
    data: options.TokenData,
    tokenizer: options.OwnTokenizer,
    out: options.Out = Path("corpus"),
    tokens: options.Tokens = None,
    heldout_tokens: options.HeldoutTokens = None,
    length: options.SequenceLength = None,
    dtype: options.Dtype = None,
    document_end: options.DocumentEnd = None,
    shares: options.Shares = None,
    field: options.Field = None,
    exclude: options.Exclude = None,
    epochs: options.Epochs = None,
    packing: options.Packing = None,
    deduplicate: options.Deduplicate = False,
    wait_for: options.WaitFor = None,
    seed: options.Seed = None,
    config: options.Config = None,
    assignments: options.Sets = None,
    jobs: options.Jobs = None,
    rank: options.Rank = 0,
    world: options.World = 1,
    on: options.On = "local",
    dry_run: options.DryRun = False,
) -> None:
    """Make a corpus of token ids that other software wrote: Megatron, datatrove, nanoGPT, OLMo, datasets.

    Documents keep their ends. Ids that the tokenizer does not have, or that it would not give to their own text, are
    refused.

    [bold]Example[/]:  stillroom corpus import data/train.bin --tokenizer openai-community/gpt2 --out corpus --tokens 9B
    --length 1024
    """
    made = options.asked_corpus(context.params, config, "tokens")
    _make(made, out, {"jobs": jobs or num_cores(), "rank": rank, "world": world, "on": on}, dry_run)


@corpus.command("export")
def export_command_of_corpora(
    folder: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a built corpus.")],
    out: Annotated[Path, typer.Argument(help="Folder that is written; new or empty.", callback=folder_place)],
    kind: Annotated[
        str, typer.Option("--to", help="[bold]megatron[/] (.bin and .idx) or [bold]datatrove[/] (.ds and its index).")
    ] = "megatron",
) -> None:
    """Write a corpus's documents as token ids for other trainers, one file for each split and source.

    [bold]Example[/]:  stillroom corpus export corpus for-megatron --to megatron
    """
    from stillroom.console import Terminal, line
    from stillroom.corpora import open_corpus
    from stillroom.corpora.exchange.exporting import export_corpus, format_named
    from stillroom.study.progress import StageDisplay

    opened = open_corpus(folder)
    with StageDisplay().stage(f"corpus as {kind} files") as update:
        written = export_corpus(opened, out, format_named(kind), update)
    Terminal().print(line(f"{written:,} tokens: ", (out, "bold")), soft_wrap=True)


@corpus.command("inspect")
def inspect_command_of_corpora(
    path: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a built corpus, or a file of token ids.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="Of a file of token ids: the tokenizer that shows them as text.")
    ] = None,
    dtype: options.Dtype = None,
) -> None:
    """Show what is in a corpus, or in a file of token ids: tokens, documents, sources, the first text.

    [bold]Example[/]:  stillroom corpus inspect corpus
    """
    from stillroom.study.inspect import inspect_path, inspect_token_file

    if path.is_dir():
        inspect_path(path, verify=False)
    else:
        inspect_token_file(path, tokenizer, dtype)


def _make(config: CorpusConfig, out: Path, workers: dict[str, JsonValue], dry_run: bool) -> None:
    """Builds the corpus, or prints what it would be made of."""
    from stillroom.config import parse
    from stillroom.console import Terminal, line
    from stillroom.corpora import build_corpus
    from stillroom.corpora.corpus_table import corpus_table, print_corpus_plan
    from stillroom.corpora.workers import Workers
    from stillroom.stores import address_of
    from stillroom.study.folders import kept_at_address
    from stillroom.study.progress import StageDisplay

    who = parse(Workers, workers, "corpus build")
    if dry_run:
        print_corpus_plan(config, Terminal())
        return
    if (address := address_of(out)) is not None and (who.world > 1 or who.on != "local"):
        raise UserError(f"--out {address}: several machines build into a folder that all see; name one.")
    with kept_at_address(out), StageDisplay().stage(f"corpus {address or out.name}") as update:
        made = build_corpus(config, out, update, who)
    Terminal().print(corpus_table(made))
    Terminal().print(line("Corpus: ", (address or out, "bold")), soft_wrap=True)
