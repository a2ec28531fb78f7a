"""Checkpoints: weights, optimizer state and position, complete or not there, checked by hash when read.

PyTorch's distributed checkpointing writes them in its safetensors form, a file per rank, and everything else is JSON,
so that loading one never runs code and any number of ranks can read what any other number wrote.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import xxhash
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from stillroom import disk
from stillroom.checksums import check_of
from stillroom.files import disk_errors, read_json, read_json_object, write_json
from stillroom.training.distributed import ALONE, Ranks
from stillroom.types import UserError, printable

logger = logging.getLogger(__name__)
_STEP = re.compile(r"step-\d{8,}")
SCHEMA = 3
_WITHOUT_HASHES = 2
"""The schema before, whose ``state.json`` has no hash of its own."""


def run_tensors(model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """Every tensor that a run needs to go on: ``model.NAME``, and ``optimizer.NAME.KEY`` for each moment of NAME."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
    return tensors


class CheckpointState(TypedDict):
    """What ``state.json`` of a checkpoint says of the run: steps done, and seconds that training took so far."""

    step: int
    seconds: float


class Checkpoints:
    """The checkpoints ``folder/step-NNNNNNNN`` of a run, written in the background.

    The newest ``keep_last`` stay, and all whose step ``keeps`` says. All ranks must call every method at the same step.
    """

    def __init__(
        self, folder: Path, ranks: Ranks = ALONE, keep_last: int = 2, keeps: Callable[[int], bool] = lambda step: False
    ) -> None:
        self.folder, self._ranks = folder, ranks
        self._keep_last, self._keeps = keep_last, keeps
        # A group of its own: the background thread must not interleave with the messages of training.
        group = dist.new_group(backend="gloo") if ranks.mesh is not None else None
        self._group = group if isinstance(group, dist.ProcessGroup) else None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, step: int, tensors: dict[str, Tensor], state: Mapping[str, float]) -> None:
        """Copies the tensors and begins to write them; raises what went wrong with the save before this one."""
        self.wait()
        staged = {name: _staged(value) for name, value in tensors.items()}
        self._thread = threading.Thread(target=self._write, args=(step, staged, state), name=f"checkpoint-{step}")
        self._thread.start()

    def wait(self) -> None:
        """Returns when the last save is complete; raises what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, step: int, tensors: dict[str, Tensor], state: Mapping[str, float]) -> None:
        target = self.folder / f"step-{step:08d}"
        scratch = self.folder / f".{target.name}.unfinished"
        try:
            with disk_errors(self.folder), _unwrapped(), _quiet():
                if self._ranks.is_first:
                    shutil.rmtree(scratch, ignore_errors=True)
                    scratch.mkdir(parents=True)
                self._meet()
                writer = HuggingFaceStorageWriter(str(scratch), save_distributed=True)
                writer.sync_files = False  # it would not do without where a file system knows no flushing
                dcp.save(tensors, storage_writer=writer, process_group=self._group, no_dist=self._group is None)
                _write_hash(scratch, self._ranks.rank)
                self._meet()
                if self._ranks.is_first:
                    _write_state(scratch, {"schema": SCHEMA, "step": step, "ranks": self._ranks.size, **state})
                    shutil.rmtree(target, ignore_errors=True)
                    disk.publish(scratch, target)
                    self._prune()
        except BaseException as error:
            shutil.rmtree(scratch, ignore_errors=True)
            self._error = error

    def _meet(self) -> None:
        if self._group is not None:
            dist.barrier(group=self._group)

    def _prune(self) -> None:
        for old in found(self.folder)[: -self._keep_last]:
            if not self._keeps(step_of(old)):
                shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> tuple[Path, CheckpointState] | None:
        """The newest undamaged checkpoint and its state; a damaged one is named in a warning and passed over."""
        paths = found(self.folder)
        for place, path in reversed(list(enumerate(paths))):
            damage = _damage(path, self._ranks)
            if not self._ranks.any(damage is not None):
                return path, read_json(path / "state.json")
            if damage is not None:
                then = f"going back to {paths[place - 1].name}" if place else "none is left: beginning again"
                logger.warning("%s: %s is damaged; %s", printable(path), damage, then)
        return None

    def forget_after(self, step: int) -> None:
        """Removes what lies beyond a step, which is damaged where that step's is the newest that can be read."""
        if self._ranks.is_first:
            for later in found(self.folder):
                if step_of(later) > step:
                    shutil.rmtree(later, ignore_errors=True)

    def is_whole(self, path: Path) -> bool:
        """Whether every file of a checkpoint has the hash that it was written with."""
        return not self._ranks.any(_damage(path, self._ranks) is not None)

    def load(self, path: Path, model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Puts a checkpoint's tensors into the model and the optimizers, whatever number of ranks wrote it."""
        reader = HuggingFaceStorageReader(str(path))
        stored = reader.read_metadata().state_dict_metadata
        _make_room(model, optimizers, {name: tuple(entry.size) for name, entry in stored.items()})  # type: ignore[union-attr]
        tensors = run_tensors(model, optimizers)
        missing = sorted(tensors.keys() ^ stored.keys())
        if missing:
            raise UserError(
                f"{path}: does not fit this run ({missing[0]} is in one of them only); choose another folder "
                "or restore the configuration that they were made with."
            )
        with _quiet():
            dcp.load(tensors, storage_reader=reader, process_group=self._group, no_dist=self._group is None)


def found(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if disk.is_finished(path) and _STEP.fullmatch(path.name))


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint, damaged or not."""
    return bool(_STEP.fullmatch(folder.name)) and any(folder.glob("hash-*.json"))


def load_tensors(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint whose names begin with ``prefix``, whole, whatever number of ranks wrote them."""
    reader = HuggingFaceStorageReader(str(path))
    stored = reader.read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)  # type: ignore[union-attr]
        for name, entry in stored.items()
        if name.startswith(prefix)
    }
    with _quiet():
        dcp.load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def step_of(path: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(path.name.removeprefix("step-"))


def _staged(value: Tensor) -> Tensor:
    """A copy on the processor that training will not change."""
    return value.detach().to("cpu", copy=True) if value.device.type != "cpu" else value.detach().clone()


def _shard(rank: int) -> str:
    """The file that rank writes, as ``HuggingFaceStorageWriter`` names it."""
    return f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"


def _digest(path: Path) -> str | None:
    """XXH3 of a file; None where there is none (a rank without tensors of its own writes no file)."""
    if not path.exists():
        return None
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _write_hash(folder: Path, rank: int) -> None:
    """Brings a rank's file to the disk and writes its hash beside it."""
    shard = folder / _shard(rank)
    if shard.exists():
        with shard.open("rb") as stream:
            disk.flush(stream.fileno())
    write_json(folder / f"hash-{rank + 1:05d}.json", {"xxh3": _digest(folder / _shard(rank))})


def _write_state(folder: Path, state: Mapping[str, float]) -> None:
    """Writes ``state.json`` with the hash of every shard and one of itself: nothing of another step fits it."""
    ranks = range(1, int(state["ranks"]) + 1)
    body = {**state, "shards": [read_json(folder / f"hash-{number:05d}.json")["xxh3"] for number in ranks]}
    write_json(folder / "state.json", body | {"check": check_of(body)})


def _state_of(path: Path) -> dict[str, Any]:
    """The state of a checkpoint; raises ``ValueError`` where it is not as it was written."""
    state: dict[str, Any] = read_json_object(path / "state.json")
    check = state.pop("check", None)
    is_old = state["schema"] == _WITHOUT_HASHES and check is None
    if (check != check_of(state) or state["schema"] != SCHEMA) and not is_old:
        raise ValueError("state")
    if state["step"] != step_of(path):
        raise ValueError("step")
    return state


def _damage(path: Path, ranks: Ranks) -> str | None:
    """The first damaged file among those that this rank checks: each rank reads its part of them."""
    name = "state.json"
    try:
        state = _state_of(path)
        for number in range(ranks.rank, int(state["ranks"]), ranks.size):
            name = f"hash-{number + 1:05d}.json"
            digest = read_json(path / name)["xxh3"]
            if "shards" in state and state["shards"][number] != digest:
                return name
            name = _shard(number)
            if digest != _digest(path / name):
                return name
    except (UserError, ValueError, KeyError, IndexError, TypeError, OSError):
        return name
    return None


def _make_room(model: nn.Module, optimizers: list[Optimizer], sizes: dict[str, tuple[int, ...]]) -> None:
    """Gives fresh optimizers the state that a checkpoint holds, with zeros in it, sharded as the parameters are."""
    owner = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        optimizer = owner.get(id(parameter))
        for full, size in sizes.items():
            if optimizer is None or not full.startswith(prefix) or "." in full.removeprefix(prefix):
                continue
            key = full.removeprefix(prefix)
            room = torch.zeros_like(parameter) if size == tuple(parameter.shape) else torch.zeros(size)
            optimizer.state[parameter][key] = room if isinstance(room, DTensor) or size else room.to(parameter.device)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the notice that a single process is a single process, which was asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Turns the wrapped error of a rank back into what it was: a full disk is a full disk."""
    try:
        yield
    except CheckpointException as error:
        causes = [failure[0] for failure in error.failures.values()]
        raise next((cause for cause in causes if isinstance(cause, OSError)), causes[0]) from error
    except RuntimeError as error:  # the tensor library writes files itself and reports a full disk in words
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device") from error
        raise
