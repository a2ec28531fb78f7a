"""The other ways from the same files to token ids, for ``benchmarks/corpus.py``; imports nothing of stillroom.

    python corpus_peers.py NAME '{"files": [...], "layout": "jsonl", "tokenizer": FOLDER, "workers": 2, "out": FOLDER}'

prints seconds and tokens as JSON. Imports are not counted, starting workers
is. Runs in any environment that has the package: ``datatrove`` (with ``orjson`` and ``pyarrow``), ``datasets``,
``tokenizers``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_BATCH = 1000  # texts; datasets' own default
Asked = dict[str, Any]
Found = tuple[float, int]
"""Seconds and tokens."""


def texts_of(asked: Asked) -> list[str]:
    """All texts of the files, in memory."""
    found = []
    for file in map(Path, asked["files"]):
        if asked["layout"] == "jsonl":
            found += [json.loads(line)["text"] for line in file.open("rb")]
        elif asked["layout"] == "parquet":
            from pyarrow import parquet

            found += parquet.read_table(file)["text"].to_pylist()
        else:
            text = file.read_text()
            found += [text[start : start + 4000] for start in range(0, len(text), 4000)]
    return found


def bare(asked: Asked) -> Found:
    """Batch encoding by ``tokenizers`` of texts that are in memory, with as many threads: nothing is written."""
    os.environ["RAYON_NUM_THREADS"] = str(asked["workers"])
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    from tokenizers import Tokenizer

    tokenizer, texts = _plain(Tokenizer, asked), texts_of(asked)
    begin, tokens = time.perf_counter(), 0
    for start in range(0, len(texts), _BATCH):
        tokens += sum(map(len, tokenizer.encode_batch_fast(texts[start : start + _BATCH], add_special_tokens=False)))
    return time.perf_counter() - begin, tokens


def datasets(asked: Asked) -> Found:
    """``datasets.map`` over a dataset that is loaded already, batched, into Arrow files."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from datasets import disable_progress_bars, load_dataset
    from tokenizers import Tokenizer

    disable_progress_bars()
    kind = {"jsonl": "json", "parquet": "parquet"}.get(asked["layout"], "text")
    more = {"sample_by": "document"} if kind == "text" else {}
    rows = load_dataset(kind, data_files=asked["files"], split="train", cache_dir=f"{asked['out']}/cache", **more)
    path = asked["tokenizer"]

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        tokenizer = _plain(Tokenizer, {"tokenizer": path})
        return {"input_ids": [one.ids for one in tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)]}

    begin = time.perf_counter()
    made = rows.map(encode, batched=True, num_proc=asked["workers"], remove_columns=rows.column_names)
    seconds = time.perf_counter() - begin
    from pyarrow import compute

    return seconds, int(compute.sum(compute.list_value_length(made.data.column("input_ids"))).as_py())


def datatrove(asked: Asked) -> Found:
    """``DocumentTokenizer`` of datatrove, a task to a file; documents are not shuffled, which would cost it more."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from loguru import logger

    logger.remove()
    reader = JsonlReader if asked["layout"] == "jsonl" else ParquetReader
    writer = DocumentTokenizer(
        f"{asked['out']}/ids", f"{asked['tokenizer']}/tokenizer.json", eos_token=asked["eos"], shuffle_documents=False
    )
    folder = str(Path(asked["files"][0]).parent)
    tasks, workers = len(asked["files"]), asked["workers"]
    run = LocalPipelineExecutor([reader(folder), writer], tasks, workers, logging_dir=f"{asked['out']}/logs")
    begin = time.perf_counter()
    run.run()
    seconds = time.perf_counter() - begin
    told = Path(asked["out"], "ids").glob("*.metadata")
    return seconds, sum(int(file.read_text().splitlines()[1]) for file in told)


_LOADED: dict[str, Any] = {}


def _plain(kind: Any, asked: Asked) -> Any:
    """The tokenizer, loaded once by each process."""
    path = asked["tokenizer"]
    if path not in _LOADED:
        _LOADED[path] = kind.from_file(f"{path}/tokenizer.json")
        _LOADED[path].encode_special_tokens = True
    return _LOADED[path]


PEERS: dict[str, Callable[[Asked], Found]] = {"tokenizers": bare, "datasets.map": datasets, "datatrove": datatrove}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("asked", type=json.loads)
    given = parser.parse_args()
    seconds, tokens = PEERS[given.name](given.asked)
    print(json.dumps({"seconds": seconds, "tokens": tokens}))
