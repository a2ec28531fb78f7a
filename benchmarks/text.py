"""What text costs before it is tokens: one large file beside the same text as many. Prints a table.

    python benchmarks/text.py [--megabytes 30 100 300] [--tokens 200000]

The text is the installed Python library's source, as often as it takes. Every row is a process of its own that builds a
corpus on a tokenizer that is there already; memory is its highest resident set, of which the imports take some 290 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stillroom.config import CorpusConfig, SourceConfig
from stillroom.corpora import build_corpus, corpus_identity, train_tokenizer
from stillroom.worlds.library import library_files

_FILE_BYTES = 10_000


def write_text(folder: Path, megabytes: int) -> tuple[Path, Path]:
    """The same text as one file and as a folder of many."""
    text = b"".join(file.read_bytes() for file in library_files()[1]).decode("utf-8", "ignore").encode()
    one, many = folder / f"one-{megabytes}.txt", folder / f"many-{megabytes}"
    many.mkdir()
    left = megabytes * 1_000_000
    with one.open("wb") as handle:
        while left > 0:
            handle.write(text[:left])
            left -= len(text)
    with one.open("rb") as handle:
        for number, lines in enumerate(iter(lambda: handle.readlines(_FILE_BYTES), [])):
            (many / f"{number:06d}.txt").write_bytes(b"".join(lines))
    return one, many


def measure(path: Path, tokenizer: Path, tokens: int) -> dict[str, float]:
    """Seconds and megabytes that a corpus of a path takes, in this process."""
    source = SourceConfig(kind="files", path=str(path))
    config = CorpusConfig(
        sources={"text": source}, tokenizer=str(tokenizer), train_tokens=tokens, heldout_tokens=tokens // 20
    )
    begin = time.perf_counter()
    corpus_identity(config)
    hashed = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        build_corpus(config, Path(folder) / "corpus")
    ended = time.perf_counter()
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"hash": hashed - begin, "build": ended - hashed, "megabytes": held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--measure", type=Path, nargs=2, metavar=("PATH", "TOKENIZER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(*asked.measure, asked.tokens)))
        return
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        texts = (file.read_text(encoding="utf-8", errors="ignore") for file in library_files()[1][:200])
        train_tokenizer(texts, 4096).save_pretrained(folder / "tokenizer")
        print(f"{'text':>12} {'files':>6} {'hash s':>7} {'build s':>8} {'ratio':>6} {'MB':>6}")
        for megabytes in asked.megabytes:
            one, many = write_text(folder, megabytes)
            found = {path: run(path, folder / "tokenizer", asked.tokens) for path in (many, one)}
            for path, row in found.items():
                files = len(list(path.iterdir())) if path.is_dir() else 1
                ratio = row["build"] / found[many]["build"]
                print(
                    f"{megabytes:>9} MB {files:>6} {row['hash']:>7.2f} {row['build']:>8.2f} {ratio:>6.2f} "
                    f"{row['megabytes']:>6.0f}"
                )


def run(path: Path, tokenizer: Path, tokens: int) -> dict[str, float]:
    """``measure`` in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(path), str(tokenizer), "--tokens", str(tokens)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
