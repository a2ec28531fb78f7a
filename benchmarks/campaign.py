"""The GPU campaign: correctness on the device, speed beside others, then the studies; one command, in slices.

    python benchmarks/campaign.py --minutes 9 --out runs/gpu      (make gpu)
    python benchmarks/campaign.py --tiny --out /tmp/campaign      all of it at a size of seconds, on a processor

A part is a command in a process of its own. Its result, with card, date and versions, is ``OUT/PART.json``, complete or
absent, and its log ``OUT/logs/PART.txt``; a part that failed says so there and does not stop the others. The same
command goes on: what is done is not done again, a failed part is left alone until ``--again``, and a study continues
from its last step. A part that takes longer than what is left of the slice waits for the next one. See docs/gpu.md.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stillroom.files import read_json, write_json
from stillroom.results.json_form import as_json
from stillroom.study.environment import this_environment
from stillroom.types import UserError

ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context("forkserver")
PRELOAD = ["stillroom.study.pipeline", "transformers.models.llama.modeling_llama"]
"""What every part needs, imported once where there is no GPU: a process that has asked for one must not fork."""
PEERS = ("triton", "transformers", "liger-kernel", "trl", "cut-cross-entropy", "flash-attn", "vllm")
GRACE = 30.0
"""Seconds in which a study that is asked to stop saves its step."""
Values = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A command of Python. ``OUT`` in it is the folder for what it writes, ``MINUTES`` what is left of the slice."""

    name: str
    command: tuple[str, ...]
    minutes: float = 2.0
    """The longest that it may take; of a study, the least that is worth starting it for."""
    whole: str = ""
    """Of a study, which is stopped and continued: the file that it writes when all of it is done."""


def head(measure: str, precision: str, *, tiny: bool) -> Part:
    """The head beside Liger, TRL, cut-cross-entropy and whole logits."""
    sizes = ("64", "300", "16", "1") if tiny else ("8192", "131072", "4096", "10")
    options = zip(("--positions", "--vocab", "--width", "--repeats"), sizes, strict=True)
    own = ("--device", "cpu") if tiny else ("--memory",)
    asked = ("--measure", measure, "--precision", precision, "--out", "OUT", *own)
    return Part(
        f"head-{measure}-{precision}", ("benchmarks/head.py", *asked, *(word for one in options for word in one))
    )


def student(size: str, minutes: float, *, tiny: bool) -> Part:
    """A student's step beside a plain loop, both also compiled, over the matrix rate."""
    asked = (
        ("1M", "--batch", "2", "--repeats", "1", "--threads", "1") if tiny else (size, "--compiled", "--repeats", "2")
    )
    name = f"student-{size.lower()}"
    return Part(name, ("benchmarks/train.py", "--measure", "peak", "--out", "OUT", "--size", *asked), minutes)


def of_study(folder: str, whole: str, *, tiny: bool) -> Part:
    """A study under experiments/."""
    asked = ["--minutes", "MINUTES", "--runs", "OUT/runs", "--out", "OUT", "--tiny"]
    asked = asked if tiny else asked[:-1]
    return Part(folder.replace("_", "-"), (f"experiments/{folder}/run.py", *asked), 0.0 if tiny else 1.0, whole)


def parts(*, tiny: bool) -> list[Part]:
    """The campaign in its order: what is wrong is found before anything is measured, and studies come last."""
    without = ("-k", "not compiled") if tiny else ()  # a compiler takes minutes of a processor
    checks = ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "--junitxml", "OUT/checks.xml", *without)
    checks += ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # of what is imported before a part begins
    teachers, prompts = (("tiny",), ("4", "2", "8")) if tiny else (("sandbox", "1B"), ("64", "32", "64"))
    sizes = [word for one in zip(("--prompts", "--samples", "--new-tokens"), prompts, strict=True) for word in one]
    return [
        Part("checks", (*checks, "tests/training/test_on_device.py"), 5.0),
        *(head(measure, name, tiny=tiny) for measure in ("hard", "dense") for name in ("bf16", "fp32")),
        student("120M", 5.0, tiny=tiny),
        student("1B", 8.0, tiny=tiny),
        *(
            Part(f"labelling-{name.lower()}", ("benchmarks/store.py", "--random", name, "--out", "OUT/store.json"))
            for name in teachers
        ),
        Part("sampling", ("benchmarks/evaluate.py", "sampling", *sizes, "--out", "OUT/sampling.json"), 3.0),
        of_study("050_recall_120m", "results.json", tiny=tiny),
        of_study("051_worth_120m", "worth.json" if tiny else "answer.json", tiny=tiny),
    ]


def card() -> str:
    """The GPUs with driver and memory; the processor where there is none."""
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return this_environment().processor


