"""From files to token ids beside other software. Writes ``benchmarks/results/corpus.json`` and prints a table.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install datatrove[io] orjson datasets tokenizers
    python benchmarks/corpus.py --peers /tmp/peers/bin/python [--tokenizer teachers/smollm2-135m]
    python benchmarks/corpus.py --mb 2 --large-mb 4 --large-files 50 --rounds 1 --shards 50   # to see that it runs

The text is Python source of the installed packages, cut into documents of at most 4,000 characters, as JSON lines and
Parquet (8 files each), as many text files and as one. Every measurement is a process of its own; the ways take turns
within a round, in another order each round, and a ratio is that of one round: its median, lowest and highest are told.
Bare ``tokenizers``, the limit, is measured again right after each layout of ours, always over the same texts in memory.
Tokens of ours are those that stand in the finished corpus, although some more were encoded. With ``--scratch`` texts
and measurements stay there, and the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from corpus_peers import PEERS

RESULTS = Path(__file__).parent / "results" / "corpus.json"
LAYOUTS = ("jsonl", "parquet", "many files", "one file")
LENGTH, DOCUMENT_CHARS, FILES = 1024, 4000, 8
TRAINED, HELD_OUT = 0.94, 0.005
"""Parts of the tokens that are asked for: of the nineteen documents in twenty that may be trained on nearly all, of the
others few, since a measurement needs no more of a large corpus."""
LARGE = 0.97
"""Of the tokens that so much more text would hold: its files have another number of tokens a byte."""
REACH = {
    "over datatrove": 1.5, "over datasets.map": 1.5, "over tokenizers": 0.85, "one large file over many": 0.95,
    "two workers over one": 1.8,
}  # fmt: skip
MOST_MB, MOST_OPEN_SECONDS = 600, 1.0
Row = dict[str, Any]


def library_text() -> Iterator[str]:
    """Source files of the standard library and of installed packages, without end."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "purelib")]
    files = sorted({file for folder in folders for file in Path(folder).rglob("*.py")})
    while True:
        for file in files:
            yield file.read_text(encoding="utf-8", errors="ignore")


def documents(size: int) -> Iterator[str]:
    """Documents of ``size`` bytes together, cut at line ends."""
    for text in library_text():
        lines = text.splitlines(keepends=True)
        while lines:
            chars, count = 0, 0
            while count < len(lines) and (chars + len(lines[count]) <= DOCUMENT_CHARS or not count):
                chars, count = chars + len(lines[count]), count + 1
            document, lines = "".join(lines[:count])[:DOCUMENT_CHARS], lines[count:]
            yield document
            size -= len(document.encode())
            if size <= 0:
                return


