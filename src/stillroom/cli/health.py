"""What a report of a bug needs to know of a machine, and what is wrong with it: for ``stillroom doctor``.

Imports no torch; a process of its own asks it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import stillroom
from stillroom.cores import num_cores
from stillroom.types import UserError

_PATIENCE_SECONDS = 300
_GIB = 2**30
_LEAST_MEMORY_BYTES, _LEAST_DISK_BYTES, _SLOW_SECONDS = 2 * _GIB, 1 * _GIB, 30.0
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class TorchFacts:
    """What torch says, in a process of its own."""

    cuda: str
    """Version of CUDA or ROCm that it was built for, empty for none."""
    device: str
    """The GPU that is used, with its memory, or ``cpu``."""
    processor: str
    multiplies_bf16: bool
    """Whether the device has instructions for it; else ``precision: auto`` is fp32."""
    threads: int
    import_seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a report of a bug needs; no names of users, hosts or folders."""

    stillroom: str
    python: str
    system: str
    packages: Mapping[str, str]
    """Version of each package that stillroom asks for, extras apart; empty where it is missing."""
    unmet: tuple[str, ...]
    """Requirements that the installed packages do not meet."""
    torch: TorchFacts | None
    torch_error: str
    has_accelerator: bool
    """Whether the system shows a device that torch might use."""
    cores: int
    """Those that this process may run on."""
    core_quota: float | None
    """Cores' worth of time that a container is given; None for no limit."""
    memory_bytes: int
    free_memory_bytes: int
    free_disk_bytes: int
    """Of the current folder."""
    is_writable: bool
    jail: str
    """The kind that model-written code is run in; empty for none."""
    jail_error: str
    start_seconds: Mapping[str, float]
    """Until ``python -c pass`` and ``stillroom --version`` have ended."""
    encoding: str
    has_other_command: bool
    """Whether ``stillroom`` on the PATH belongs to another Python."""
    extras: tuple[str, ...] = field(default=())
    """Extras of stillroom whose packages are all installed."""


def examined() -> Health:
    """Everything asked and measured, in about ten seconds."""
    packages, unmet, extras = _required()
    torch, torch_error = _asked_of_torch()
    jail, jail_error = _jail()
    memory, free = _memory()
    return Health(
        stillroom=stillroom.__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=platform.platform(),
        packages=packages,
        unmet=unmet,
        extras=extras,
        torch=torch,
        torch_error=torch_error,
        has_accelerator=any(next(Path("/dev").glob(one), None) for one in ("nvidia[0-9]*", "kfd", "dxg")),
        cores=num_cores(),
        core_quota=_core_quota(),
        memory_bytes=memory,
        free_memory_bytes=free,
        free_disk_bytes=shutil.disk_usage(".").free,
        is_writable=os.access(".", os.W_OK),
        jail=jail,
        jail_error=jail_error,
        start_seconds={"python": _seconds(["-c", "pass"]), "stillroom": _seconds(["-m", "stillroom", "--version"])},
        encoding=sys.stdout.encoding or "",
        has_other_command=_has_other_command(),
    )


def _required() -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Packages with their versions, requirements that are not met, and extras that are there."""
    try:
        from packaging.requirements import Requirement  # transformers brings it

        asked = [Requirement(text) for text in metadata.requires("stillroom") or ()]
    except ImportError as error:  # of packaging, or of stillroom where its source is run as it lies there
        return {}, (str(error.name),), ()
    core = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    extras = metadata.metadata("stillroom").get_all("Provides-Extra") or ()
    met = {one: _is_met(one.name, str(one.specifier)) for one in asked}
    whole = [
        extra
        for extra in extras
        if all(met[one] for one in asked if one not in core and one.marker and one.marker.evaluate({"extra": extra}))
    ]
    unmet = tuple(f"{one.name}{one.specifier}" for one in core if not met[one])
    return {one.name: _version(one.name) for one in core}, unmet, tuple(whole)


def _is_met(name: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return bool(_version(name)) and SpecifierSet(wanted).contains(_version(name), prereleases=True)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _asked_of_torch() -> tuple[TorchFacts | None, str]:
    """What it says, or why it says nothing."""
    command = [sys.executable, "-P", "-m", "stillroom.cli._torch_facts"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return None, f"nothing was imported within {_PATIENCE_SECONDS} s"
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        return None, said or f"the process ended with {done.returncode}"
    return TorchFacts(**json.loads(done.stdout.strip().rpartition("\n")[2])), ""


def _jail() -> tuple[str, str]:
    from stillroom.evaluation.grading.code.jail import require_sandbox

    try:
        return require_sandbox(), ""
    except UserError as error:
        return "", str(error)


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-P", *arguments], capture_output=True, timeout=_PATIENCE_SECONDS, check=False)
    return time.perf_counter() - start


def _memory() -> tuple[int, int]:
    """Bytes in all and free, a container's limit counted; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(lines[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
        with contextlib.suppress(OSError, ValueError):
            limit = int((_CGROUP / "memory.max").read_text())
            used = int((_CGROUP / "memory.current").read_text())
            total, free = min(total, limit), min(free, limit - used)
        return total, free
    return 0, 0


