"""What a ranking will take, before it is run. Writes nothing."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from stillroom.choosing.rank import Prepared
from stillroom.config import LabelsConfig
from stillroom.console import line
from stillroom.costs import flops_per_token
from stillroom.labels import price


def print_rank_plan(prepared: Prepared, console: Console) -> None:
    """Prints candidates with sizes, the FLOPs of measuring and of labelling with each, and those of the proxies."""
    settings, corpus = prepared.settings, prepared.heldout.corpus
    heldout_tokens = prepared.heldout.num_sequences * corpus.heldout.sequence_length
    label_tokens = settings.label_tokens or corpus.train.num_tokens
    table = Table(title="Candidates", title_justify="left")
    for heading in ("teacher", "parameters", "FLOPs to read held-out text", "FLOPs to label", "label bytes"):
        table.add_column(heading, justify="left" if heading == "teacher" else "right")
    for teacher in prepared.teachers:
        asked = price(label_tokens, teacher.forward_flops, LabelsConfig(), corpus.vocab_size)
        table.add_row(
            teacher.name,
            f"{teacher.parameters / 1e6:.2f} M",
            f"{teacher.forward_flops * heldout_tokens:.2e}",
            f"{asked.teacher_flops:.2e}",
            f"{asked.num_bytes / 1e6:.1f} MB",
        )
    console.print(table)
    reference = prepared.student.reference
    console.print(line("Supervised student: ", reference.path if reference else "none named"), soft_wrap=True)
    if settings.proxy_tokens:
        rate = flops_per_token(prepared.student.model, corpus.vocab_size, corpus.train.sequence_length, backward=True)
        runs = (len(prepared.teachers) + 1) * settings.proxy_seeds
        console.print(
            f"{runs} proxy students of {settings.proxy_tokens:,} tokens, one of hard labels per seed among them: "
            f"{runs * rate * settings.proxy_tokens:.2e} FLOPs, and the teachers' forward passes."
        )
    console.print(line((f"Would be written to {prepared.out}. Nothing was written.", "dim")), soft_wrap=True)
