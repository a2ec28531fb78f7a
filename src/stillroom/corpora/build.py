"""Builds a corpus folder: a plan, its tasks done by any number of processes, and what is put together of them.

What is unfinished lies in a hidden folder beside the corpus and is gone on with by the next call, whoever makes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

from stillroom import disk
from stillroom.checksums import seal
from stillroom.corpora.assembly import BuildProgress, Supply, assemble, num_sequences, rows_of_shard
from stillroom.corpora.corpus import SCHEMA, Corpus, open_corpus
from stillroom.corpora.corpus_config import CorpusConfig
from stillroom.corpora.corpus_files import GROWING, claim_of, growing_folder
from stillroom.corpora.ledger import UnfinishedError
from stillroom.corpora.naming import corpus_identity
from stillroom.corpora.plan_file import (
    Build,
    BuildPlan,
    Marks,
    changed_file,
    check_same,
    open_build,
    stamps_of,
    tokenizer_folder,
)
from stillroom.corpora.sequences import SourceCounts
from stillroom.corpora.sources.source_kinds import source_kind
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.corpora.tasks import Task, source_shares, task_texts
from stillroom.corpora.tokenizer import (
    check_vocab_size,
    habits,
    load_tokenizer,
    save_tokenizer,
    special_ids,
    tokenizer_hash,
    train_tokenizer,
    with_marks,
)
from stillroom.corpora.workers import Workers, do_one, start_crew
from stillroom.files import disk_errors, fingerprint, read_json_object, write_json
from stillroom.types import OnProgress, UserError
from stillroom.vocabulary import num_ids

_TOKENIZER_CHARS, _CHARS_PER_TOKEN = 3_000_000, 400  # text that a tokenizer is trained on; more changes few merges
_WORTH_KEEPING = 1 << 26  # bytes of finished tasks: minutes of work
_PAUSE = 0.1

logger = logging.getLogger(__name__)


def build_corpus(
    config: CorpusConfig, folder: Path, progress: OnProgress | None = None, workers: Workers = Workers()
) -> Corpus:
    """Builds the corpus into ``folder``, which appears when complete, and returns it opened.

    A build that was stopped is gone on with. Any number of processes may build one folder at the same time: they share
    the tasks, and the first that is free puts them together. ``progress`` hears of the tokens that all have made.

    Raises:
        UserError: A source cannot be read, holds too little or changed meanwhile, or another corpus is there.
    """
    if config.path is not None:
        raise UserError(f"corpus.path {config.path}: is a corpus already; leave it out to build one of the sources.")
    identity = functools.cache(lambda: fingerprint(corpus_identity(config)))  # reads all text
    scratch = growing_folder(folder).parent
    with disk_errors(folder):
        while not _is_there(folder, identity):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(disk.Busy), disk.held(claim_of(folder)):
                if not _is_there(folder, identity):
                    _built(config, identity, folder, progress or (lambda done, total: None), workers)
                continue
            _helped(scratch, workers)
    return open_corpus(folder)


def _is_there(folder: Path, identity: Callable[[], str]) -> bool:
    """Whether the corpus is finished; refuses to take the place of anything else."""
    if not disk.is_finished(folder) or not any(folder.iterdir()):
        return False
    file = folder / "corpus.json"
    if not file.is_file() or read_json_object(file).get("identity") != identity():
        raise UserError(f"{folder}: is there already and is no corpus of these settings and this text; name another.")
    return True


def _helped(scratch: Path, workers: Workers) -> None:
    """Does a task of a build that another process leads; waits a moment where there is none."""
    build = None
    with contextlib.suppress(FileNotFoundError):
        build = open_build(scratch)
        if build is not None and do_one(build, set(), workers.rank, workers.world):
            return
    time.sleep(_PAUSE)


def _built(
    config: CorpusConfig, identity: Callable[[], str], folder: Path, progress: OnProgress, workers: Workers
) -> None:
    """Leads a build to its end, alone or with helpers; a mistake leaves nothing, or what was much work."""
    scratch = growing_folder(folder).parent
    try:
        plan = BuildPlan.of(config)
        there = _gone_on_with(plan, scratch)
        crew = start_crew(workers, scratch)  # helpers start while the tokenizer is loaded or trained
        try:
            build = there or _begun(plan, scratch)
            supply = Supply(build, crew, _progress(build, progress), _is_shared(workers))
            supply.foresee()  # helpers encode while all text is hashed
            _put_together(build, identity(), supply)
        finally:
            crew.stop()
    except UserError as error:
        if not _is_kept(scratch, error):
            _remove(scratch)
        raise
    disk.publish(growing_folder(folder), folder)
    _remove(scratch)


def _is_shared(workers: Workers) -> bool:
    return workers.jobs > 1 or workers.world > 1 or workers.on != "local"


def _progress(build: Build, tell: OnProgress) -> BuildProgress:
    config = build.plan.config
    total = config.train_tokens + config.heldout_tokens
    return BuildProgress(build.ledger.root, build.ledger.encoder.kind.itemsize, total, tell)


def _is_kept(scratch: Path, error: UserError) -> bool:
    """Whether what is unfinished stays after an error: it is spoken of, or it was much work, or the disk failed."""
    failed = isinstance(error.__cause__, OSError)
    made = sum(file.stat().st_size for file in scratch.glob("tasks/*/data.bin"))
    return isinstance(error, UnfinishedError) or made >= (1 if failed else _WORTH_KEEPING)


def _remove(scratch: Path) -> None:
    """Takes an unfinished build away, also from helpers that are writing into it."""
    aside = scratch.with_name(f"{scratch.name}-{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(OSError):
        scratch.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _gone_on_with(plan: BuildPlan, scratch: Path) -> Build | None:
    """The build that was begun in a folder, where it is of the same text; else None, and the folder is empty."""
    config, there = plan.config, open_build(scratch)
    if there is None:
        _remove(scratch)
        (scratch / "tasks").mkdir(parents=True)
        return None
    own = None if config.tokenizer is None else tokenizer_hash(with_marks(load_tokenizer(config.tokenizer)))
    check_same(there, plan, own)
    build = Build(scratch, plan, there.marks)
    _sweep(tokenizer_folder(scratch).parent)
    if config != there.plan.config:
        build.write()
    return build


def _begun(plan: BuildPlan, scratch: Path) -> Build:
    """A new build with its tokenizer; helpers that wait for it see it when it is whole."""
    tokenizer = with_marks(_tokenizer(plan.config, plan))
    save_tokenizer(tokenizer, tokenizer_folder(scratch))
    found = special_ids(tokenizer)
    assert found.bos is not None and found.eos is not None  # with_marks has seen to both
    special = [int(i) for i in tokenizer.all_special_ids]
    marks = Marks(hash=tokenizer_hash(tokenizer), bos=found.bos, eos=found.eos, special=special)
    build = Build(scratch, plan, marks)
    build.write()
    return build


def _sweep(folder: Path) -> None:
    """Takes away what a process that was killed left half written."""
    for left in list(folder.rglob(".*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _tokenizer(config: CorpusConfig, plan: BuildPlan) -> PreTrainedTokenizerBase:
    if config.tokenizer is None:
        chars = max(_TOKENIZER_CHARS, _CHARS_PER_TOKEN * config.vocab_size)
        return train_tokenizer(training_texts(plan, chars), config.vocab_size, config.digits, config.specials)
    tokenizer = load_tokenizer(config.tokenizer)
    check_vocab_size(tokenizer, config.vocab_size, CorpusConfig.model_fields["vocab_size"].default)
    for habit in habits(tokenizer):
        logger.warning("corpus.tokenizer: %s", habit)
    for source in config.sources.values():
        source_kind(source.kind).check_tokenizer(source, tokenizer)
    return tokenizer


def training_texts(plan: BuildPlan, chars: int) -> Iterator[str]:
    """Training text of every source, by its share of ``chars``: the first of its tasks, which lie all over it."""
    for name, share in source_shares(plan.config).items():
        left = int(chars * share)
        tasks = itertools.takewhile(bool, map(plan.lists["train", name].get, itertools.count()))
        for task in tasks:
            for text, _ in task_texts(cast(Task, task), plan.config.sources[name], plan.config.seed, RowCount()):
                yield text[:left]
                left -= len(text)
                if left <= 0:
                    break
            if left <= 0:
                break


def _put_together(build: Build, identity: str, supply: Supply) -> None:
    """Makes the corpus beside its tokenizer, from tasks that are done or are done now."""
    config, folder = build.plan.config, tokenizer_folder(build.folder).parent
    # Held-out text comes first: it is compared with its tokens, and a tokenizer that loses some is told at once.
    heldout = assemble(supply, "heldout", folder / "heldout")
    manifest = _manifest(build, identity)
    write_json(folder / GROWING, manifest)
    train = assemble(supply, "train", folder / "train")
    if (changed := changed_file(build.plan.stamps, stamps_of(config))) is not None:
        raise UserError(
            f"{changed}: changed while the corpus was made of it; run the same command again when nothing writes to "
            "the text, and keep run folders out of it."
        )
    write_json(folder / "corpus.json", manifest | _told(config, heldout, train))
    (folder / GROWING).unlink()
    seal(folder)
    supply.progress.tell(supply.progress.total, supply.progress.total)


def _manifest(build: Build, identity: str) -> dict[str, JsonValue]:
    """What is known of a corpus before its training text is there."""
    config, marks, encoder = build.plan.config, build.marks, build.ledger.encoder
    length = config.sequence_length
    return {
        "schema": SCHEMA,
        "identity": identity,
        "sources": list(config.sources),
        "source_configs": {name: source.canonical() for name, source in config.sources.items()},
        "isolate_documents": config.isolate_documents,
        "sequence_length": length,
        "vocab_size": num_ids(encoder.tokenizer),
        "tokenizer_hash": marks.hash,
        "bos": marks.bos,
        "eos": marks.eos,
        "sequences": {
            "train": num_sequences(config.train_tokens, length),
            "heldout": num_sequences(config.heldout_tokens, length),
        },
        "rows_per_shard": rows_of_shard(length, config.shuffle_tokens),
        "shuffle_sequences": config.shuffle_tokens // length,
        "bytes_counted": True,
        "heldout_bytes": not encoder.vocabulary.exact,
    }


def _told(
    config: CorpusConfig, heldout: Mapping[str, SourceCounts], train: Mapping[str, SourceCounts]
) -> dict[str, object]:
    """What is told of the text that a corpus was made of; what was left out is said aloud too."""
    found: dict[str, object] = {"texts": {name: one.texts for name, one in train.items()}}
    if config.deduplicate:
        found["duplicates"] = {name: one.duplicates + heldout[name].duplicates for name, one in train.items()}
    if config.packing == "best-fit":
        found["packing"] = {name: one.packing() for name, one in train.items()}
    if used := {name: round(1 + one.repeated, 4) for name, one in train.items() if one.repeated}:
        found["epochs"] = used
    rows = {name: one.rows for name, one in train.items() if _left_out(one.rows)}
    for name, count in rows.items():
        logger.warning("corpus.sources.%s: %s and were left out", name, ", ".join(_left_out(count)))
    return found | ({"rows": {name: dataclasses.asdict(count) for name, count in rows.items()}} if rows else {})


def _left_out(count: RowCount) -> list[str]:
    """How many rows gave no text, and why."""
    reasons = {"without_text": "have no text", "filtered": "do not meet where", "damaged": "cannot be read"}
    numbers = {why: getattr(count, name) for name, why in reasons.items()}
    return [f"{number} of the {count.rows} rows read {why}" for why, number in numbers.items() if number]
