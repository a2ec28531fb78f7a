"""Labels a corpus with any teacher, and exchanges labels with other software: what ``stillroom label`` does."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.config import LabelsConfig, MixtureConfig, ParallelConfig, parse
from stillroom.console import line
from stillroom.corpora import Corpus, SequenceSet, open_corpus
from stillroom.costs import size_of_model
from stillroom.files import fingerprint, reading, write_text
from stillroom.labels import (
    Identity,
    LabelStore,
    Manifest,
    Scores,
    export_distillkit,
    export_kd,
    export_llamakd,
    export_maxtext,
    export_parquet,
    import_distillkit,
    import_kd,
    import_maxtext,
    import_megatron,
    import_parquet,
    label,
    label_part,
    price,
)
from stillroom.labels.format import manifest as manifests
from stillroom.labels.format.layout import shard_name
from stillroom.labels.format.manifest import Plan
from stillroom.stores import address_of
from stillroom.study.exactworlds import WORLD_PREFIX, drawn_sequences, exact_scores, exact_world, world_hash
from stillroom.study.found_labels import remember_store
from stillroom.study.identities import labels_owner, mixture_key
from stillroom.study.label_trial import try_labelling
from stillroom.study.labelprogress import label_stage
from stillroom.study.mixtures import check_mixture, mixture_scores
from stillroom.study.progress import StageDisplay
from stillroom.study.teacherfolders import check_vocabulary, teacher_folder, teacher_hash
from stillroom.study.train_stage import load_here
from stillroom.teachers import MixtureScores, ModelScores
from stillroom.training.distributed import join, launched_rank, launched_size
from stillroom.types import Sequences, UserError

MAX_LENGTH = 1 << 20


@dataclass(frozen=True)
class LabelRequest:
    """What was asked for on the command line."""

    teacher: str
    corpus: str | Path | None
    """None where an exact world labels sequences that it draws itself."""
    out: Path
    labels: dict[str, Any]
    tokens: int | None
    dry_run: bool
    mixture: MixtureConfig | None = None
    """Further teachers, mixed with the first."""
    length: int = 256
    """Tokens of a drawn sequence."""


@dataclass(frozen=True)
class _Job:
    """A teacher, what it labels, and the names of both in the store."""

    scores: Scores
    sequences: Sequences
    identity: Identity

    @property
    def num_tokens(self) -> int:
        return len(self.sequences) * self.sequences.sequence_length


def label_corpus(request: LabelRequest, display: StageDisplay) -> None:
    """Labels the corpus, or what a world draws, into ``request.out``, or prints what that would take."""
    config = parse(LabelsConfig, request.labels, "label")
    job = _drawn_job(request, config.seed) if request.corpus is None else _corpus_job(request, request.corpus)
    if request.dry_run:
        _print_price(job, config, display)
        return
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    with label_stage(display, request.out, rank, world_size) as update:
        manifest = label_part(
            job.scores, job.sequences, config, request.out, identity=job.identity, rank=rank,
            world_size=world_size, progress=update,
        )  # fmt: skip
    if manifest is not None and request.corpus is not None:
        remember_store(open_corpus(request.corpus), request.out)
    say_labelled(manifest, request.out, display)


def label_shown(
    display: StageDisplay, scores: Scores, sequences: Sequences, config: LabelsConfig, folder: Path, identity: Identity
) -> None:
    """Labels all sequences into a store, with the line that labelling shows; see ``labels.label``.

    Ranks that ``torchrun`` started share the shards; the first then finishes the store.
    """
    rank, size = launched_rank(), launched_size()
    with label_stage(display, folder, rank, size) as update:
        if size > 1:
            label_part(
                scores, sequences, config, folder, identity=identity, rank=rank, world_size=size, progress=update
            )
            join(ParallelConfig()).barrier()
        if rank == 0:
            label(scores, sequences, config, folder, identity=identity, progress=update)


def keep_labelled(folder: Path, damaged: list[str]) -> bool:
    """Takes out of ``folder/labels`` what hangs on damaged files, so that labelling makes just those anew.

    Index and manifest are written from the shards, a codebook with the first shard, and the plan is a part of the
    manifest.
    """
    store = folder / "labels"
    if "labels/plan.json" in damaged:
        if "labels/manifest.json" in damaged:
            return False
        manifest = manifests.from_text((store / "manifest.json").read_bytes(), Manifest, str(store))
        values = {entry.name: getattr(manifest, entry.name) for entry in fields(Plan)}
        write_text(store / "plan.json", manifests.to_text(Plan(**values)))
    if "labels/codebook.bin" in damaged:
        (store / shard_name(0)).unlink(missing_ok=True)
    for name in ("index.bin", "manifest.json"):
        (store / name).unlink(missing_ok=True)
    return True


def sequences_asked(request: LabelRequest, corpus: Corpus) -> SequenceSet:
    """The sequences of a corpus that are to be labelled."""
    length = corpus.train.sequence_length
    if request.tokens is not None and request.tokens < length:
        raise UserError(
            f"label: --tokens is {request.tokens}, expected at least one sequence of {length} tokens; leave it out to "
            "label the whole corpus."
        )
    return corpus.train if request.tokens is None else corpus.train.first(request.tokens)


def _corpus_job(request: LabelRequest, folder: str | Path) -> _Job:
    corpus = open_corpus(folder)
    sequences = sequences_asked(request, corpus)
    scores, name = _scores(request, corpus)
    return _Job(scores, sequences, identity_in(corpus, name))


def _scores(request: LabelRequest, corpus: Corpus) -> tuple[Scores, str]:
    """The scores of a model, an exact world or a mixture, and the hash that names it in a store."""
    if request.teacher.startswith(WORLD_PREFIX):
        if request.mixture is not None:
            raise UserError(
                f"teacher {request.teacher}: a world knows the truth, which nothing is mixed with; leave out --with."
            )
        return exact_scores(request.teacher, corpus.vocab_size, corpus.isolate), world_hash(request.teacher)
    folder = teacher_folder(request.teacher)
    check_vocabulary(folder, corpus)
    name = teacher_hash(folder)
    if request.mixture is not None:
        check_mixture(request.mixture, corpus)
        key = mixture_key(request.mixture, name)
        return mixture_scores(request.mixture, Path(folder), corpus, "auto"), key
    return ModelScores(load_here(folder), corpus.vocab_size, corpus.isolate), name


def _drawn_job(request: LabelRequest, seed: int) -> _Job:
    """Sequences that an exact world draws, with the world as their teacher."""
    if request.mixture is not None or not request.teacher.startswith(WORLD_PREFIX):
        raise UserError("label: --corpus is missing; only a teacher world:NAME can draw what it labels.")
    if request.tokens is None or not 2 <= request.length <= min(request.tokens, MAX_LENGTH):
        raise UserError(
            f"label: without --corpus a world draws --tokens tokens in sequences of --length, found "
            f"{request.tokens} and {request.length}; give both, with 2 <= length <= tokens."
        )
    sequences = drawn_sequences(request.teacher, request.tokens, request.length, seed)
    vocab_size = exact_world(request.teacher).vocab_size
    name = world_hash(request.teacher)
    drawn = fingerprint([name, len(sequences), request.length, seed])
    identity = Identity(teacher=name, tokenizer=f"states of {name}", vocab_size=vocab_size, corpus=drawn)
    return _Job(exact_scores(request.teacher, vocab_size), sequences, identity)


def import_labels(source: Path, teacher: str, corpus_folder: str | Path, out: Path, tokens: Path | None) -> Manifest:
    """A store from labels that other software wrote, told apart by what lies there.

    A ``.kd`` sidecar and Megatron-LM's tars need ``tokens``, the ids that they are of as ``.npy``; a folder or file
    with a ``compression_config.yaml`` is DistillKit's; ``.array_record`` is MaxText's; any other Parquet holds plain
    top-k columns, or LlamaKD's.
    """
    corpus = open_corpus(corpus_folder)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; --import expects Parquet, .kd, .tar or .array_record.")
    identity, length = identity_in(corpus, teacher), corpus.train.sequence_length
    beside = {".kd": import_kd, ".tar": import_megatron}
    kind = _kind_of(source)
    if kind in beside:
        if tokens is None:
            raise UserError(f"{source}: holds labels without the ids that they are of; give --import-tokens FILE.npy.")
        return beside[kind](source, _shard_tokens(tokens), out, identity=identity, sequence_length=length)
    folder = source if source.is_dir() else source.parent
    read = import_distillkit if (folder / "compression_config.yaml").is_file() else import_parquet
    read = import_maxtext if kind == ".array_record" else read
    return read(source, out, identity=identity, sequence_length=length)


def _kind_of(source: Path) -> str:
    """What a file's name ends in; of a folder, what the first of its files that are no Parquet ends in."""
    if not source.is_dir():
        return source.suffix
    return next((kind for kind in (".array_record", ".tar") if any(source.glob(f"*{kind}"))), "")


