"""Labels a corpus with a teacher that vLLM runs: what ``stillroom label --vllm`` does."""

from __future__ import annotations

import os
from pathlib import Path

from stillroom.config import LabelsConfig, parse
from stillroom.corpora import open_corpus
from stillroom.labels import Manifest
from stillroom.labels.format.layout import SCHEMA
from stillroom.labels.format.manifest import Plan, ordered_identity
from stillroom.labels.settings import settings_of
from stillroom.labels.write import FORWARD_TOKENS, write_store
from stillroom.study.exactworlds import WORLD_PREFIX
from stillroom.study.found_labels import remember_store
from stillroom.study.label_stage import LabelRequest, identity_in, sequences_asked
from stillroom.study.labelprogress import label_stage
from stillroom.study.progress import StageDisplay
from stillroom.study.teacherfolders import check_vocabulary, teacher_folder, teacher_hash
from stillroom.teachers.vllm_labels import VllmSource, VllmTeacher
from stillroom.types import UserError


def label_by_vllm(request: LabelRequest, python: Path, display: StageDisplay) -> Manifest:
    """Labels the corpus into ``request.out`` with vLLM under the interpreter ``python``; the same call goes on."""
    config = parse(LabelsConfig, request.labels, "label")
    _check(request, config, python)
    corpus = open_corpus(request.corpus or "")
    folder = teacher_folder(request.teacher)
    check_vocabulary(folder, corpus)
    sequences = sequences_asked(request, corpus)
    length = sequences.sequence_length
    teacher = VllmTeacher(python, str(folder), config.k, length)
    with label_stage(display, request.out, 0, 1) as update, teacher.running():
        plan = Plan(
            schema=SCHEMA,
            identity=ordered_identity(identity_in(corpus, teacher_hash(folder))),
            labels=settings_of(config).canonical(),
            num_sequences=len(sequences),
            sequence_length=length,
            isolate_documents=corpus.isolate,
            precision=teacher.precision,
            forward_sequences=max(1, FORWARD_TOKENS // length),
        )
        source = VllmSource(teacher, sequences, plan.vocab_size, corpus.isolate)
        manifest = write_store(source, plan, request.out, progress=update)
    assert manifest is not None, "one process writes every shard"
    remember_store(corpus, request.out)
    return manifest


def _check(request: LabelRequest, config: LabelsConfig, python: Path) -> None:
    """Refuses what vLLM cannot be asked for."""
    faults = {
        "a corpus is missing; give --corpus": request.corpus is None,
        "a world is no model; leave out --vllm": request.teacher.startswith(WORLD_PREFIX),
        "teachers are mixed here alone; leave out --with or --vllm": request.mixture is not None,
        "the largest probabilities are what it gives; add --codec top-k": config.codec != "top-k",
        "it reads the teacher at temperature 1; leave out --temperature": config.temperature != 1.0,
        "its price is not known here; leave out --dry-run": request.dry_run,
        "it spreads over GPUs by itself; leave out torchrun": int(os.environ.get("WORLD_SIZE", "1")) > 1,
    }
    for fault, is_there in faults.items():
        if is_there:
            raise UserError(f"label --vllm {python}: {fault}.")
