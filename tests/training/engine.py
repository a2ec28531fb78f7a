"""A small world for the engine's tests: sequences, labels made of their tokens, and a run in processes of its own.

Started by ``torchrun`` it is one rank of a run: ``engine.py FOLDER OPTIONS-JSON``.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.config import ModelConfig, ObjectiveConfig, ParallelConfig, RoutingConfig, ScheduleConfig, TrainingConfig
from stillroom.corpora.corpus import make_batch
from stillroom.models import ModelPlan, build_model, plan_model
from stillroom.teachers import LiveTeacher
from stillroom.training import Hooks, Interrupted, TrainingData, TrainingResult, join, train
from stillroom.types import Batch, SoftLabels

VOCAB, LENGTH = 64, 16
MODEL = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, max_positions=LENGTH)
OBJECTIVES = {
    "hard": ObjectiveConfig(),
    "distilled": ObjectiveConfig(alpha=0.9),
    "routed": ObjectiveConfig(alpha=0.9, routing=RoutingConfig(rule="low-entropy", share=0.25)),
    "random": ObjectiveConfig(alpha=0.9, routing=RoutingConfig(rule="random", share=0.25)),
    "heads": ObjectiveConfig(heads=3),
    "distilled heads": ObjectiveConfig(heads=2, alpha=0.5),
    "reverse": ObjectiveConfig(alpha=0.5, divergence="reverse-kl"),
}
"""Those that every equality over ranks is asked of."""


def _routed(rule: str, **fields: Any) -> ObjectiveConfig:
    return ObjectiveConfig(alpha=0.9, routing=RoutingConfig(rule=rule, share=0.25, **fields))  # type: ignore[arg-type]


_FALLING = ScheduleConfig(kind="linear", final=0.1)
FURTHER_OBJECTIVES = {
    "forward": ObjectiveConfig(alpha=0.5, divergence="forward-kl"),
    "jensen-shannon": ObjectiveConfig(alpha=0.5, divergence="jensen-shannon", beta=0.3),
    "hot": ObjectiveConfig(alpha=0.5, temperature=2.0, temperature_form="both", temperature_schedule=_FALLING),
    "falling": ObjectiveConfig(alpha=0.9, alpha_schedule=_FALLING),
    "smoothed": ObjectiveConfig(alpha=0.5, label_smoothing=0.1, z_loss=1e-3),
    "threshold": _routed("entropy-threshold", threshold_nats=1.0),
    "improbable": _routed("low-gold-probability", share_schedule=_FALLING),
    "copied": _routed("copy-aware", hard_weight="keep"),
    "unsure": _routed("student-entropy"),
}
"""The rest of what a configuration can name."""
LIVE_ONLY, STORED_ONLY = {"reverse", "jensen-shannon", "hot"}, {"smoothed"}
"""Those that one kind of teacher cannot serve."""


@dataclass(frozen=True)
class Rows:
    """Sequences held as an array."""

    tokens: NDArray[np.int64]

    @property
    def sequence_length(self) -> int:
        """T, in tokens."""
        return self.tokens.shape[1]

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The sequences with these numbers."""
        return make_batch(torch.from_numpy(self.tokens[list(indices)]), 0)


def sequence_set(num: int, seed: int) -> Rows:
    """Sequences in which every token is followed by one of two, cut into documents."""
    generator = np.random.default_rng(seed)
    tokens = np.empty((num, LENGTH), dtype=np.int64)
    tokens[:, 0] = generator.integers(3, VOCAB, num)
    for place in range(1, LENGTH):
        tokens[:, place] = 3 + (tokens[:, place - 1] * 7 + generator.integers(0, 2, num)) % (VOCAB - 3)
    tokens[generator.random(tokens.shape) < 0.05] = 0
    return Rows(tokens)


