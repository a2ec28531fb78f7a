"""``stillroom sandbox bigram``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stillroom.types import UserError

_LIST = "Comma-separated."


def bigram(
    world: Annotated[
        str,
        typer.Option(
            help="[bold]drawn[/] with the options below; [bold]characters[/] or [bold]words[/]: the bigrams of the "
            "installed Python library; or a [bold]FILE.npy[/] with a square matrix whose rows sum to 1."
        ),
    ] = "drawn",
    states: Annotated[int, typer.Option(help="K, tokens of the world.")] = 100,
    high_share: Annotated[float, typer.Option(help="Part of the rows that are high-entropy (0 to 1).")] = 0.5,
    support: Annotated[int, typer.Option(help="p, next tokens of a high-entropy row; 0 is all K.")] = 0,
    concentration: Annotated[float, typer.Option(help="Dirichlet concentration of the rows.")] = 1.0,
    high_entropy: Annotated[
        float, typer.Option(help="Entropy of every high-entropy row, nats; negative leaves them as drawn.")
    ] = -1.0,
    low_entropy: Annotated[
        float, typer.Option(help="Entropy of every low-entropy row, nats; 0 is one certain next token.")
    ] = 0.0,
    visits: Annotated[
        str, typer.Option(help="How often rows are met: [bold]uniform[/], or [bold]stationary[/] as on a long walk.")
    ] = "uniform",
    samples: Annotated[
        str, typer.Option(help=f"{_LIST} Training samples (transitions); 1e6 is understood.")
    ] = "100,300,1e3,3e3,1e4,3e4,1e5,3e5,1e6",
    alpha: Annotated[str, typer.Option(help=f"{_LIST} Weights α of the teacher's label (0 to 1).")] = "0,0.5,0.9",
    teacher: Annotated[
        str,
        typer.Option(
            help=f"{_LIST} [bold]exact[/]; [bold]uniform:η[/] leaks η over all tokens, [bold]context:η[/] onto tokens "
            "of the context; [bold]samples:N[/] was trained on N; [bold]rank:Z[/] is too small for the matrix."
        ),
    ] = "exact,uniform:0.05,uniform:0.1,uniform:0.2,context:0.1,samples:10000,rank:10",
    temperature: Annotated[str, typer.Option(help=f"{_LIST} Softmax temperatures T of the teacher.")] = "1,2",
    routing: Annotated[
        str,
        typer.Option(
            help=f"{_LIST} Share of samples that keep the hard label alone: [bold]none[/], [bold]0.15[/] (lowest "
            "teacher entropy) or [bold]random:0.15[/]."
        ),
    ] = "none,0.15,0.5,random:0.5",
    hard_weight: Annotated[
        str,
        typer.Option(help="Weight of the hard label on routed samples: [bold]restore[/] (1) or [bold]keep[/] (1-α)."),
    ] = "restore",
    seeds: Annotated[int, typer.Option(help="Independent samples of every size; intervals are over these.")] = 10,
    gradient_samples: Annotated[
        int, typer.Option(help="Samples of the softmax table that learns by gradient; 0 leaves it out.")
    ] = 100_000,
    transformer_tokens: Annotated[
        int, typer.Option(help="Training tokens of a one-layer transformer per arm; 0 leaves it out.")
    ] = 200_000,
    transformer_seeds: Annotated[int, typer.Option(help="Transformers per arm.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder. Default: runs/sandbox-bigram-FINGERPRINT.", show_default=False),
    ] = None,
    artifacts: Annotated[
        Path | None,
        typer.Option(
            "--artifacts", help="Folder of finished cells. Default: beside the run folder.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the options, arms and cells; measure and write nothing.")
    ] = False,
) -> None:
    """Sweep samples × α × teacher × T × routing × seeds in a world where the next token depends on the last one alone.

    Everything is known exactly: what a sample teaches, what an imperfect teacher leaves over (α·η on certain rows), how
    many samples hard labels need beside soft ones. The page draws theory as a line through every measured point.
    Finished cells are kept: run the same command again to go on after a stop.

    [bold]Examples[/]:  stillroom sandbox bigram
    stillroom sandbox bigram --world characters --states 65 --teacher exact,context:0.1 --visits stationary
    stillroom sandbox bigram --teacher exact,samples:3e3,rank:5 --seeds 20 --transformer-tokens 0
    """
    values = {
        "world": world, "states": states, "high_share": high_share, "support": support, "concentration": concentration,
        "high_entropy": high_entropy, "low_entropy": low_entropy, "visits": visits,
        "samples": _whole(samples), "alphas": _numbers(alpha, "--alpha"), "teachers": _parts(teacher),
        "temperatures": _numbers(temperature, "--temperature"), "routings": _parts(routing), "hard_weight": hard_weight,
        "seeds": seeds, "gradient_samples": gradient_samples, "transformer_tokens": transformer_tokens,
        "transformer_seeds": transformer_seeds, "ratio_supports": _supports(states),
    }  # fmt: skip
    from stillroom.config import parse
    from stillroom.study.sandbox.bigram_config import BigramSweep

    sweep = parse(BigramSweep, values, "sandbox bigram")
    if dry_run:
        _print_plan(sweep, out)
        return
    from rich.console import Console

    from stillroom.report.sandbox_bigram import build_bigram_report
    from stillroom.study.progress import StageDisplay
    from stillroom.study.sandbox.bigram import run_bigram

    folder = run_bigram(sweep, out, artifacts, StageDisplay())
    page, findings = build_bigram_report(folder)
    console = Console()
    for sentence in findings:
        console.print(sentence)
    console.print(f"Report: [bold]{page}[/]", soft_wrap=True)


def _print_plan(sweep: Any, out: Path | None) -> None:
    """The resolved options, and how much there is to measure."""
    from stillroom.config import to_yaml
    from stillroom.study.sandbox.bigram import check_folder

    folder, world = check_folder(sweep, out), sweep.make_world()
    typer.echo(to_yaml(sweep, "sandbox-bigram"))
    arms, sizes = len(sweep.arms()), len(sweep.samples)
    typer.echo(f"# {arms} arms × {sizes} sizes × {sweep.seeds} seeds = {arms * sizes * sweep.seeds} tables of rows")
    typer.echo(f"# {world.num_states} tokens, {int(world.high_K.sum())} high-entropy rows")
    typer.echo(f"# lowest possible loss {world.optimal_loss_nats(sweep.visits):.4f} nats per token")
    typer.echo(f"# curves of: {'; '.join(arm.name for arm in sweep.drawn_arms())}")
    typer.echo(f"# run folder: {folder} (nothing was written)")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str, option: str) -> list[float]:
    found = []
    for part in _parts(text):
        try:
            found.append(float(part))
        except ValueError:
            raise UserError(f"{option}: {part!r} is not a number; give numbers with commas between them.") from None
    return found


def _whole(text: str) -> list[int]:
    numbers = _numbers(text, "--samples")
    for number in numbers:
        if number != number // 1 or number < 1:
            raise UserError(
                f"--samples: {number:g} is not a whole number of at least 1; give sizes such as 1000 or 1e3."
            )
    return [int(number) for number in numbers]


def _supports(states: int) -> list[int]:
    """Row widths of the sample ratio that fit into the world."""
    return [width for width in (5, 10, 20, 50, 100) if width <= states] or [states]