def _core_quota() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)
    return None


def _has_other_command() -> bool:
    found = shutil.which("stillroom")
    return found is not None and Path(found).parent.resolve() != Path(sysconfig.get_path("scripts")).resolve()


def _of_packages(health: Health) -> Iterator[str]:
    for one in health.unmet:
        yield f"the installed packages do not meet {one}; pip install '{one}'."


def _of_torch(health: Health) -> Iterator[str]:
    torch = health.torch
    if torch is None:
        yield f"torch or transformers cannot be imported ({health.torch_error}); install stillroom again."
    elif torch.device == "cpu" and health.has_accelerator:
        why = f"built for {torch.cuda}, which the driver does not offer" if torch.cuda else "built without CUDA"
        yield f"a GPU is there that torch cannot use ({why}); install the build for your driver, see pytorch.org."
    elif torch.device == "cpu" and torch.cuda:
        yield "torch brings gigabytes of CUDA's libraries and there is no GPU; install the CPU build, see pytorch.org."
    if torch is not None and torch.import_seconds["torch"] > _SLOW_SECONDS:
        yield (
            f"importing torch takes {torch.import_seconds['torch']:.0f} s; the environment may lie on a slow disk: "
            "make it on a local one."
        )


def _of_cores(health: Health) -> Iterator[str]:
    quota = math.ceil(health.core_quota or health.cores)
    if quota < health.cores:
        yield (
            f"{health.cores} cores are seen, and the container is given the time of {quota}; give it a set of cores "
            f"(--cpuset-cpus), or start stillroom by taskset -c 0-{quota - 1}."
        )
    elif health.torch is not None and health.torch.threads > health.cores:
        yield (
            f"torch would start {health.torch.threads} threads on {health.cores} cores; "
            f"set OMP_NUM_THREADS={health.cores}."
        )


def _of_space(health: Health) -> Iterator[str]:
    if health.memory_bytes and health.free_memory_bytes < _LEAST_MEMORY_BYTES:
        free = health.free_memory_bytes / _GIB
        yield f"{free:.1f} GiB of memory are free, and training needs about two; end other programs first."
    if health.free_disk_bytes < _LEAST_DISK_BYTES:
        free = health.free_disk_bytes / _GIB
        yield f"{free:.1f} GiB are free on this folder's disk; free some (stillroom ls --prune) or use another folder."
    if not health.is_writable:
        yield "this folder cannot be written, and runs go there; change to another one or give --out."


def _of_code(health: Health) -> Iterator[str]:
    if not health.jail:
        yield health.jail_error


def _of_terminal(health: Health) -> Iterator[str]:
    if health.has_other_command:
        yield "the command stillroom on the PATH is of another Python; activate this one's environment."
    if health.encoding and not health.encoding.lower().replace("-", "").startswith("utf8"):
        yield f"the output is encoded as {health.encoding}, which lacks signs of tables; set PYTHONUTF8=1."


_RULES: tuple[Callable[[Health], Iterator[str]], ...] = (
    _of_packages, _of_torch, _of_cores, _of_space, _of_code, _of_terminal
)  # fmt: skip


def what_is_wrong(health: Health) -> list[str]:
    """One sentence on everything that is wrong, with what to do."""
    return [sentence for rule in _RULES for sentence in rule(health)]
