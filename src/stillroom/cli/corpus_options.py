"""The options of ``stillroom corpus``, and the configuration that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillroom.cli.shared_options import (
    dry_run_option,
    jobs_option,
    kept_option,
    seed_option,
    set_option,
    tokens_option,
)
from stillroom.types import UserError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from stillroom.config import CorpusConfig

Data = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA...",
        help="Files, folders, patterns ([bold]'text/**/*.jsonl.zst'[/]), URLs ([bold]s3://[/], [bold]hf://[/], "
        "[bold]https://[/]), [bold]hub:DATASET[/] of the Hub ([bold]hub:DATASET:CONFIG@SPLIT[/]), "
        "[bold]tokens:FILE[/] for ids, or a world's name. [bold]NAME=PLACE[/] names a source.",
        show_default=False,
    ),
]
TokenData = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Files of token ids, or folders and patterns of them: [bold].bin[/] with [bold].idx[/] (Megatron), "
        "[bold].ds[/] (datatrove), [bold].bin[/] (nanoGPT, llm.c), [bold].npy[/] (OLMo, numpy), [bold].parquet[/] and "
        "[bold].arrow[/] with a column of ids. [bold]NAME=PLACE[/] names a source.",
    ),
]
Out = Annotated[Path, kept_option("--out", "Folder of the corpus; the same command goes on where it was stopped.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="YAML file of the fields of a corpus ([bold]--dry-run[/] prints one); options go before it.",
        exists=False,
        show_default=False,
    ),
]
Tokenizer = Annotated[
    str | None, typer.Option(help="A tokenizer's folder or hub id: that of the teacher, where there is one.")
]
TrainTokenizer = Annotated[
    int | None,
    typer.Option(metavar="V", help="Train a byte-level BPE tokenizer of V tokens on a fair sample of the text."),
]
OwnTokenizer = Annotated[
    str, typer.Option("--tokenizer", help="The tokenizer that the ids are of: a folder or hub id.", show_default=False)
]
Dtype = Annotated[
    str | None,
    typer.Option(help="Of ids in files that do not say it: uint16, uint32, int32 or int64. Default: by the tokenizer."),
]
DocumentEnd = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="The id between documents, where it is not the tokenizer's; [bold]none[/]: there is none."
    ),
]
Digits = Annotated[
    str | None,
    typer.Option(help="Of a trained tokenizer: [bold]single[/] digits (the default) or [bold]runs[/] of them."),
]
Specials = Annotated[
    list[str] | None,
    typer.Option("--special", metavar="NAME", help="A further special token of a trained tokenizer, as <|user|>."),
]
Tokens = Annotated[int | None, tokens_option("--tokens", "Training tokens, such as 10M or 2.5B.")]
HeldoutTokens = Annotated[
    int | None, tokens_option("--heldout-tokens", "Held-out tokens. Default: a fortieth of --tokens, at most 50,000.")
]
SequenceLength = Annotated[
    int | None, typer.Option("--length", metavar="L", help="Tokens of a sequence.", show_default=False)
]
Shares = Annotated[
    list[str] | None,
    typer.Option(
        "--share", metavar="NAME=NUMBER", help="Part of the tokens that a source has, relative to the others'."
    ),
]
Field = Annotated[
    str | None, typer.Option(help="Column of the text (or of the ids); [bold]a.b[/] is field b of field a.")
]
Template = Annotated[str | None, typer.Option(help="Text made of several columns: [bold]'{question}\\n{answer}'[/].")]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="TEST", help="Rows to take: [bold]'score >= 3'[/], [bold]'lang == en'[/]; all must hold."),
]
Exclude = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Files and folders to leave out.")]
Epochs = Annotated[float | None, typer.Option(help="Most times that a source's text is used. Default: once.")]
Errors = Annotated[
    str | None, typer.Option(help="What is damaged: [bold]refuse[/] (the default), or [bold]skip[/] and count it.")
]
Packing = Annotated[
    str | None,
    typer.Option(
        help="[bold]concat[/] (the default): sequences are cut from one stream. [bold]best-fit[/]: documents are kept "
        "whole where they fit."
    ),
]
Deduplicate = Annotated[bool, typer.Option("--deduplicate", help="Drop documents that came before, letter by letter.")]
WaitFor = Annotated[
    int | None,
    tokens_option(
        "--wait-for",
        "Let training begin when so many tokens are there, while the rest is made: the order of training is then "
        "shuffled within so many. Default: within all.",
    ),
]
Seed = Annotated[int | None, seed_option("the order of the text and of what is held out")]
Jobs = Annotated[int | None, jobs_option("Processes that encode. Default: one for each core.")]
Rank = Annotated[
    int, typer.Option(min=0, help="Which of --world processes this is, where a shell loop or array job starts them.")
]
World = Annotated[int, typer.Option(min=1, help="How many such processes there are; the folder is one for all.")]
On = Annotated[str, typer.Option(help="Where the jobs run: [bold]local[/], [bold]slurm[/] or [bold]ray[/].")]
Sets = Annotated[list[str] | None, set_option("sources.code.field=body")]
DryRun = Annotated[
    bool, dry_run_option("Print the configuration, the files and the size of every source; write nothing.")
]


def asked_corpus(options: Mapping[str, Any], file: Path | None, kind: str) -> CorpusConfig:
    """The corpus that the options of a command ask for: a file's fields, then options, then ``--set``.

    ``kind`` is that of sources that are named by a place alone.
    """
    from stillroom.cli.corpus_sources import sources_of
    from stillroom.config import CorpusConfig, override, parse

    values = {} if file is None else _fields_of(file)
    values |= {field: value for name, field in _FIELDS.items() if _is_given(value := options.get(name))}
    sources = sources_of(options["data"] or (), options["shares"] or (), _common(options), kind)
    if sources:
        before = values.get("sources")
        values["sources"] = {**(before if isinstance(before, dict) else {}), **sources}
    _check_complete(values)
    if "heldout_tokens" not in values and isinstance(tokens := values["train_tokens"], int):
        values["heldout_tokens"] = max(1, min(_HELDOUT_TOKENS, tokens // _HELDOUT_ONE_IN))
    return override(parse(CorpusConfig, values, "corpus"), [*(options["assignments"] or ())])


_FIELDS = {
    "tokenizer": "tokenizer", "train_tokenizer": "vocab_size", "digits": "digits", "specials": "specials",
    "tokens": "train_tokens", "heldout_tokens": "heldout_tokens", "length": "sequence_length", "packing": "packing",
    "deduplicate": "deduplicate", "wait_for": "shuffle_tokens", "seed": "seed",
}  # fmt: skip
"""The field of a corpus that an option gives."""
_HELDOUT_TOKENS, _HELDOUT_ONE_IN = 50_000, 40
"""Most tokens that are held out by themselves, and their part: about half of what a hash holds out of the text."""
_COMMON = ("field", "template", "where", "exclude", "epochs", "errors")
"""Options that give the field of that name to every source which takes it."""


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value not in ((), [])


def _fields_of(file: Path) -> dict[str, JsonValue]:
    from stillroom.yamlfiles import read_yaml

    read = read_yaml(file, "the fields of a corpus")
    if not isinstance(read, dict):
        raise UserError(f"{file}: holds {type(read).__name__}, expected fields of a corpus, such as sources.")
    return {name: value for name, value in read.items() if name != "kind"}


def _common(options: Mapping[str, Any]) -> dict[str, JsonValue]:
    """The fields that all sources are to have, and the options of those of ids."""
    found = {name: value for name in _COMMON if _is_given(value := options.get(name))}
    end = options.get("document_end")
    knobs = {"dtype": options.get("dtype"), "end": int(end) if end and end.isdecimal() else end}
    given = {name: value for name, value in knobs.items() if value is not None}
    return found | ({"options": given} if given else {})


def _check_complete(values: Mapping[str, JsonValue]) -> None:
    """Refuses what a corpus needs and nobody said."""
    wanted = {
        ("sources",): "DATA is missing: name files, folders or datasets",
        ("train_tokens",): "--tokens is missing: say how many training tokens there are to be, such as 10M",
        ("sequence_length",): "--length is missing: say how many tokens a sequence has, such as 512",
        ("tokenizer", "vocab_size"): "give --tokenizer with a folder or hub id, or --train-tokenizer with a size",
    }
    for names, sentence in wanted.items():
        if not any(name in values for name in names):
            raise UserError(f"corpus: {sentence} (see stillroom corpus build --help).")
