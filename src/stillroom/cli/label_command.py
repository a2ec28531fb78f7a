"""``stillroom label``: its options, and teachers mixed by them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillroom.cli.shared_options import dry_run_option, file_place, kept_option, seed_option
from stillroom.types import UserError

if TYPE_CHECKING:
    from stillroom.config import MixtureConfig
    from stillroom.study.label_stage import LabelRequest

Teacher = Annotated[
    str,
    typer.Argument(
        help="The teacher: a model folder, hub id, [bold].gguf[/] file, run folder, [bold]RUN:ARM[/], or "
        "[bold]world:NAME[/] of a process that knows its own distribution ([bold]world:bigram[/], "
        '[bold]world:recall[/], with options as in [bold]world:bigram:{"states": 50}[/]); with --import, its name.'
    ),
]
Corpus = Annotated[
    str | None,
    typer.Option(
        "--corpus",
        help="Run folder, built corpus or address whose text is labelled. A world:NAME labels what it draws itself "
        "where this is missing.",
    ),
]
MixedWith = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="NAME=TEACHER",
        help="A further teacher, mixed with the first; give one option for each. The first is called teacher.",
    ),
]
Rule = Annotated[
    str,
    typer.Option(
        help="How teachers are mixed: [bold]average[/] of their probabilities; [bold]position[/]: everywhere the "
        "one that expects the next token most, which is looked at; [bold]domain[/]: each for its own sources."
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="NAME=NUMBER",
        help="Weight of a teacher in the average, relative to the others. Default: 1 each.",
    ),
]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        metavar="SOURCE=NAME",
        help="The teacher of one of the corpus's sources (rule domain). Default: the first.",
    ),
]
Out = Annotated[Path, kept_option("--out", "Folder of the label store; the same command goes on.")]
Codec = Annotated[
    str, typer.Option(help="[bold]sampled[/] (unbiased), [bold]top-k[/] or [bold]top-p[/] (both with the tail's mass).")
]
NumSamples = Annotated[int, typer.Option(help="Pointers per token of the sampled codec.")]
K = Annotated[int, typer.Option(help="Most ids kept per token (top-k, top-p).")]
P = Annotated[float, typer.Option(help="Probability mass kept (top-p).")]
ValueSteps = Annotated[
    int, typer.Option(help="Levels per unit of a probability's square root (top-k, top-p); fewer take fewer bytes.")
]
Temperature = Annotated[float, typer.Option(help="Softmax temperature at which the teacher is read.")]
Tokens = Annotated[int | None, typer.Option(min=1, help="Label only the first TOKENS tokens. Default: all.")]
Length = Annotated[int, typer.Option(help="Tokens per sequence that a world draws, where --corpus is missing.")]
Seed = Annotated[int, seed_option("the sampled codec, and of what a world draws")]
DryRun = Annotated[bool, dry_run_option("Print tokens, teacher FLOPs, bytes and hours; write nothing.")]
Vllm = Annotated[
    Path | None,
    typer.Option(
        "--vllm",
        metavar="PYTHON",
        help="An interpreter that has vLLM, which runs the teacher in a process of its own; with --codec top-k.",
    ),
]
ImportFrom = Annotated[
    Path | None,
    typer.Option(
        "--import",
        help="Make the store from labels on disk: Parquet (plain, LlamaKD or DistillKit), MaxText's .array_record, "
        "Megatron-LM's .tar, or a .kd sidecar.",
    ),
]
ImportTokens = Annotated[
    Path | None,
    typer.Option(
        help="Ids (.npy) that labels are of, where these do not hold them: of a .kd's shard, of a .tar's samples."
    ),
]
ExportTo = Annotated[
    Path | None,
    typer.Option(
        "--export", help="Write the store at --out for others; a .kd needs --import-tokens.", callback=file_place
    ),
]
ExportForm = Annotated[
    str,
    typer.Option(
        "--to",
        help="Form of the export: [bold]parquet[/], [bold]llamakd[/], [bold]distillkit[/] (a folder) or "
        "[bold]maxtext[/]. A file that ends in .kd is surogate's.",
    ),
]


def label_command(
    teacher: Teacher = "",
    corpus: Corpus = None,
    mixed_with: MixedWith = None,
    rule: Rule = "average",
    weights: Weights = None,
    domains: Domains = None,
    out: Out = Path("labels"),
    codec: Codec = "sampled",
    num_samples: NumSamples = 50,
    k: K = 50,
    p: P = 0.95,
    value_steps: ValueSteps = 199,
    temperature: Temperature = 1.0,
    tokens: Tokens = None,
    length: Length = 256,
    seed: Seed = 0,
    dry_run: DryRun = False,
    vllm: Vllm = None,
    import_from: ImportFrom = None,
    import_tokens: ImportTokens = None,
    export_to: ExportTo = None,
    form: ExportForm = "parquet",
) -> None:
    """Run a teacher over a corpus once and keep its soft labels, small, for any number of students.

    Stopped anywhere, the same command goes on at the first missing shard. Under torchrun each rank labels its own
    shards and nothing is sent between them.

    [bold]Example[/]:  stillroom label RUN:teacher --corpus RUN --out labels

    [bold]Two teachers[/]:  stillroom label BASE --with code=CODER --rule domain --domain python=code --corpus RUN

    [bold]A world[/]:  stillroom label world:recall --tokens 100000 --out labels
    """
    if export_to is not None:
        _export(out, export_to, form, import_tokens)
        return
    if not teacher:
        raise UserError("label: a teacher is missing; see stillroom label --help.")
    if import_from is not None:
        _import(import_from, teacher, corpus, out, import_tokens)
        return
    from stillroom.study.label_stage import LabelRequest

    values = {"codec": codec, "num_samples": num_samples, "k": k, "p": p, "value_steps": value_steps}
    values |= {"temperature": temperature, "seed": seed}
    mixture = _mixture(mixed_with, rule, weights, domains)
    _label(LabelRequest(teacher, corpus, out, values, tokens, dry_run, mixture, length), vllm)


def _label(request: LabelRequest, vllm: Path | None) -> None:
    from stillroom.study.folders import kept_at_address
    from stillroom.study.label_stage import label_corpus, say_labelled
    from stillroom.study.progress import StageDisplay

    display = StageDisplay()
    with contextlib.nullcontext() if request.dry_run else kept_at_address(request.out, request.out):
        if vllm is None:
            label_corpus(request, display)
            return
        from stillroom.study.vllm_stage import label_by_vllm

        say_labelled(label_by_vllm(request, vllm, display), request.out, display)


def _export(store: Path, file: Path, form: str, tokens: Path | None) -> None:
    from stillroom.stores import address_of
    from stillroom.study.label_stage import export_labels

    count = export_labels(address_of(store) or store, file, form, tokens)
    _print_made(f"{count:,} sequences", file)


def _import(labels: Path, teacher: str, corpus: str | None, out: Path, tokens: Path | None) -> None:
    from stillroom.stores import address_of
    from stillroom.study.folders import kept_at_address
    from stillroom.study.label_stage import import_labels

    if corpus is None:
        raise UserError("label: --corpus is missing; --import needs the tokenizer and length of the corpus.")
    with kept_at_address(out, out):
        made = import_labels(labels, teacher, corpus, out, tokens)
    _print_made(f"{made.num_tokens:,} tokens", address_of(out) or out)


def _print_made(what: str, place: Path | str) -> None:
    from stillroom.console import line
    from stillroom.study.progress import StageDisplay

    StageDisplay().console.print(line(f"{what}: ", (place, "bold")), soft_wrap=True)


def _mixture(
    teachers: list[str] | None, rule: str, weights: list[str] | None, domains: list[str] | None
) -> MixtureConfig | None:
    """The further teachers that options ask for; None where they ask for none."""
    from stillroom.config import MixtureConfig, parse

    if not teachers:
        if weights or domains or rule != "average":
            raise UserError("label: --rule, --weight and --domain are of a mixture; name a second teacher by --with.")
        return None
    values = {
        "rule": rule, "teachers": _pairs("--with", teachers), "weights": _pairs("--weight", weights),
        "domains": _pairs("--domain", domains),
    }  # fmt: skip
    return parse(MixtureConfig, values, "label")


def _pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """NAME=VALUE texts as a dictionary; refuses other texts and a name that comes twice."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not (name and sign and value) or name in pairs:
            raise UserError(f"label: {option} is {text!r}, expected NAME=VALUE and every name once.")
        pairs[name] = value
    return pairs
