"""``stillroom ls``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillroom.cli.shared_options import dry_run_option
from stillroom.types import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from stillroom.study.inventory import FoundArtifact, Inventory

Folder = Annotated[Path, typer.Argument(help="Folder of runs.")]
Prune = Annotated[bool, typer.Option("--prune", help="Remove the artifacts that nothing needs, and say which.")]
DryRun = Annotated[bool, dry_run_option("With --prune: say what would be removed; remove nothing.")]


def ls_command(folder: Folder = Path("runs"), prune: Prune = False, dry_run: DryRun = False) -> None:
    """List runs and the artifacts that they share: what each takes on the disk, and what needs what.

    What is there is found by its marks. An artifact is needed by every run that asked for it, finished or under way,
    and by whatever names it; those of earlier versions, of which that is not known, are never removed.

    [bold]Example[/]:  stillroom ls runs --prune --dry-run
    """
    from stillroom.console import Terminal
    from stillroom.study.inventory import prune as remove
    from stillroom.study.inventory import refuse_unknown, take_inventory

    if dry_run and not prune:
        raise UserError("--dry-run: is of --prune; stillroom ls alone changes nothing.")
    found = take_inventory(folder)
    console = Terminal()
    if not prune:
        console.print(_runs_table(found))
        console.print(_artifacts_table(found))
        return
    if dry_run:
        refuse_unknown(found)
    removed = [one for one in found.artifacts if one.is_needless] if dry_run else remove(found)
    for one in removed:
        console.print(f"{one.folder}: {_size(one.bytes)}", markup=False, highlight=False, soft_wrap=True)
    what = f"{_size(sum(one.bytes for one in removed))} in {len(removed)} artifacts"
    console.print(f"{what} would be removed; nothing was." if dry_run else f"{what} removed.", highlight=False)


def _runs_table(found: Inventory) -> Table:
    from rich.table import Table
    from rich.text import Text

    from stillroom.study.inventory import size_of_folder
    from stillroom.types import printable

    table = Table(title="Runs", title_justify="left")
    for heading in ("folder", "kind", "size", "needs"):
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    for run in found.runs:
        needs = [one.bytes for one in found.artifacts if {run.folder.name, str(run.folder)} & set(one.needed_by)]
        told = f"{len(needs)} artifacts, {_size(sum(needs))}" if needs else ""
        table.add_row(Text(printable(run.folder)), run.what, _size(size_of_folder(run.folder)), told)
    return table


def _artifacts_table(found: Inventory) -> Table:
    from rich.table import Table
    from rich.text import Text

    from stillroom.types import printable

    total, needless = (sum(one.bytes for one in some) for some in (found.artifacts, filter(_needless, found.artifacts)))
    caption = f"{_size(total)} in all, {_size(needless)} of it needed by nothing"
    table = Table(title="Artifacts", title_justify="left", caption=caption, caption_justify="left")
    for heading in ("artifact", "size", "needed by"):
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    for one in found.artifacts:
        unknown = "nothing" if one.is_known else "not known: kept"
        needed = ", ".join(one.needed_by) or unknown
        table.add_row(Text(printable(one.folder)), _size(one.bytes), Text(printable(needed)))
    return table


def _needless(one: FoundArtifact) -> bool:
    return one.is_needless


def _size(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"