def about() -> Values:
    """What every result carries: card, date and versions."""
    versions = {name: _version(name) for name in PEERS}
    return {"card": card(), **as_json(this_environment()), "versions": {k: v for k, v in versions.items() if v}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _work(words: Sequence[str], log: Path, spent: Any) -> None:
    """In the part's process: runs its command, and ends with all that it has started when the campaign does."""
    os.setsid()
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def follow() -> None:
        wait([sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    try:
        _as_python(words)
    finally:
        spent.value = sum(os.times()[:4])


def _as_python(words: Sequence[str]) -> None:
    """What ``python WORDS`` does."""
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0:0] = list(words), [str(Path(words[0]).parent)]
        runpy.run_path(words[0], run_name="__main__")


@dataclass(frozen=True)
class Ended:
    """How a part's process ended: its exit code or what ended it, and what it took."""

    how: int | str
    seconds: float
    processor_seconds: float


def run(part: Part, out: Path, seconds: float) -> Ended:
    """Runs a part for at most so many seconds."""
    begin, spent = time.monotonic(), FORKS.Value("d", 0.0)
    folder, log = out / part.name, out / "logs" / f"{part.name}.txt"
    if not part.whole:  # what an earlier try left is not this one's
        shutil.rmtree(folder, ignore_errors=True)
        log.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(exist_ok=True)
    log.touch()
    known = {"OUT": str(folder), "MINUTES": f"{max(seconds - GRACE / 2, 1) / 60:.2f}"}
    words = [known.get(word, word.replace("OUT/", f"{folder}/")) for word in part.command]
    process = FORKS.Process(target=_work, args=(words, log, spent))
    process.start()
    try:
        process.join(seconds + (GRACE if part.whole else 0.0))
    except BaseException:
        process.terminate()  # a study saves its step
        process.join(GRACE)
        raise
    finally:
        is_late = process.is_alive()
        process.kill()
        with contextlib.suppress(ProcessLookupError):  # and what it has started
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    how = f"took longer than {seconds / 60:.1f} minutes" if is_late else process.exitcode or 0
    return Ended(how, round(time.monotonic() - begin, 1), round(spent.value, 1))


def written(part: Part, out: Path, ended: Ended) -> Values | None:
    """The result of a part that has ended; None for a study that goes on next time."""
    folder = out / part.name
    was_stopped = ended.how in (0, -signal.SIGTERM) or isinstance(ended.how, str)
    if part.whole and was_stopped and not (folder / part.whole).exists():
        return None
    found = {path.stem: numbers_in(path) for path in sorted(folder.glob("*.[jx][sm]*"))}
    log = (out / "logs" / f"{part.name}.txt").read_text(errors="replace").split("\n")
    error = {} if ended.how == 0 else {"error": str(ended.how), "log": [line for line in log if line.strip()][-5:]}
    status = "failed" if error else "done"
    took = {"seconds": ended.seconds, "processor_seconds": ended.processor_seconds}
    return {"part": part.name, "status": status, **error, **about(), **took, "command": part.command, "results": found}


def numbers_in(path: Path) -> Any:
    """What a file of a part says: JSON, or tests; of one that was cut off, that it was."""
    try:
        return tests_in(path) if path.suffix == ".xml" else read_json(path)
    except (UserError, ElementTree.ParseError) as error:
        return {"unreadable": str(error)}


def tests_in(path: Path) -> dict[str, str]:
    """Every test of a JUnit file: passed, or why not."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        told = next((one for one in case if one.tag in ("failure", "error", "skipped")), None)
        found[case.get("name", "")] = "passed" if told is None else f"{told.tag}: {told.get('message', '')}"
    return found


def status_of(part: Part, path: Path) -> str | None:
    """How a part ended before; None where it did not, or was another command then."""
    before = read_json(path) if path.exists() else {}
    return before["status"] if before.get("command") == list(part.command) else None


def campaign(everything: Sequence[Part], out: Path, minutes: float, *, again: bool = False) -> int:
    """Does what is next until the slice is over; how many parts have failed, in this slice or an earlier one."""
    until, failed = time.monotonic() + 60 * minutes, 0
    for part in everything:
        path, left = out / f"{part.name}.json", until - time.monotonic()
        before = status_of(part, path)
        if before == "done" or (before == "failed" and not again):
            print(f"{part.name}: {before} before" + (", see its log; --again tries it anew" * (before == "failed")))
            failed += before == "failed"
            continue
        if left < 60 * part.minutes or left <= 0:
            print(f"{part.name}: waits, {max(left, 0) / 60:.1f} minutes are left and it takes up to {part.minutes:g}")
            continue
        ended = run(part, out, left if part.whole else 60 * part.minutes)
        made = written(part, out, ended)
        if made is not None:
            write_json(path, made)
        status = "goes on next time" if made is None else made["status"]
        failed += status == "failed"
        print(f"{part.name}: {status} after {ended.seconds:.0f} s", flush=True)
    return failed


def main() -> int:
    """Reads the command line and goes on with the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="of this slice (default 9, of a tiny one 30)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="results, and those of earlier slices")
    parser.add_argument("--again", action="store_true", help="try failed parts anew")
    parser.add_argument("--tiny", action="store_true", help="every part at a size of seconds; needs no GPU")
    options = parser.parse_args()
    if not options.tiny and not shutil.which("nvidia-smi"):
        print(
            "campaign: there is no GPU here (no nvidia-smi); --tiny tries every part on the processor.", file=sys.stderr
        )
        return 2
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    FORKS.set_forkserver_preload(PRELOAD if options.tiny else [])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    minutes = options.minutes or (30.0 if options.tiny else 9.0)
    failed = campaign(parts(tiny=options.tiny), out, minutes, again=options.again)
    print(f"results in {out}" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