@dataclass(frozen=True)
class Texts:
    """The same documents in every layout."""

    folder: Path
    mb: float
    text_files: int

    def files(self, layout: str) -> list[str]:
        """The files of a layout, written where they are not there."""
        place = self.folder / layout.replace(" ", "-")
        if not place.exists():
            place.mkdir(parents=True)
            getattr(self, f"_write_{layout.replace(' ', '_')}")(place)
        return sorted(map(str, place.iterdir()))

    def _write_jsonl(self, place: Path) -> None:
        handles = [(place / f"{number}.jsonl").open("w") for number in range(FILES)]
        for number, text in enumerate(documents(int(self.mb * 1e6))):
            handles[number % FILES].write(json.dumps({"text": text}) + "\n")
        for handle in handles:
            handle.close()

    def _write_parquet(self, place: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        for file in self.files("jsonl"):
            texts = [json.loads(line)["text"] for line in Path(file).read_text().splitlines()]
            parquet.write_table(
                pyarrow.table({"text": texts}), place / f"{Path(file).stem}.parquet", row_group_size=1000
            )

    def _write_many_files(self, place: Path) -> None:
        texts, size = documents(int(self.mb * 1e6)), self.mb * 1e6 / self.text_files
        for number, text in enumerate(texts):
            parts = [text]
            while sum(map(len, parts)) < size and (more := next(texts, None)) is not None:
                parts.append(more)
            (place / f"{number:06d}.txt").write_text("".join(parts))

    def _write_one_file(self, place: Path) -> None:
        with (place / "all.txt").open("w") as handle:
            handle.writelines(documents(int(self.mb * 1e6)))


def tokenizer_folder(asked: str | None, folder: Path) -> str:
    """A tokenizer of 49k tokens: the one asked for, SmolLM2's where it lies in ``teachers/``, else one trained here."""
    here = Path(__file__).parents[1] / "teachers" / "smollm2-135m"
    if asked or (here / "tokenizer.json").is_file():
        return asked or str(here)
    from stillroom.corpora import train_tokenizer

    train_tokenizer(islice(documents(20_000_000), None), 49_152).save_pretrained(folder / "tokenizer")
    return str(folder / "tokenizer")


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    tokenizer: str
    peers: str
    workers: int
    eos: str

    def peer(self, name: str, texts: Texts, layout: str) -> Row:
        """Another way from the same files, in an environment that has its package."""
        with tempfile.TemporaryDirectory(dir=texts.folder) as out:
            asked = {"files": texts.files(layout), "layout": layout, "tokenizer": self.tokenizer, "out": out}
            asked |= {"workers": self.workers, "eos": self.eos}
            return _told([self.peers, str(Path(__file__).with_name("corpus_peers.py")), name, json.dumps(asked)])

    def ours(self, texts: Texts, layout: str, tokens: int, workers: int | None = None) -> Row:
        """A corpus of nearly all of the text."""
        files = texts.files(layout)
        path = files[0] if len(files) == 1 else str(Path(files[0]).parent)
        with tempfile.TemporaryDirectory(dir=texts.folder) as out:
            asked = {"path": path, "tokenizer": self.tokenizer, "jobs": workers or self.workers, "out": f"{out}/corpus"}
            asked |= {"train": int(tokens * TRAINED), "heldout": int(tokens * HELD_OUT)}
            return _told([sys.executable, __file__, "--ours", json.dumps(asked)], alone=workers == 1)


def _told(command: list[str], *, alone: bool = False) -> Row:
    """What a process tells, its rate, and the highest resident memory of it or of any process that it starts.

    ``alone``: on one core, since a single worker else encodes in as many threads as there are cores.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | ({"TOKENIZERS_PARALLELISM": "false"} if alone else {})
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        process = subprocess.Popen(command, stdout=said, stderr=complained, env=environment)
        peak = 0
        while process.poll() is None:
            peak = max(peak, *map(_resident_kb, _family(process.pid)), 0)
            time.sleep(0.1)
        for stream in (said, complained):
            stream.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command[:3])} ended with {process.returncode}:\n{complained.read()[-2000:]}")
        row = json.loads(said.read().splitlines()[-1])
    return row | {"tokens_per_second": row["tokens"] / row["seconds"], "peak_mb": peak / 1024}


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _family(int(child))


def _resident_kb(pid: int) -> int:
    """The highest resident memory of a process since it began its program; 0 where it has ended."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0


def build(asked: Row) -> Row:
    """A corpus built in this process and those that it starts."""
    from stillroom.config import CorpusConfig, SourceConfig
    from stillroom.corpora import build_corpus
    from stillroom.corpora.workers import Workers

    config = CorpusConfig(
        sources={"text": SourceConfig(kind="files", path=asked["path"], max_document_chars=DOCUMENT_CHARS)},
        tokenizer=asked["tokenizer"], sequence_length=LENGTH,
        train_tokens=asked["train"], heldout_tokens=max(LENGTH, asked["heldout"]),
        shuffle_tokens=asked.get("shard_tokens", 0),
    )  # fmt: skip
    begin = time.perf_counter()
    made = build_corpus(config, Path(asked["out"]), None, Workers(jobs=asked["jobs"]))
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "tokens": made.train.num_tokens + made.heldout.num_tokens}