def _shard_tokens(path: Path) -> np.ndarray:
    """Token ids of a shard (one row), from a NumPy file."""
    wanted = "a NumPy file (.npy) of token ids"
    try:
        with reading(path, wanted):
            ids = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:  # pickles, and files of another kind
        raise UserError(f"{path}: cannot be read ({str(error).partition(chr(10))[0]}); expected {wanted}.") from None
    if not isinstance(ids, np.ndarray) or not np.issubdtype(ids.dtype, np.integer):
        kind = ids.dtype if isinstance(ids, np.ndarray) else "several arrays"
        raise UserError(f"{path}: holds {kind}; expected {wanted}.")
    return ids.reshape(-1)


FORMS = {
    "parquet": export_parquet,
    "llamakd": export_llamakd,
    "distillkit": export_distillkit,
    "maxtext": export_maxtext,
}
"""What a store is exported to, but for a sidecar of a given shard."""


def export_labels(store: Path | str, target: Path, form: str, tokens: Path | None = None) -> int:
    """Writes a store in a form of ``FORMS``, or as the ``.kd`` sidecar of a shard; returns the number of sequences."""
    opened = LabelStore.open(store)
    if target.suffix == ".kd":
        if tokens is None:
            raise UserError(f"{target}: is the sidecar of a token shard; give its ids by --import-tokens FILE.npy.")
        return export_kd(opened, _shard_tokens(tokens), target)
    if form not in FORMS:
        raise UserError(f"--to: is {form!r}, expected one of {', '.join(FORMS)}.")
    return FORMS[form](opened, target)