@dataclass(frozen=True)
class PairLabels:
    """The two tokens that may follow, half each, with an entropy that depends on the token."""

    def labels(self, batch: Batch) -> SoftLabels:
        tokens_BT = batch.tokens_BT.cpu()
        follow = 3 + (tokens_BT[..., None] * 7 + torch.arange(2)) % (VOCAB - 3)
        shape = tokens_BT.shape
        return SoftLabels(
            ids=follow,
            weights=torch.full((*shape, 2), 0.5),
            entropy=0.5 + tokens_BT.float() / VOCAB,
            gold_logprob=torch.full(shape, -0.7),
            gold_rank=torch.zeros(shape, dtype=torch.int32),
        ).to(batch.tokens_BT.device)


def training_data(live: bool = False, num: int = 96, plan: bool = False) -> TrainingData:
    """Stored labels, or a live teacher wider than the student."""
    wider = MODEL.model_copy(update={"hidden_size": 48, "num_heads": 3})
    labels = LiveTeacher((plan_model if plan else build_model)(wider, VOCAB, 7)) if live else PairLabels()
    return TrainingData(sequence_set(num, 1), sequence_set(16, 2), labels)


def training_config(**changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "batch_sequences": 8, "checkpoint_seconds": 1e9, "validate_every": 0, "learning_rate": 0.01, "steps": 12,
    }  # fmt: skip
    return TrainingConfig(**(values | changes))


def run(
    folder: Path,
    *,
    objective: str = "hard",
    precision: str = "fp32",
    live: bool = False,
    stop_at: int | None = None,
    die_at: int | None = None,
    parallel: dict[str, Any] | None = None,
    model: ModelConfig = MODEL,
    plan: bool = False,
    **changes: Any,
) -> tuple[TrainingResult, str]:
    """Trains in this process (a rank of a run where torchrun started it); returns the result and the weights' hash.

    ``stop_at`` asks for a stop after so many steps; at ``die_at`` rank 1 is killed, once. With ``plan`` the
    model (and a live teacher) is made in its sharded form.
    """
    steps = iter(range(1, 1_000_000))

    def stop() -> bool:
        step = next(steps)
        if step == die_at and os.environ.get("RANK") == "1" and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return stop_at is not None and step >= stop_at

    config = training_config(**changes, parallel=ParallelConfig(**(parallel or {})))
    source = (plan_model if plan else build_model)(model, VOCAB, config.seed)
    built = source.model if isinstance(source, ModelPlan) else source
    result = train(
        source,
        training_data(live, plan=plan),
        config,
        (OBJECTIVES | FURTHER_OBJECTIVES)[objective],
        folder,
        precision_name=precision,
        hooks=Hooks(stop=stop),
        ranks=join(config.parallel),
    )
    return result, weight_hash(built)


def weight_hash(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        full = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter  # type: ignore[operator]
        digest.update(name.encode() + full.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# Children are forked from a server that has imported the engine once, and so start at once.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["stillroom.study.pipeline", "transformers.models.llama.modeling_llama"])  # as forked.py


def start(folder: Path, ranks: int = 1, **options: Any) -> list[Any]:
    """A run in a process of its own, or in several that form a group; ``finish`` waits for it."""
    return start_call(_child, (folder, options), ranks)


def start_call(function: Callable[..., None], arguments: tuple[Any, ...], ranks: int) -> list[Any]:
    """Calls a function in processes of their own, which form a group where they are several."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(ranks):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        process = _SERVER.Process(target=_in_place, args=(place if ranks > 1 else {}, function, arguments))
        process.start()
        started.append(process)
    return started


def _in_place(place: dict[str, Any], function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in place.items()})
    function(*arguments)


def _child(folder: Path, options: dict[str, Any]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(15))
    try:
        written = run(folder, **options)[1]
    except Interrupted:
        written = "interrupted"
    (folder / f"ended-{os.environ.get('RANK', '0')}").write_text(written)


def finish(processes: list[Any], folder: Path) -> str:
    """Waits for a run that must succeed; returns the hash of its weights, the same on every rank."""
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    written = {(folder / f"ended-{rank}").read_text() for rank in range(len(processes))}
    assert len(written) == 1
    return written.pop()


if __name__ == "__main__":
    torch.set_num_threads(1)
    (Path(sys.argv[1]) / f"ended-{os.environ['RANK']}").write_text(run(Path(sys.argv[1]), **json.loads(sys.argv[2]))[1])