def opened(folder: str) -> Row:
    """Seconds until a corpus is open and its first and last sequence are read."""
    from stillroom.corpora import open_corpus

    begin = time.perf_counter()
    train = open_corpus(Path(folder)).train
    train.tokens([0, len(train) - 1])
    return {"seconds": time.perf_counter() - begin, "tokens": train.num_tokens, "shards": len(train.shards)}


def many_shards(bench: Bench, texts: Texts, shards: int) -> Row:
    """Opening a corpus of so many shards, in a process that has done nothing else."""
    with tempfile.TemporaryDirectory(dir=texts.folder) as out:
        path, shard = str(Path(texts.files("jsonl")[0]).parent), 2 * LENGTH
        asked = {"path": path, "tokenizer": bench.tokenizer, "jobs": 1, "out": f"{out}/corpus"}
        asked |= {"train": shards * shard, "heldout": LENGTH, "shard_tokens": shard}
        _told([sys.executable, __file__, "--ours", json.dumps(asked)])
        return _told([sys.executable, __file__, "--opened", f"{out}/corpus"])


def spread(ratios: list[float], reach: float) -> Row:
    """Median and range of the ratios of the rounds, and whether the median is what was to be reached."""
    median = statistics.median(ratios)
    return {"value": median, "low": min(ratios), "high": max(ratios), "rounds": len(ratios), "reach": reach,
            "reached": median >= reach}  # fmt: skip


def rates(rows: list[Row]) -> list[float]:
    return [row["tokens_per_second"] for row in rows]


