"""Options that several verbs have, each declared once; a verb says of what its own folder, seed or dry run is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from stillroom.types import UserError

_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kmbt]?)", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_THOUSANDS = {"": 0, "k": 1, "m": 2, "b": 3, "t": 4}


def folder_place(path: Path | None) -> Path | None:
    """The path, where a folder is or can be made: looked at before a command begins."""
    if path is not None:
        if _ADDRESS.match(str(path)):
            raise UserError(f"{path}: is an address; expected a folder of this machine.")
        from stillroom.files import check_place

        check_place(path, folder=True)
    return path


def file_place(path: Path | None) -> Path | None:
    """The path, where a file is or can be written: looked at before a command begins."""
    if path is not None:
        from stillroom.files import check_place

        check_place(path, folder=False)
    return path


def home_place(text: str) -> Path:
    """The folder that is typed; for an address its home on this machine, see ``stores``."""
    if "://" not in str(text) or str(text).startswith("file://"):
        return Path(str(text).removeprefix("file://"))
    from stillroom.stores import home_of

    return home_of(text)


def out_option(text: str) -> Any:
    """``--out``: a folder that is written."""
    return typer.Option("--out", help=text, callback=folder_place)


def kept_option(name: str, text: str) -> Any:
    """A folder that is written, or an address at which it is kept."""
    help = f"{text} Or an address, such as [bold]s3://bucket/NAME[/], where it is kept for other machines."
    return typer.Option(name, help=help, parser=home_place, callback=folder_place, metavar="PATH")


def artifacts_option(text: str) -> Any:
    """``--artifacts``: a folder of parts that runs share."""
    return kept_option("--artifacts", text)


def set_option(example: str) -> Any:
    """``--set``, with one field as an example."""
    text = f"Override one field, e.g. [bold]{example}[/]; may be repeated."
    return typer.Option("--set", metavar="NAME=VALUE", help=text)


def jobs_option(text: str) -> Any:
    """``--jobs``: what is done at once, in a process each."""
    return typer.Option("--jobs", min=1, metavar="N", help=text)


def token_count(text: str) -> int:
    """A number of tokens as it is typed: 1000000, 1_000_000, 10M, 2.5B."""
    found = _COUNT.fullmatch(text.replace("_", "").replace(",", ""))
    if found is None:
        raise UserError(f"{text!r}: is no number of tokens; expected one such as 1000000, 10M or 2.5B.")
    return round(float(found[1]) * 1000 ** _THOUSANDS[found[2].lower()])


def tokens_option(name: str, text: str) -> Any:
    """An option that takes a number of tokens."""
    return typer.Option(name, parser=token_count, metavar="TOKENS", help=text, show_default=False)


def seed_option(drawn: str) -> Any:
    """``--seed``: of what is drawn."""
    return typer.Option("--seed", help=f"Seed of {drawn}.")


def dry_run_option(text: str) -> Any:
    """``--dry-run``: something is printed and nothing written."""
    return typer.Option("--dry-run", help=text)


Recipe = Annotated[
    str,
    typer.Argument(
        help="A recipe's name ([bold]quickstart[/], [bold]tiny[/]), a [bold]FILE.py:FUNCTION[/], or a "
        "run folder or its [bold]config.yaml[/], which runs again as it is."
    ),
]
StudyFields = Annotated[list[str] | None, set_option("arms.dpt90.alpha=0.7")]
GivenLabels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="A label store, or a run that holds one, to be used instead of labelling: of the same teacher, tokens and "
        "fidelity, which is checked. One made before for the same is found without this.",
    ),
]
GivenCorpus = Annotated[
    str | None,
    typer.Option(
        "--corpus",
        help="A corpus to be used as it is, instead of the recipe's: a folder that [bold]stillroom corpus[/] made or "
        "is making, a run, or an address.",
    ),
]
WaitFor = Annotated[
    int | None,
    tokens_option(
        "--wait-for",
        "Begin when --corpus, which is still being built, holds so many training tokens, as in [bold]50M[/].",
    ),
]
RunFolder = Annotated[Path | None, out_option("Run folder. Default: runs/NAME-FINGERPRINT.")]
PlanOnly = Annotated[
    bool, dry_run_option("Print the resolved configuration, tokens, parameters, FLOPs, time and memory; write nothing.")
]
