"""Loads tokenizers of others: never with code of their own, and never with a file that breaks its reader.

The reader of ``tokenizer.json`` is in Rust: a hostile file can end the process or take all memory, which no ``except``
sees. So each file is first read in a process of its own with limits, once for its content.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import xxhash
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers import __version__ as transformers_version

from stillroom.files import read_bytes
from stillroom.models.checks import check_file, check_no_code, checked_json
from stillroom.models.loading import check_gguf, reading_gguf
from stillroom.models.locate import Source, alone, find_source, libraries
from stillroom.types import UserError

_EXPECTED = f"a tokenizer that transformers {transformers_version} reads"
_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
_MORE = ("*.tiktoken", "*.model", "tekken.json")
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json")
_SECONDS = 120
_GIBIBYTES = 4
_BYTES_PER_BYTE = 60
"""Memory that a reader may take per byte of its file, beside ``_GIBIBYTES``; 20 were seen for large vocabularies."""
_PROBE = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[3]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
sys.path.append(sys.argv[1])
from tokenizers import Tokenizer
try:
    tokenizer = Tokenizer.from_buffer(sys.stdin.buffer.read())
    tokenizer.decode(tokenizer.encode("Some text, 12 words.").ids)
    tokenizer.to_str()
except BaseException as error:
    print(str(error)[:2000])
    sys.exit(1)
"""
_proven: set[str] = set()


def read_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, hub id or GGUF file; a ``UserError`` that names it where there is none."""
    source = find_source(path, weights=False)
    tokenizer = _of_gguf(source.gguf) if source.gguf is not None else _of_folder(source)
    if not len(tokenizer):
        raise UserError(f"{path}: its tokenizer has no tokens; expected {_EXPECTED}.")
    return tokenizer


def _of_folder(source: Source) -> PreTrainedTokenizerBase:
    for name in _SETTINGS:
        if (source.folder / name).exists():
            check_no_code(source.folder / name, checked_json(source.folder / name, f"a JSON object ({name})"))
    present = [source.folder / name for name in _FILES if os.path.lexists(source.folder / name)]
    present += [file for pattern in _MORE for file in source.folder.glob(pattern)]
    if not present:
        raise UserError(f"{source.given}: holds no tokenizer; expected tokenizer.json or a vocabulary of {_EXPECTED}.")
    for file in present:
        check_file(file, "a file of a tokenizer")
    if (source.folder / "tokenizer.json").is_file():
        prove_readable(source.folder / "tokenizer.json")
    place = {"pretrained_model_name_or_path": str(source.folder)}
    if source.hub_id is not None:  # transformers mends some tokenizers by the name of their repository
        place = {"pretrained_model_name_or_path": source.hub_id, "revision": source.folder.name}
    with libraries(source.given, "tokenizer", _EXPECTED):
        return AutoTokenizer.from_pretrained(**place, trust_remote_code=False, local_files_only=True)


def _of_gguf(file: Path) -> PreTrainedTokenizerBase:
    check_gguf(file)
    with reading_gguf(file), alone(file) as (folder, name):
        return AutoTokenizer.from_pretrained(folder, gguf_file=name, trust_remote_code=False, local_files_only=True)


def prove_readable(file: Path) -> None:
    """Reads a ``tokenizer.json`` in a process with limits of time and memory; a ``UserError`` where that fails.

    About 25 ms, once in a process for a file's content.
    """
    data = read_bytes(file, "a tokenizer of the tokenizers library")
    key = xxhash.xxh3_128_hexdigest(data)
    if key in _proven:
        return
    found = importlib.util.find_spec("tokenizers")
    assert found is not None and found.origin is not None
    limits = [str((_GIBIBYTES << 30) + _BYTES_PER_BYTE * len(data)), str(_SECONDS)]
    command = [sys.executable, "-I", "-S", "-c", _PROBE, str(Path(found.origin).parent.parent), *limits]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=2 * _SECONDS)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        raise UserError(f"{file}: cannot be read ({_failure(done)}); expected {_EXPECTED}.")
    _proven.add(key)


def _failure(done: subprocess.CompletedProcess[bytes] | None) -> str:
    """What went wrong in the other process, in a few words."""
    if done is None or done.returncode == -signal.SIGXCPU or done.returncode == -signal.SIGKILL:
        return "its reader does not come to an end"
    if done.returncode < 0:
        return f"its reader ends with {signal.Signals(-done.returncode).name}"
    lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
    return lines[0][:240].rstrip(". ") if lines else "its reader runs out of memory"
