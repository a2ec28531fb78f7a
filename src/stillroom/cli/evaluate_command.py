"""``stillroom evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.cli.shared_options import out_option, seed_option

Models = Annotated[
    list[Path],
    typer.Argument(
        help="A run folder (all its models), [bold]RUN:ARM[/], or Hugging Face folders; several stand side by side."
    ),
]
CorpusFolder = Annotated[
    str | None, typer.Option("--corpus", help="Run folder, built corpus or address whose held-out part is used.")
]
Suites = Annotated[
    str,
    typer.Option(
        help="Comma-separated: [bold]lm[/] (bits per byte), [bold]icl[/] (copying, recall, few-shot rules, "
        "counterfactual facts), [bold]tts[/] (pass@k, diversity), [bold]heads[/] (induction heads), "
        "[bold]retrieval[/] (needle in a haystack, context questions)."
    ),
]
Benchmarks = Annotated[
    list[str] | None,
    typer.Option(
        help="[bold]gsm8k[/], [bold]math500[/] or [bold]mbpp[/] =FILE (.jsonl, .json, .parquet) or =hub; or "
        "[bold]word-problems[/] or [bold]programs[/], made here in the forms of GSM8K and MBPP. May be repeated."
    ),
]
Facts = Annotated[Path | None, typer.Option(help="Records with context, question, answer and memory_answer.")]
Tasks = Annotated[
    str, typer.Option(help="Comma-separated tasks of lm-evaluation-harness (extra lm-eval).", show_default=False)
]
TaskData = Annotated[Path | None, typer.Option(help="Folder with the datasets of those tasks, laid out as on the hub.")]
Vllm = Annotated[Path | None, typer.Option(help="Python of an environment with vLLM: samples are drawn there.")]
Limit = Annotated[int | None, typer.Option(help="First problems of each benchmark, items of each harness task.")]
Out = Annotated[Path, out_option("Folder for the evaluation.json and samples of every model.")]


def evaluate_command(
    models: Models,
    corpus: CorpusFolder = None,
    suite: Suites = "lm,icl,tts,heads",
    benchmark: Benchmarks = None,
    counterfactual: Facts = None,
    lm_eval: Tasks = "",
    lm_eval_data: TaskData = None,
    vllm: Vllm = None,
    limit: Limit = None,
    out: Out = Path("evaluations"),
    seed: Annotated[int, seed_option("items and samples")] = 0,
    problems: Annotated[int, typer.Option(help="Problems of the tts suite.")] = 100,
    samples: Annotated[int, typer.Option(help="Samples per problem (at least 16 for pass@16).")] = 32,
    everything: Annotated[bool, typer.Option("--all", help="Print every number, not the headline alone.")] = False,
) -> None:
    """Measure models: what they know, what they learn in context, and what more samples buy. Intervals are 95 %.

    A model of another tokenizer than the corpus's reads the held-out text in its own tokens: bits per byte compare.
    Several models are compared item by item with the first, at like temperature and like diversity (comparison.json).

    [bold]Example[/]:  stillroom evaluate RUN:spt RUN:dpt90 --corpus RUN --suite icl,lm
    """
    from stillroom.study.evaluations import evaluate_models
    from stillroom.study.external import External, parse_benchmarks
    from stillroom.study.progress import StageDisplay

    values = {"seed": seed, "problems": problems, "samples_per_problem": samples}
    external = None
    if benchmark or lm_eval or counterfactual is not None or vllm is not None:
        tasks = tuple(task.strip() for task in lm_eval.split(",") if task.strip())
        external = External(parse_benchmarks(benchmark or []), counterfactual, tasks, lm_eval_data, vllm, limit)
    suites = [name.strip() for name in suite.split(",") if name.strip()]
    evaluate_models(models, corpus, suites, out, values, StageDisplay(), external, everything=everything)
