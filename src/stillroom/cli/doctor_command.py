"""``stillroom doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stillroom.cli.health import Health

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def doctor_command(as_json: AsJson = False) -> None:
    """Print what a report of a bug needs, and what is wrong on this machine, with what to do about it.

    Versions, device, cores, memory, disk, the jail for model-written code, and how long imports take. It names no user,
    host or folder, so that all of it can be sent. Ends with 1 where nothing can be trained here, else with 0.

    [bold]Example[/]:  stillroom doctor
    """
    from stillroom.cli.health import examined, what_is_wrong
    from stillroom.console import Terminal, line

    health = examined()
    wrong, console = what_is_wrong(health), Terminal()
    if as_json:
        console.print(_as_json(health, wrong), soft_wrap=True, highlight=False)
    else:
        for name, value in _facts(health):
            console.print(line((f"{name:<14}", "bold"), value), soft_wrap=True, highlight=False)
        for sentence in wrong or ["nothing is wrong."]:
            console.print(line((f"{'wrong' if wrong else 'result':<14}", "bold"), sentence), soft_wrap=True)
    raise typer.Exit(0 if health.torch else 1)


def _as_json(health: Health, wrong: list[str]) -> str:
    import dataclasses
    import json

    return json.dumps({**dataclasses.asdict(health), "wrong": wrong}, indent=2)


def _facts(health: Health) -> Iterator[tuple[str, str]]:
    """Names and values, as they are read."""
    torch, gib = health.torch, 2**30
    yield "stillroom", health.stillroom
    yield "python", f"{health.python}, {health.system}"
    yield "packages", ", ".join(f"{name} {version or 'missing'}" for name, version in health.packages.items())
    yield "extras", ", ".join(health.extras) or "none"
    if torch is not None:
        yield "device", f"{torch.device}; torch for {torch.cuda or 'processors alone'}; {torch.processor}"
        yield "bf16", "native" if torch.multiplies_bf16 else "emulated, so that precision auto is fp32"
        yield "threads", f"{torch.threads} on {health.cores} cores"
    yield "memory", f"{health.free_memory_bytes / gib:.1f} of {health.memory_bytes / gib:.1f} GiB free"
    yield "disk", f"{health.free_disk_bytes / gib:.1f} GiB free here"
    yield "code jail", health.jail or "none"
    seconds = {} if torch is None else {f"import {name}": value for name, value in torch.import_seconds.items()}
    seconds |= {f"start {name}": value for name, value in health.start_seconds.items()}
    yield "seconds", ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
