"""``stillroom forecast``: what distillation will bring and cost, before it is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillroom.cli.shared_options import out_option, seed_option

if TYPE_CHECKING:
    from rich.table import Table

    from stillroom.config import StudyConfig
    from stillroom.laws.law_file import Law

forecast = typer.Typer(
    name="forecast",
    help="What a student will reach with and without a teacher, and what it costs, before it is trained.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

LawName = Annotated[
    str, typer.Option("--law", help="A law of [bold]forecast fit[/] (folder or law.json), or [bold]busbridge-2025[/].")
]
Parameters = Annotated[float, typer.Option(help="Student's parameters beside embeddings, such as 1e9.")]
Tokens = Annotated[float, typer.Option(help="Tokens that the student is trained on.")]
TeacherLoss = Annotated[float | None, typer.Option(help="Teacher's held-out loss, in nats per token.")]
TeacherRun = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help="A run folder, [bold]RUN:ARM[/] or [bold]RANKING:NAME[/] (of teachers rank), whose loss is taken.",
    ),
]
TeacherParameters = Annotated[float, typer.Option(help="Teacher's parameters beside embeddings; 0: not on the bill.")]
TeacherTokens = Annotated[float, typer.Option(help="Tokens the teacher is trained on; 0: it is there already.")]
Students = Annotated[int, typer.Option(help="Students that share the teacher and its labels.", min=1)]
ForecastLaw = Annotated[
    str | None,
    typer.Option(
        "--law", help="A law of [bold]forecast fit[/], or [bold]busbridge-2025[/]: say what it expects of every arm."
    ),
]
Flops = Annotated[float, typer.Option("--flops", help="FLOPs that may be spent, such as 1e21.")]


@forecast.callback()
def _forecast() -> None:
    """Keeps every verb a command of its own."""


@forecast.command("fit")
def forecast_fit(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...|POINTS.csv",
            help="Run folders of studies, or one table with the columns student_parameters, student_tokens, "
            "teacher_nats (empty: hard labels) and student_nats.",
        ),
    ],
    out: Annotated[Path, out_option("Folder of the law and its page.")] = Path("forecast"),
    supervised: Annotated[
        str | None, typer.Option(help="Where the supervised law is from, where no hard-label student is given.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=20, max=100_000)] = 1000,
    jobs: Annotated[int | None, typer.Option(help="Processes. Default: one per core.")] = None,
    seed: Annotated[int, seed_option("the bootstrap")] = 0,
) -> None:
    """Fit a law on finished students: runs of your own, or a table of points.

    Losses must be nats per token on the same held-out text. Two forms of the law are compared on sizes left out,
    and the better one is kept. The folder gets law.json, for the other verbs, and forecast.html.

    [bold]Example[/]:  stillroom forecast fit runs/pilots-* --out forecast
    """
    from stillroom.console import Terminal, line
    from stillroom.laws.fitting import fit_law
    from stillroom.laws.law_file import load_law
    from stillroom.laws.points import read_pilots

    pilots = read_pilots(sources)
    base = None if supervised is None else load_law(supervised)
    law = fit_law(str(out), pilots, base, resamples=resamples, seed=seed, jobs=jobs)
    law.save(out / "law.json")
    from stillroom.report.pages.forecast_page import build_forecast_page

    page = build_forecast_page(out)
    console = Terminal()
    console.print(_coefficients(law))
    for sentence in law.sentences:
        console.print(line("• ", sentence))
    console.print(line("Law: ", (out / "law.json", "bold")), soft_wrap=True)
    console.print(line("Page: ", (page, "bold")), soft_wrap=True)


@forecast.command("predict")
def forecast_predict(
    parameters: Parameters,
    tokens: Tokens,
    teacher_loss: TeacherLoss = None,
    teacher: TeacherRun = None,
    teacher_parameters: TeacherParameters = 0.0,
    teacher_tokens: TeacherTokens = 0.0,
    students: Students = 1,
    law: LawName = "busbridge-2025",
    flops_per_second: Annotated[float, typer.Option(help="FLOP/s reached, for hours.", min=0)] = 0.0,
    price_per_hour: Annotated[float, typer.Option(help="Price of an hour at that rate.", min=0)] = 0.0,
    price_per_terabyte: Annotated[float, typer.Option(help="Price of storing a terabyte of labels.", min=0)] = 0.0,
) -> None:
    """Say what a student reaches by hard labels (SPT) and by a teacher's (DPT), each with its 95 % interval.

    [bold]Example[/]:  stillroom forecast predict --parameters 1e9 --tokens 20e9 --teacher-loss 2.2
    """
    from stillroom.console import Terminal, line
    from stillroom.laws.bills import Rates, Teacher
    from stillroom.laws.forecasts import PlannedStudent, forecast
    from stillroom.laws.law_file import load_law

    known = load_law(law)
    model = Teacher(teacher_parameters, teacher_tokens) if teacher_parameters else None
    student = PlannedStudent(parameters, tokens, _loss(known, teacher_loss, teacher))
    found = forecast(known, student, model, Rates(flops_per_second, price_per_hour, price_per_terabyte), students)
    console = Terminal()
    for title, value in found.rows():
        console.print(line(f"{title:<34}", (value, "bold")), soft_wrap=True)
    for cost in found.costs:
        console.print(line(f"{'FLOPs, bill: ' + cost.bill:<34}", (cost.text(), "bold")), soft_wrap=True)
    for warning in found.warnings:
        console.print(line("! ", warning), style="yellow")


@forecast.command("plan")
def forecast_plan(
    flops: Flops,
    law: LawName = "busbridge-2025",
    teacher_loss: TeacherLoss = None,
    teacher: TeacherRun = None,
    teacher_parameters: TeacherParameters = 0.0,
    teacher_tokens: TeacherTokens = 0.0,
    students: Students = 1,
) -> None:
    """Find the best split of FLOPs over student size, tokens, teacher and labels, beside plain pretraining.

    Without --teacher-loss the teacher is chosen too. Sizes and tokens stay within the law's reach.

    [bold]Example[/]:  stillroom forecast plan --flops 1e21 --students 10
    """
    from rich.table import Table

    from stillroom.console import Terminal
    from stillroom.laws.bills import Teacher
    from stillroom.laws.forecasts import best_splits
    from stillroom.laws.law_file import load_law

    known = load_law(law)
    given = teacher_loss is not None or teacher is not None
    model = Teacher(teacher_parameters, teacher_tokens) if given else None
    splits = best_splits(known, flops, model, _loss(known, teacher_loss, teacher) if given else None, students)
    headings = ("bill", "size", "tokens", "teacher", "tokens", "loss", "student's loss", "")
    table = Table(title=f"The best of {flops:.3g} FLOPs", title_justify="left")
    for heading in headings:
        table.add_column(heading, no_wrap=heading in ("bill", ""))
    for split in splits:
        table.add_row(*split.cells())
    console = Terminal()
    console.print(table)
    if any(split.at_edge for split in splits):
        console.print("* At the end of the law's reach: the best may lie outside.", style="dim")


@forecast.command("next")
def forecast_next(
    flops: Flops,
    parameters: Parameters,
    tokens: Tokens,
    law: LawName = "busbridge-2025",
    teacher_loss: TeacherLoss = None,
    teacher: TeacherRun = None,
) -> None:
    """Name the pilots, each of at most --flops, that narrow the forecast of a student most.

    [bold]Example[/]:  stillroom forecast next --flops 1e20 --parameters 3e9 --tokens 1e11 --teacher-loss 2.1
    """
    from stillroom.console import Terminal, line
    from stillroom.laws.forecasts import PlannedStudent, next_pilots
    from stillroom.laws.law_file import load_law

    known = load_law(law)
    target = PlannedStudent(parameters, tokens, _loss(known, teacher_loss, teacher))
    console = Terminal()
    for pilot in next_pilots(known, target, flops):
        console.print(line("• ", pilot.sentence()), soft_wrap=True)


def _loss(law: Law, given: float | None, run: str | None) -> float:
    """The teacher's loss, as given or as measured in a run or a ranking."""
    from stillroom.laws.points import measured_loss
    from stillroom.types import UserError

    if (given is None) == (run is None):
        found = "neither is" if given is None else "both are"
        raise UserError(f"--teacher-loss and --teacher: {found} given, expected one of them; say the teacher's loss.")
    return measured_loss(run, law.measured_on) if run is not None else float(given or 0.0)


def _coefficients(law: Law) -> Table:
    from rich.table import Table

    table = Table(title="Coefficients", title_justify="left")
    for heading in ("coefficient", "value", "95 % interval"):
        table.add_column(heading)
    for name, found in law.intervals().items():
        table.add_row(name, f"{found.value:.4g}", f"{found.low:.4g} to {found.high:.4g}")
    return table


def print_study_forecast(law: str | None, config: StudyConfig, folder: Path | None = None) -> None:
    """What a law expects of the arms of a study; beside what was measured, and kept, where its folder is given."""
    if law is None:
        return
    from rich.table import Table

    from stillroom.console import Terminal
    from stillroom.laws.law_file import load_law
    from stillroom.laws.study_forecast import study_forecasts, write_forecast

    known = load_law(law)
    rows = study_forecasts(known, config) if folder is None else write_forecast(known, config, folder).arms
    table = Table(title=f"Held-out loss by {known.name}, nats per token", title_justify="left")
    for heading in ("arm", "forecast", "outcome"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.cells())
    Terminal().print(table)