def ratios(ours: list[Row], theirs: list[Row]) -> list[float]:
    return [a / b for a, b in zip(rates(ours), rates(theirs), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=200, help="Text of every layout, in millions of bytes.")
    parser.add_argument("--text-files", type=int, default=10_000)
    parser.add_argument("--large-mb", type=float, default=2000, help="Text of the one large file; 0 leaves it out.")
    parser.add_argument("--large-files", type=int, default=10_000, help="Files of the same text.")
    parser.add_argument("--shards", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large-rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tokenizer", help="Folder of a tokenizer.json.")
    parser.add_argument("--peers", default=sys.executable, help="Python of an environment that has the other packages.")
    parser.add_argument("--without", nargs="*", default=[], choices=PEERS, help="Packages that are not there.")
    parser.add_argument("--scratch", help="Folder for texts and corpora; several times --large-mb are needed.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--ours", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--opened", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ours or asked.opened:
        print(json.dumps(build(asked.ours) if asked.ours else opened(asked.opened)))
        return
    with contextlib.ExitStack() as stack:
        found = measure(asked, Path(asked.scratch or stack.enter_context(tempfile.TemporaryDirectory())))
    asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print_table(found)


class Kept:
    """Measurements by name, each written down when it is made and not made again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: dict[str, Row] = json.loads(file.read_text()) if file.exists() else {}

    def row(self, name: str, make: Callable[[], Row]) -> Row:
        """The measurement of this name."""
        if name not in self._rows:
            self._rows[name] = make()
            self._file.write_text(json.dumps(self._rows))
            print(f"{name}: {self._rows[name].get('tokens_per_second', 0):,.0f} tokens/s", file=sys.stderr)
        return self._rows[name]


def measure(asked: argparse.Namespace, scratch: Path) -> Row:
    """Every row of the table."""
    scratch.mkdir(exist_ok=True, parents=True)
    kept = Kept(scratch / "rows.json")
    tokenizer = tokenizer_folder(asked.tokenizer, scratch)
    texts = Texts(scratch / "texts", asked.mb, asked.text_files)
    bench = Bench(tokenizer, asked.peers, asked.workers, _eos(tokenizer))
    for layout in LAYOUTS:
        texts.files(layout)
    tokens = kept.row("first", lambda: bench.peer("tokenizers", texts, "jsonl"))["tokens"]
    ways: dict[str, Callable[[], Row]] = {}
    for layout in LAYOUTS:
        ways[f"ours, {layout}"] = partial(bench.ours, texts, layout, tokens)
        ways[f"tokenizers, {layout}"] = partial(bench.peer, "tokenizers", texts, "jsonl")  # beside it in time
    ways["ours, one worker"] = partial(bench.ours, texts, "jsonl", tokens, 1)
    for name in PEERS:
        for layout in ("jsonl", "parquet"):
            if name != "tokenizers" and name not in asked.without:
                ways[f"{name}, {layout}"] = partial(bench.peer, name, texts, layout)
    rows: dict[str, list[Row]] = {name: [] for name in ways}
    for number in range(asked.rounds):
        turn = number % len(ways)
        for name in [*ways][turn:] + [*ways][:turn]:
            rows[name].append(kept.row(f"round {number + 1}: {name}", ways[name]))
    found = {"about": about(asked, tokens), "ways": rows, "ratios": compared(rows)}
    found["opening"] = kept.row("opening", lambda: many_shards(bench, texts, asked.shards))
    if asked.large_mb:
        large = Texts(scratch / "large", asked.large_mb, asked.large_files)
        found["large"] = large_file(bench, large, int(LARGE * tokens / asked.mb * asked.large_mb), asked, kept)
    return found


def compared(rows: dict[str, list[Row]]) -> Row:
    """The ratios of the table that are of the smaller texts."""
    found: Row = {}
    for layout in LAYOUTS:
        ours = rows[f"ours, {layout}"]
        for name in PEERS:
            theirs = rows.get(f"{name}, {layout}")
            if theirs:
                key = f"over-{name.partition('.')[0]}-{layout.replace(' ', '-')}"
                found[key] = spread(ratios(ours, theirs), REACH[f"over {name}"])
    pair = ratios(rows["ours, jsonl"], rows["ours, one worker"])
    return found | {"two-workers-over-one": spread(pair, REACH["two workers over one"])}


def large_file(bench: Bench, texts: Texts, tokens: int, asked: argparse.Namespace, kept: Kept) -> Row:
    """One large text file beside the same text as many."""
    rows: dict[str, list[Row]] = {"one file": [], "many files": []}
    for number in range(asked.large_rounds):
        for layout in sorted(rows, reverse=bool(number % 2)):
            row = kept.row(f"large, round {number + 1}: {layout}", partial(bench.ours, texts, layout, tokens))
            rows[layout].append(row)
    ratio = spread(ratios(rows["one file"], rows["many files"]), REACH["one large file over many"])
    return {"ratio": ratio, "ways": rows, "peak_mb": max(row["peak_mb"] for row in rows["one file"])}


def _eos(tokenizer: str) -> str:
    from stillroom.corpora import load_tokenizer

    return str(load_tokenizer(tokenizer).eos_token)


def about(asked: argparse.Namespace, tokens: int) -> Row:
    names = ("stillroom", "tokenizers", "numpy", "pyarrow")
    places = ("ours", "opened", "out", "scratch", "peers", "tokenizer")  # which say nothing elsewhere
    settings = {name: str(value) for name, value in vars(asked).items() if name not in places}
    return {"date": str(date.today()), "machine": platform.machine(), "cores": os.cpu_count(), "tokens": tokens,
            "versions": {name: version(name) for name in names}, "settings": settings}  # fmt: skip


def print_table(found: Row) -> None:
    """The rows of the table, each with what was to be reached."""
    for name, row in found["ratios"].items():
        print(f"{name:<34} {row['value']:6.2f}  ({row['low']:.2f} to {row['high']:.2f}), reach {row['reach']}")
    opening = found["opening"]
    print(f"opening {opening['shards']:,} shards{'':<14} {opening['seconds']:6.2f} s, reach {MOST_OPEN_SECONDS} s")
    if "large" in found:
        row = found["large"]["ratio"]
        print(f"{'one large file over many':<34} {row['value']:6.2f}  ({row['low']:.2f} to {row['high']:.2f})")
        print(f"{'its peak resident memory':<34} {found['large']['peak_mb']:6.0f} MiB, reach {MOST_MB} MiB")


if __name__ == "__main__":
    main()
