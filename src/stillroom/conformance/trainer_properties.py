"""What holds for every right trainer that distils. The first paragraph of a property says why.

Letters as in ``adapter``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stillroom.conformance.adapter import Adapter, load_adapter
from stillroom.conformance.lessons import (
    LENGTH,
    VOCAB,
    batch,
    context_free,
    counting_teacher,
    first_lesson,
    flat,
    lesson,
    loss_on,
    packed,
    part,
    random_model,
    right_change,
)
from stillroom.conformance.told import Broken, needs, same

CHANGE = "the change of the weights"


def step(adapter: Adapter) -> None:
    """A right loss in a wrong step trains something else: the whole step, models included, must be the one that
    distillation asks for, where position t of student and teacher alike predicts token t + 1.
    """
    needs(adapter.train, "train")
    whole, done, alpha = batch(masked=adapter.masked), first_lesson(adapter), 0.5 if adapter.hard else 1.0
    teacher = done.teacher if done.replaced else done.given  # whether it is the right one is teacher_loaded's
    try:
        _agree(adapter, "one step", done.change, right_change(adapter, whole, teacher, alpha, 1 - alpha))
    except Broken as broken:
        unshifted = replace(whole, targets_BT=whole.tokens_BT)
        wrong = {
            "tokens that are not shifted": (unshifted, alpha, 1 - alpha),
            "the next token's term alone": (whole, 0.0, 1 - alpha),
            "the teacher's term alone": (whole, alpha, 0.0),
        }
        for what, (given, soft, hard) in wrong.items():
            other = right_change(adapter, given, teacher, soft, hard)
            if (done.change - other).abs().max() < 1e-3 * other.abs().max():
                raise Broken(f"{broken}; it is the step of {what}") from None
        raise


def _agree(adapter: Adapter, what: str, found: Tensor, expected: Tensor) -> None:
    same(what, [(CHANGE, found)], [expected], adapter.tolerance)


def accumulation(adapter: Adapter) -> None:
    """A mean of the micro-batches' means weighs a position by how many others its micro-batch counts: the same step
    in one micro-batch and in two of unequal counts must be the same.
    """
    needs(adapter.train, "train")
    needs(adapter.masked, "masked")
    whole = batch(masked=True)
    halves = [part(whole, slice(0, 2)), part(whole, slice(2, 4))]
    split = lesson(adapter, [halves], teacher=counting_teacher())
    _agree(
        adapter,
        "one step in two micro-batches, with 6 and 22 counted positions",
        split.change,
        first_lesson(adapter).change,
    )


def ranks(adapter: Adapter) -> None:
    """Ranks that average their own means, or do not exchange gradients at all, train another model each: a step that
    two ranks share must be that of one process.
    """
    needs(adapter.ranks, "ranks")
    needs(adapter.place, "a place as module:name, from which each rank loads it")
    with tempfile.TemporaryDirectory() as folder:
        code = "from stillroom.conformance.trainer_properties import one_of_two; one_of_two()"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}  # looked for by launchers, and not used
        command = [sys.executable, "-c", code, str(adapter.place), folder]
        both = [
            Popen(command, env=environment | {"RANK": rank, "LOCAL_RANK": rank}, stdout=DEVNULL, stderr=PIPE, text=True)
            for rank in "01"
        ]
        errors = [one.communicate()[1] for one in both]
        if any(one.returncode for one in both):
            last = max(errors, key=len).strip().rpartition("\n")[2]
            raise Broken(f"expected a step shared by two ranks, found {last}")
        changes = [load_file(Path(folder) / rank)["change"] for rank in "01"]
    for rank, change in enumerate(changes):
        _agree(adapter, f"one step shared by two ranks, on rank {rank}", change, first_lesson(adapter).change)


def one_of_two() -> None:
    """The process of one rank: half of the step, with its change of the weights left in a file."""
    place, folder, rank = sys.argv[1], sys.argv[2], int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    adapter = load_adapter(place)
    mine = part(batch(masked=adapter.masked), slice(2 * rank, 2 * rank + 2))
    shared = Path(folder, "checkpoints")
    shared.mkdir(exist_ok=True)
    done = lesson(adapter, [[mine]], teacher=counting_teacher(), folder=shared)
    save_file({"change": done.change}, Path(folder) / str(rank))
    torch.distributed.destroy_process_group()


def packing(adapter: Adapter) -> None:
    """Documents that share a row must not see one another, or the student learns from what it will not have: two
    documents in one row must train as they do in rows of their own.
    """
    needs(adapter.packs, "packs")
    together, apart = batch(documents=2), _apart(documents=2)
    taught = [lesson(adapter, [[one]], teacher=counting_teacher()).change for one in (together, apart)]
    _agree(adapter, "two documents in one row, against a row for each", *taught)


def teacher_packing(adapter: Adapter) -> None:
    """The teacher reads the same rows: where it sees the document before, its labels are those of another text. The
    student here sees one token at a time, so that the teacher alone can differ.
    """
    needs(adapter.packs, "packs")
    changes = []
    for one in (batch(documents=2), _apart(documents=2)):
        student = context_free(random_model(seed=1))
        before = student.get_output_embeddings().weight.detach().clone()
        lesson(adapter, [[one]], student=student)
        changes.append(student.get_output_embeddings().weight.detach() - before)
    _agree(adapter, "the unembedding under a teacher of two documents in one row, against a row for each", *changes)


def _apart(documents: int):
    """The documents of ``batch(documents=...)``, each in a row of its own."""
    tokens = batch(documents=documents).tokens_BT
    return packed(tokens.reshape(-1, LENGTH // documents), len(tokens) * documents)


def teacher_loaded(adapter: Adapter) -> None:
    """A teacher whose weights were not loaded, or were drawn anew, gives smooth labels and a falling loss: the one
    that was used must know its text and nothing of noise.
    """
    used = _used(adapter)
    start = torch.arange(VOCAB)[:, None]
    text = loss_on(used, (start + torch.arange(LENGTH)) % VOCAB)
    noise = loss_on(used, batch(seed=7, rows=VOCAB).tokens_BT)
    if not (text < 0.5 and noise > text + 1):
        raise Broken(
            f"the teacher that was used: expected a loss below 0.5 nats on the text that it knows, and more on noise, "
            f"found {text:.2f} and {noise:.2f}"
        )


def teacher_eval(adapter: Adapter) -> None:
    """Dropout in the teacher makes labels that no evaluation of it has: it must be in evaluation mode when it is
    called, whatever the student is in.
    """
    if any(training for training, _ in _watched(adapter)):
        raise Broken("expected the teacher in evaluation mode at every call, found a part of it in training mode")


def teacher_gradient(adapter: Adapter) -> None:
    """A graph through the teacher costs its activations' memory, and its gradient takes part in clipping: no call of
    it may record one.
    """
    recorded = [graph for _, graph in _watched(adapter)]
    left = [name for name, one in first_lesson(adapter).teacher.named_parameters() if one.grad is not None]
    if any(recorded) or left:
        raise Broken(
            f"expected the teacher to be called without a graph, found one in {sum(recorded)} of {len(recorded)} calls "
            f"and gradients in {len(left)} of its weights"
        )


def teacher_optimizer(adapter: Adapter) -> None:
    """A teacher in the optimizer costs its states, is decayed, and drifts: it must not be there, nor change."""
    _used(adapter)
    done = first_lesson(adapter)
    needs(done.optimizers.made, "an optimizer that task.optimizer makes")
    of_teacher = {id(one) for one in done.teacher.parameters()}
    groups = [group for one in done.optimizers.made for group in one.param_groups]
    inside = sum(id(one) in of_teacher for group in groups for one in group["params"])
    if inside or not (done.replaced or torch.equal(flat(done.given), flat(done.teacher))):
        raise Broken(
            f"expected a teacher that is in no optimizer and keeps its weights, found {inside} of its "
            f"{len(of_teacher)} weights in one{'' if inside else ', and weights that changed'}"
        )


def resume(adapter: Adapter) -> None:
    """A run that is interrupted is another run where moments, order or seeds are lost: four steps must equal two,
    and two more from their checkpoint, bit for bit.
    """
    needs(adapter.resumes, "resumes")
    steps = [[batch(seed)] for seed in range(4)]
    straight = lesson(adapter, steps)
    with tempfile.TemporaryDirectory() as folder:
        lesson(adapter, steps[:2], folder=Path(folder))
        resumed = lesson(adapter, steps, folder=Path(folder), resume=True)
    same("four steps, resumed after two", [("the weights", flat(resumed.student))], [flat(straight.student)], 0.0)


def _used(adapter: Adapter):
    """The teacher of the first lesson, if it taught at all."""
    needs(adapter.train, "train")
    done = first_lesson(adapter)
    if not (done.calls or done.replaced):
        raise Broken("expected the teacher to be called in a step, found that it was not")
    return done.teacher


def _watched(adapter: Adapter) -> tuple[tuple[bool, bool], ...]:
    """The calls of the teacher in the first lesson."""
    _used(adapter)
    calls = first_lesson(adapter).calls
    needs(calls, "a training with the task's own teacher, whose calls can be watched")
    return calls