def identity_in(corpus: Corpus, teacher: str) -> Identity:
    """What names labels of this corpus by a teacher of this hash."""
    return Identity(**labels_owner(corpus.manifest, teacher))


def say_labelled(manifest: Manifest | None, out: Path, display: StageDisplay) -> None:
    """Says how much was labelled, and where it is."""
    if manifest is None:
        display.console.print("This rank's shards are written; the store is finished by the last rank.")
        return
    size = f"{manifest.num_tokens:,} tokens at {manifest.bytes_per_token:.1f} bytes each: "
    display.console.print(line(size, (address_of(out) or out, "bold")), soft_wrap=True)


def _print_price(job: _Job, config: LabelsConfig, display: StageDisplay) -> None:
    """FLOPs of the forward passes, and the time and bytes that it takes by a few sequences that are labelled now."""
    found = try_labelling(job.scores, job.sequences, config, job.identity)
    flops = _rate(job.scores, job.sequences.sequence_length)
    speed = job.num_tokens / max(1e-9, found.seconds(job.num_tokens))
    asked = price(
        job.num_tokens, flops, config, job.identity["vocab_size"], tokens_per_second=speed,
        bytes_per_token=found.bytes_per_token,
    )  # fmt: skip
    for sentence in asked.sentences():
        display.console.print(line(sentence))
    display.console.print(
        f"Time is at {speed:,.0f} tokens/s, tried on {found.tokens:,} tokens now: it may be 1.7 times as long or as "
        "short while the machine is as busy, bytes a third more or less. Nothing was written.",
        style="dim",
        soft_wrap=True,
    )


def _rate(scores: Scores, length: int) -> float:
    """Forward FLOPs per token; of a mixture by domain, in the mean over its members."""
    if isinstance(scores, ModelScores):
        return size_of_model(scores.model).flops_per_token(length, backward=False)
    if isinstance(scores, MixtureScores):
        total = sum(_rate(member, length) for member in scores.members)
        return total / len(scores.members) if scores.rule == "domain" else total
    return 0.0
