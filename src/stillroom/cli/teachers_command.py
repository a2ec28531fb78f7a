"""``stillroom teachers``: choose a teacher before a student is trained, and make teachers of three kinds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillroom.cli.shared_options import dry_run_option, out_option, seed_option

if TYPE_CHECKING:
    from stillroom.choosing.rank import Prepared

teachers = typer.Typer(
    name="teachers",
    help="Choose a teacher before a student is trained, and make one of another kind from a base model.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@teachers.callback()
def _teachers() -> None:
    """Keeps every verb a command of its own."""


Candidates = Annotated[
    list[str],
    typer.Argument(
        metavar="TEACHER",
        help="Models that may teach: a run folder (all its models), [bold]RUN:ARM[/], a Hugging Face model folder, "
        "a hub id or a [bold].gguf[/] file.",
    ),
]
Corpus = Annotated[str, typer.Option("--corpus", help="Run folder or built corpus that students will be trained on.")]
Student = Annotated[
    str | None,
    typer.Option(
        help="The supervised student that L_student is of, as [bold]RUN:ARM[/] or a model folder; proxies take its "
        "shape. Default: the first hard-label arm of the corpus's run."
    ),
]
ProxyTokens = Annotated[
    int, typer.Option(help="Train a short student of this many tokens from every teacher, and one of hard labels.")
]
Problems = Annotated[
    int, typer.Option(help="Problems for pass@k, from the corpus's own problems source; 0 leaves them out.")
]
LabelTokens = Annotated[int | None, typer.Option(help="Tokens to be labelled, for the price. Default: the corpus's.")]
Ranking = Annotated[Path | None, out_option("Folder of the ranking. Default: rankings/FINGERPRINT.")]


@teachers.command("rank")
def rank_command(
    candidates: Candidates,
    corpus: Corpus,
    student: Student = None,
    proxy_tokens: ProxyTokens = 0,
    proxy_seeds: Annotated[int, typer.Option(help="Proxy students per teacher, one seed each.")] = 1,
    proxy_alpha: Annotated[float, typer.Option(help="Weight of the teacher's label for proxies.")] = 0.9,
    sequences: Annotated[int, typer.Option(help="Held-out sequences that every candidate reads.")] = 256,
    problems: Problems = 50,
    samples: Annotated[int, typer.Option(help="Samples per problem.")] = 16,
    temperature: Annotated[float, typer.Option(help="Sampling temperature of pass@k.")] = 1.0,
    label_tokens: LabelTokens = None,
    out: Ranking = None,
    seed: Annotated[int, seed_option("items, samples and proxies")] = 0,
    dry_run: Annotated[bool, dry_run_option("Find everything and print what it will take; write nothing.")] = False,
) -> None:
    """Compare candidate teachers for a corpus, before any student is trained, and say which to take and why.

    Every candidate reads the same held-out text: loss, entropy, calibration, what it leaks where the next token is
    nearly certain, whether its own copying (induction) is finished, pass@k, agreement with the others, and what labels
    cost. Differences are paired per document; what cannot be told apart is called a tie. A teacher of another tokenizer
    is refused. Stopped anywhere, the same command goes on.

    Lower loss does not make the better teacher by itself: with --proxy-tokens short students decide instead.

    [bold]Example[/]:  stillroom teachers rank runs/quickstart-1a2b3c4d --corpus runs/quickstart-1a2b3c4d
    --proxy-tokens 200000
    """
    from stillroom.choosing import RankRequest, RankSettings, prepare_ranking, print_rank_plan
    from stillroom.config import parse
    from stillroom.console import Terminal

    values = {
        "heldout_sequences": sequences, "problems": problems, "samples_per_problem": samples, "seed": seed,
        "temperature": temperature, "label_tokens": label_tokens, "proxy_tokens": proxy_tokens,
        "proxy_seeds": proxy_seeds, "proxy_alpha": proxy_alpha,
    }  # fmt: skip
    prepared = prepare_ranking(
        RankRequest(candidates, corpus, student, out, parse(RankSettings, values, "teachers rank"))
    )
    if dry_run:
        print_rank_plan(prepared, Terminal())
    else:
        _rank(prepared)


def _rank(prepared: Prepared) -> None:
    """Measures the candidates, writes the page and prints which to take and why."""
    from stillroom.choosing import rank_teachers, ranking_table
    from stillroom.console import Terminal, line
    from stillroom.report.pages.teachers_page import build_teachers_page
    from stillroom.study.progress import StageDisplay

    ranking = rank_teachers(prepared, StageDisplay())
    page = build_teachers_page(prepared.out)
    console = Terminal()
    console.print(ranking_table(ranking))
    for sentence in ranking.recommendation.sentences:
        console.print(line("• ", sentence))
    console.print(line("Page: ", (page, "bold")), soft_wrap=True)


Base = Annotated[
    str, typer.Argument(metavar="BASE", help="The model to begin with: RUN:ARM, a model folder or hub id.")
]
Tuned = Annotated[Path, out_option("Folder of the tuned model; the same command goes on.")]
Families = Annotated[
    str, typer.Option(help="Families of the problems world, with spaces between. Default: all.", show_default=False)
]
DryRun = Annotated[bool, dry_run_option("Print what it will take; write nothing.")]


@teachers.command("supervise")
def supervise_command(
    base: Base,
    out: Tuned,
    families: Families = "",
    problems: Annotated[int, typer.Option(help="Worked problems to train on.")] = 4096,
    epochs: Annotated[float, typer.Option(help="Passes over them.")] = 2.0,
    batch_sequences: Annotated[int, typer.Option(help="Sequences per step.")] = 16,
    sequence_length: Annotated[int, typer.Option(help="Tokens per sequence; problems are packed whole.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 3e-4,
    seed: Annotated[int, seed_option("problems and order")] = 0,
    dry_run: DryRun = False,
) -> None:
    """Make an instruction-tuned teacher: a base model trained on the answers of worked problems.

    Held-out problems are never among them. The result is a Hugging Face folder ([bold]model/[/]) with the base's
    tokenizer, so students of the same corpus can learn from it.

    [bold]Example[/]:  stillroom teachers supervise runs/quickstart-1a2b3c4d:teacher --out teachers/supervised
    """
    from stillroom.choosing.tuning.supervise import SupervisedConfig, print_supervised_plan, supervise
    from stillroom.config import parse
    from stillroom.console import Terminal, line
    from stillroom.study.progress import StageDisplay

    values = {
        "families": families, "problems": problems, "epochs": epochs, "batch_sequences": batch_sequences,
        "sequence_length": sequence_length, "learning_rate": learning_rate, "seed": seed,
    }  # fmt: skip
    config = parse(SupervisedConfig, values, "teachers supervise")
    if dry_run:
        print_supervised_plan(base, config, out, Terminal())
        return
    folder = supervise(base, config, out, StageDisplay())
    Terminal().print(line("Model: ", (folder, "bold")), soft_wrap=True)


@teachers.command("reinforce")
def reinforce_command(
    base: Base,
    out: Tuned,
    families: Families = "",
    problems: Annotated[int, typer.Option(help="Different problems to draw prompts from.")] = 512,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 100,
    prompts: Annotated[int, typer.Option(help="Prompts per step.")] = 8,
    samples: Annotated[int, typer.Option(help="Samples per prompt, compared with one another.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 24,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-5,
    kl_weight: Annotated[float, typer.Option(help="Weight of the divergence from the base.")] = 0.0,
    seed: Annotated[int, seed_option("problems and samples")] = 0,
    dry_run: DryRun = False,
) -> None:
    """Make a teacher by reinforcement with verifiable rewards (GRPO through TRL, extra [bold]rl[/]).

    A sample earns 1 where it ends and its answer is right, else 0. Begin with a model that solves some problems: where
    all samples of a prompt earn the same, nothing is learnt from it.

    [bold]Example[/]:  stillroom teachers reinforce teachers/supervised/model --out teachers/reinforced
    """
    from stillroom.choosing.tuning.reinforce import ReinforcedConfig, print_reinforced_plan, reinforce
    from stillroom.config import parse
    from stillroom.console import Terminal, line
    from stillroom.study.progress import StageDisplay

    values = {
        "families": families, "problems": problems, "steps": steps, "prompts_per_step": prompts,
        "samples_per_prompt": samples, "max_new_tokens": max_new_tokens, "temperature": temperature,
        "learning_rate": learning_rate, "kl_weight": kl_weight, "seed": seed,
    }  # fmt: skip
    config = parse(ReinforcedConfig, values, "teachers reinforce")
    if dry_run:
        print_reinforced_plan(base, config, out, Terminal())
        return
    folder = reinforce(base, config, out, StageDisplay())
    Terminal().print(line("Model: ", (folder, "bold")), soft_wrap=True)
