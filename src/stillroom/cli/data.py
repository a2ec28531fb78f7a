"""``stillroom label`` and ``stillroom inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def label(
    teacher: Annotated[
        str,
        typer.Argument(help="The teacher: a model folder, a hub id, a [bold].gguf[/] file or a run's folder."),
    ],
    corpus: Annotated[Path, typer.Option("--corpus", help="Folder of a built corpus (a run's artifacts hold one).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the label store; the same command continues it.")],
    codec: Annotated[
        str,
        typer.Option(help="[bold]sampled[/] (unbiased), [bold]top-k[/] or [bold]top-p[/] (both with the tail's mass)."),
    ] = "sampled",
    num_samples: Annotated[int, typer.Option(help="Pointers per token of the sampled codec.")] = 50,
    k: Annotated[int, typer.Option(help="Most ids kept per token (top-k, top-p).")] = 50,
    p: Annotated[float, typer.Option(help="Probability mass kept (top-p).")] = 0.95,
    temperature: Annotated[float, typer.Option(help="Softmax temperature at which the teacher is read.")] = 1.0,
    tokens: Annotated[
        int | None, typer.Option(help="Label only the first TOKENS tokens. Default: all.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampled codec.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print tokens, FLOPs and bytes; write nothing.")] = False,
) -> None:
    """Run a teacher over a corpus once and keep its soft labels, small, for any number of students.

    Stopped anywhere, the same command goes on at the first missing shard. Under torchrun each rank labels its
    own shards.

    [bold]Example[/]:  stillroom label TEACHER/model --corpus CORPUS --out labels
    """
    from stillroom.study.labels import LabelRequest, label_corpus
    from stillroom.study.progress import StageDisplay

    values = {"codec": codec, "num_samples": num_samples, "k": k, "p": p, "temperature": temperature, "seed": seed}
    label_corpus(LabelRequest(teacher, corpus, out, values, tokens, dry_run), StageDisplay())


def inspect(
    path: Annotated[Path, typer.Argument(help="A label store, a corpus, or a model folder.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte of a label store.")] = False,
) -> None:
    """Show what a folder holds: a label store's manifest and bytes, a corpus's tokens, a model's induction heads.

    [bold]Example[/]:  stillroom inspect labels --verify
    """
    from stillroom.study.inspect import inspect_path

    inspect_path(path, verify=verify)
