"""``stillroom sandbox bigram``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillroom.cli.shared_options import artifacts_option, dry_run_option, out_option
from stillroom.types import UserError

if TYPE_CHECKING:
    from stillroom.sandbox.bigram.bigram_config import BigramSweep

_LIST = "Comma-separated."


World = Annotated[
    str,
    typer.Option(
        help="[bold]drawn[/] with the options below; [bold]characters[/] or [bold]words[/]: the bigrams of the "
        "installed Python library; or a [bold]FILE.npy[/] with a square matrix whose rows sum to 1."
    ),
]
States = Annotated[int, typer.Option(help="K, tokens of the world.")]
HighShare = Annotated[float, typer.Option(help="Part of the rows that are high-entropy (0 to 1).")]
Support = Annotated[int, typer.Option(help="p, next tokens of a high-entropy row; 0 is all K.")]
Concentration = Annotated[float, typer.Option(help="Dirichlet concentration of the rows.")]
HighEntropy = Annotated[
    float, typer.Option(help="Entropy of every high-entropy row, nats; negative leaves them as drawn.")
]
LowEntropy = Annotated[float, typer.Option(help="Entropy of every low-entropy row, nats; 0 is one certain next token.")]
Visits = Annotated[
    str, typer.Option(help="How often rows are met: [bold]uniform[/], or [bold]stationary[/] as on a long walk.")
]
Samples = Annotated[str, typer.Option(help=f"{_LIST} Training samples (transitions); 1e6 is understood.")]
Alpha = Annotated[str, typer.Option(help=f"{_LIST} Weights α of the teacher's label (0 to 1).")]
Teacher = Annotated[
    str,
    typer.Option(
        help=f"{_LIST} [bold]exact[/]; [bold]uniform:η[/] leaks η over all tokens, [bold]context:η[/] onto tokens "
        "of the context; [bold]samples:N[/] was trained on N; [bold]rank:Z[/] is too small for the matrix."
    ),
]
Temperature = Annotated[str, typer.Option(help=f"{_LIST} Softmax temperatures T of the teacher.")]
Routing = Annotated[
    str,
    typer.Option(
        help=f"{_LIST} Share of samples that keep the hard label alone: [bold]none[/], [bold]0.15[/] (lowest "
        "teacher entropy) or [bold]random:0.15[/]."
    ),
]
HardWeight = Annotated[
    str, typer.Option(help="Weight of the hard label on routed samples: [bold]restore[/] (1) or [bold]keep[/] (1-α).")
]
Seeds = Annotated[int, typer.Option(help="Independent samples of every size; intervals are over these.")]
GradientSamples = Annotated[
    int, typer.Option(help="Samples of the softmax table that learns by gradient; 0 leaves it out.")
]
TransformerTokens = Annotated[
    int, typer.Option(help="Training tokens of a one-layer transformer per arm; 0 leaves it out.")
]
TransformerSeeds = Annotated[int, typer.Option(help="Transformers per arm.")]
Out = Annotated[Path | None, out_option("Run folder. Default: runs/sandbox-bigram-FINGERPRINT.")]
Artifacts = Annotated[Path | None, artifacts_option("Folder of finished cells. Default: beside the run folder.")]
DryRun = Annotated[bool, dry_run_option("Print the options, arms and cells; measure and write nothing.")]


def bigram_command(
    context: typer.Context,
    world: World = "drawn",
    states: States = 100,
    high_share: HighShare = 0.5,
    support: Support = 0,
    concentration: Concentration = 1.0,
    high_entropy: HighEntropy = -1.0,
    low_entropy: LowEntropy = 0.0,
    visits: Visits = "uniform",
    samples: Samples = "100,300,1e3,3e3,1e4,3e4,1e5,3e5,1e6",
    alpha: Alpha = "0,0.5,0.9",
    teacher: Teacher = "exact,uniform:0.05,uniform:0.1,uniform:0.2,context:0.1,samples:10000,rank:10",
    temperature: Temperature = "1,2",
    routing: Routing = "none,0.15,0.5,random:0.5",
    hard_weight: HardWeight = "restore",
    seeds: Seeds = 10,
    gradient_samples: GradientSamples = 100_000,
    transformer_tokens: TransformerTokens = 200_000,
    transformer_seeds: TransformerSeeds = 1,
    out: Out = None,
    artifacts: Artifacts = None,
    dry_run: DryRun = False,
) -> None:
    """Sweep samples × α × teacher × T × routing × seeds in a world where the next token depends on the last one alone.

    Everything is known exactly: what a sample teaches, what an imperfect teacher leaves over (α·η on certain rows), how
    many samples hard labels need beside soft ones. The page draws theory as a line through every measured point.
    Finished cells are kept: run the same command again to go on after a stop.

    [bold]Examples[/]:  stillroom sandbox bigram
    stillroom sandbox bigram --world characters --states 65 --teacher exact,context:0.1 --visits stationary
    stillroom sandbox bigram --teacher exact,samples:3e3,rank:5 --seeds 20 --transformer-tokens 0
    """
    sweep = _sweep(context.params)  # every option but the last three is a part of the sweep
    if dry_run:
        _print_plan(sweep, out)
    else:
        _run(sweep, out, artifacts)


def _sweep(options: dict[str, Any]) -> BigramSweep:
    """The sweep that the options ask for; lists are still text here."""
    from stillroom.config import parse
    from stillroom.sandbox.bigram.bigram_config import BigramSweep

    values = {name: value for name, value in options.items() if name in BigramSweep.model_fields}
    values |= {
        "samples": _whole(options["samples"]),
        "alphas": _numbers(options["alpha"], "--alpha"),
        "teachers": _parts(options["teacher"]),
        "temperatures": _numbers(options["temperature"], "--temperature"),
        "routings": _parts(options["routing"]),
        "ratio_supports": _supports(options["states"]),
    }
    return parse(BigramSweep, values, "sandbox bigram")


def _run(sweep: BigramSweep, out: Path | None, artifacts: Path | None) -> None:
    """Measures, writes the page and prints what was found."""
    from stillroom.console import Terminal, line
    from stillroom.report.pages.bigram_page import build_bigram_report
    from stillroom.sandbox.bigram.run_bigram import run_bigram
    from stillroom.study.progress import StageDisplay

    folder = run_bigram(sweep, out, artifacts, StageDisplay())
    page, findings = build_bigram_report(folder)
    console = Terminal()
    for sentence in findings:
        console.print(sentence)
    console.print(line("Report: ", (page, "bold")), soft_wrap=True)


def _print_plan(sweep: BigramSweep, out: Path | None) -> None:
    """The resolved options, and how much there is to measure."""
    from stillroom.config import to_yaml
    from stillroom.console import Terminal
    from stillroom.sandbox.bigram.run_bigram import check_folder

    folder, world = check_folder(sweep, out).path, sweep.make_world()
    console = Terminal(highlight=False, soft_wrap=True)
    console.print(to_yaml(sweep, "sandbox-bigram"))
    arms, sizes = len(sweep.arms()), len(sweep.samples)
    console.print(f"# {arms} arms × {sizes} sizes × {sweep.seeds} seeds = {arms * sizes * sweep.seeds} tables of rows")
    console.print(f"# {world.num_states} tokens, {int(world.high_K.sum())} high-entropy rows")
    console.print(f"# lowest possible loss {world.optimal_loss_nats(sweep.visits):.4f} nats per token")
    console.print(f"# curves of: {'; '.join(arm.name for arm in sweep.drawn_arms())}")
    console.print(f"# run folder: {folder} (nothing was written)")


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
