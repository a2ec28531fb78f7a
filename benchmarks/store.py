"""What stored labels cost: bytes, error, decoding, labelling, training. Writes ``benchmarks/results/store.json``.

    python -m stillroom.teachers.smollm2 /tmp/smollm2            # once; needs the extra gguf
    python benchmarks/store.py --teacher /tmp/smollm2 [--distillkit CHECKOUT] [--length 512] [--tokens 49152]

Text is the installed Python library's source, documents packed and isolated. ``--rows FILE`` keeps the teacher's rows,
so that the parts after labelling can be run again without it. One thread; times are CPU time, so that other work on the
machine disturbs them less.
"""

from __future__ import annotations

import argparse
import json
import pickle
import platform
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from stillroom.config import LabelsConfig, ModelConfig, ObjectiveConfig
from stillroom.labels import Identity, LabelStore, label
from stillroom.labels.codecs.systematic import counted, offsets, systematic
from stillroom.labels.format.layout import SCHEMA, key_halves, record_keys
from stillroom.labels.format.manifest import Plan
from stillroom.labels.ragged import RaggedLabels, join_labels
from stillroom.labels.reading import capture, read_labels, rows_at_a_time
from stillroom.labels.settings import settings_of
from stillroom.labels.write import write_store
from stillroom.models import build_model, hidden_states, load_model, precision, unembedding
from stillroom.objectives import token_losses
from stillroom.recipes import llama_1b_from_8b, sandbox_120m
from stillroom.teachers.scores import ModelScores
from stillroom.training.distributed import own_device
from stillroom.types import Batch, SoftLabels
from store_rivals import against_distillkit

RESULTS = Path(__file__).parent / "results" / "store.json"
CODECS = {"sampled": LabelsConfig(), "top-k": LabelsConfig(codec="top-k", k=50)}
"""What the teacher is read by."""
STORES = {**CODECS, "top-k, coarse": LabelsConfig(codec="top-k", k=50, value_steps=5)}
"""What is stored of it; the coarse levels are those of a divergence that DistillKit's budget codec has as well."""
FORWARD_SEQUENCES = 4
RANDOM = {
    "tiny": (ModelConfig(hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2), 300, 64),
    "sandbox": (sandbox_120m.TEACHER, 8192, 1024),
    "1B": (llama_1b_from_8b.STUDENT, llama_1b_from_8b.VOCABULARY, 2048),
}
"""Sizes of random teachers, their vocabulary and length."""


def corpus(tokenizer: Any, num_sequences: int, length: int) -> Batch:
    """Packed sequences of the library's source, files in an order drawn once."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    files = [file for file in files if "site-packages" not in file.parts and "test" not in file.parts]
    random.Random(0).shuffle(files)
    ids: list[int] = []
    documents: list[int] = []
    for number, file in enumerate(files):
        text = [0, *tokenizer(file.read_text(errors="ignore"), add_special_tokens=False)["input_ids"][:4000]]
        ids += text
        documents += [number] * len(text)
        if len(ids) >= num_sequences * length:
            break
    tokens_BT = torch.tensor(ids[: num_sequences * length]).view(-1, length)
    document_BT = torch.tensor(documents[: num_sequences * length], dtype=torch.int32).view(-1, length)
    targets_BT = torch.full_like(tokens_BT, -100)
    same = document_BT[:, 1:] == document_BT[:, :-1]
    targets_BT[:, :-1] = torch.where(same, tokens_BT[:, 1:], -100)
    return Batch(tokens_BT, targets_BT, document_BT)


def part(batch: Batch, numbers: Sequence[int]) -> Batch:
    """Some sequences of a batch."""
    here = list(numbers)
    return Batch(batch.tokens_BT[here], batch.targets_BT[here], batch.document_BT[here])


@dataclass
class Captured:
    """What one run of the teacher said: tokens, and the rows of both codecs."""

    tokens_BT: np.ndarray
    rows: dict[str, RaggedLabels]


def capture_all(scores: ModelScores, batch: Batch) -> Captured:
    """Runs the teacher over the batch once and reads both codecs off every chunk."""
    rows: dict[str, list[RaggedLabels]] = {name: [] for name in CODECS}
    for start in range(0, len(batch.tokens_BT), FORWARD_SEQUENCES):
        one = part(batch, range(start, min(start + FORWARD_SEQUENCES, len(batch.tokens_BT))))
        for name, found in _read(scores, one, CODECS).items():
            rows[name].append(found)
        print(f"{start + len(one.tokens_BT)} of {len(batch.tokens_BT)} sequences", file=sys.stderr, flush=True)
    return Captured(batch.tokens_BT.numpy(), {name: join_labels(pieces) for name, pieces in rows.items()})


def _offsets(batch: Batch) -> torch.Tensor:
    halves = key_halves(record_keys(batch.tokens_BT.numpy()))
    return torch.from_numpy(offsets(halves, batch.tokens_BT.shape[1], 0))


def _read(scores: ModelScores, batch: Batch, configs: dict[str, LabelsConfig]) -> dict[str, RaggedLabels]:
    pieces: dict[str, list[RaggedLabels]] = {name: [] for name in configs}
    targets_N, offset_N, start = batch.targets_BT.flatten(), _offsets(batch), 0
    for chunk in scores.chunks(batch):
        for piece in chunk.split(rows_at_a_time(chunk.shape[1])):
            here = slice(start, start + len(piece))
            for name, config in configs.items():
                own = piece if len(configs) == 1 else piece.clone()  # reading overwrites
                pieces[name].append(read_labels(own, targets_N[here], offset_N[here], settings_of(config)))
            start += len(piece)
    return {name: join_labels(found) for name, found in pieces.items()}


def labelling(scores: ModelScores, batch: Batch, rounds: int = 3) -> dict[str, float]:
    """Seconds of labelling over those of the bare forward with its head, in turns, and both errors of sampling."""
    seconds: dict[str, list[float]] = {"bare": [], "labelling": []}
    squared = {"systematic": 0.0, "independent": 0.0}
    one = part(batch, range(FORWARD_SEQUENCES))
    clock = time.perf_counter if scores.device.type == "cuda" else time.process_time
    settings, offset_N = settings_of(CODECS["sampled"]), _offsets(one)
    for _ in range(rounds):
        seconds["bare"].append(best(lambda: bare(scores, one), 1, clock))
        seconds["labelling"].append(best(lambda: capture(scores, one, offset_N.numpy(), settings), 1, clock))
    found = {
        "labelling_over_bare": min(seconds["labelling"]) / min(seconds["bare"]),
        "bare_tokens_per_second": one.tokens_BT.numel() / min(seconds["bare"]),
    }
    if scores.device.type == "cpu":
        _add_errors(squared, scores, one, offset_N)
        found["squared_error_over_independent"] = squared["systematic"] / squared["independent"]
    return found


def bare(scores: ModelScores, batch: Batch) -> None:
    """The forward pass with its head, and nothing read of it."""
    for _ in scores.chunks(batch):
        pass
    if scores.device.type == "cuda":
        torch.cuda.synchronize()


def labelling_of_a_random_teacher(config: ModelConfig, vocab_size: int, length: int) -> dict[str, float]:
    """``labelling`` by a teacher of these sizes on this machine's device, of drawn text; its scores are spread out."""
    model = build_model(config, vocab_size, seed=0).eval().to(own_device())
    with torch.no_grad():
        unembedding(model)[0].mul_(22.0)
    text = Drawn(vocab_size, length, FORWARD_SEQUENCES).batch(range(FORWARD_SEQUENCES))
    return labelling(ModelScores(model, vocab_size), text)


def _add_errors(squared: dict[str, float], scores: ModelScores, batch: Batch, offset_N: torch.Tensor) -> None:
    """Adds squared errors of the sampled target against the full distribution, for both ways of drawing."""
    num, start = CODECS["sampled"].num_samples, 0
    generator = torch.Generator().manual_seed(0)
    for chunk in scores.chunks(batch):
        p_nV = torch.softmax(chunk, -1)
        drawn = {
            "systematic": systematic(p_nV, offset_N[start : start + len(chunk)], num),
            "independent": torch.multinomial(p_nV, num, replacement=True, generator=generator).sort(1).values,
        }
        for name, ids in drawn.items():
            tokens_E, counts_E, num_n = counted(ids)
            row_E = torch.repeat_interleave(torch.arange(len(chunk)), num_n)
            p_E = p_nV[row_E, tokens_E].double()
            hit = (counts_E / num - p_E).square().sum() - p_E.square().sum()
            squared[name] += float(hit + p_nV.double().square().sum())
        start += len(chunk)


@dataclass(frozen=True)
class Kept:
    """Labels that were captured before, as a source for a store: see ``write.StoreSource``."""

    tokens_BT: np.ndarray
    rows_B: list[RaggedLabels]

    def rows(self, numbers: range) -> tuple[np.ndarray, RaggedLabels]:
        """Tokens and labels of some sequences."""
        return self.tokens_BT[numbers.start : numbers.stop], join_labels(self.rows_B[numbers.start : numbers.stop])

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        """Nothing is measured again: the rows are all that is left of the teacher."""
        return {"positions": labels.entropy.numel()}


def store_of(captured: Captured, name: str, folder: Path, vocab_size: int) -> LabelStore:
    """A store of the captured rows."""
    length = captured.tokens_BT.shape[1]
    config = STORES[name].model_copy(update={"shard_sequences": 64})
    identity = Identity(teacher="smollm2", tokenizer="smollm2", vocab_size=vocab_size, corpus="python")
    plan = Plan(
        schema=SCHEMA, identity=identity, labels=config.canonical(), num_sequences=len(captured.tokens_BT),
        sequence_length=length, isolate_documents=True, precision="bf16", forward_sequences=max(1, 4096 // length),
    )  # fmt: skip
    write_store(Kept(captured.tokens_BT, captured.rows[name.partition(",")[0]].split(length)), plan, folder)
    return LabelStore.open(folder)


def best(run: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """The shortest of some runs, seconds."""
    times = []
    for _ in range(repeats):
        began = clock()
        run()
        times.append(clock() - began)
    return min(times)


def decoding(store: LabelStore, tokens_BT: np.ndarray) -> dict[str, float]:
    """Tokens per second of lookups in random order, by positions per lookup."""
    order = np.random.default_rng(0).permutation(len(tokens_BT))
    speeds = {}
    for sequences in (1, 4, 16, 64):
        batches = [torch.from_numpy(tokens_BT[order[at : at + sequences]]) for at in range(0, len(order), sequences)]
        seconds = best(lambda batches=batches: [store.lookup(batch) for batch in batches], 15)
        speeds[f"{sequences} sequences per lookup"] = tokens_BT.size / seconds
    return speeds


def bytes_of(store: LabelStore) -> dict[str, Any]:
    """Bytes per token: all of the store, and what the codebook adds, which does not grow with the store."""
    book = store.place.path("codebook.bin").stat().st_size / store.manifest.num_tokens
    return {
        "tokens": store.manifest.num_tokens,
        "entries_per_token": store.manifest.num_entries / store.manifest.num_tokens,
        "bytes_per_token": store.manifest.bytes_per_token,
        "of_which_codebook": book,
        "bytes_per_token_in_a_large_store": store.manifest.bytes_per_token - book,
    }


@dataclass(frozen=True)
class Drawn:
    """Random sequences, for what does not depend on the text."""

    vocab_size: int
    sequence_length: int
    count: int

    def __len__(self) -> int:
        """How many there are."""
        return self.count

    def batch(self, indices: Sequence[int]) -> Batch:
        """Each sequence drawn from its own number."""
        shape = (self.sequence_length,)
        rows = [torch.randint(3, self.vocab_size, shape, generator=torch.Generator().manual_seed(i)) for i in indices]
        tokens_BT = torch.stack(rows)
        targets_BT = torch.nn.functional.pad(tokens_BT[:, 1:], (0, 1), value=-100)
        return Batch(tokens_BT, targets_BT, torch.zeros_like(tokens_BT, dtype=torch.int32))


def training(folder: Path, rounds: int = 8) -> dict[str, float]:
    """Seconds of a whole optimizer step from a store over those of one on hard labels, in turns.

    Student: Llama layout, width 256, 4 layers, V = 4,096, T = 256, 16 sequences per step, AdamW, bf16 autocast where
    the processor has it; labels: N = 50 of a random teacher, its scores spread so that about 13 ids are drawn.
    """
    vocab_size, size = 4096, 16
    sequences = Drawn(vocab_size, 256, size * (rounds + 1))
    teacher = build_model(
        ModelConfig(hidden_size=64, intermediate_size=128, num_layers=1, tie_embeddings=False), vocab_size, seed=0
    )
    with torch.no_grad():
        unembedding(teacher)[0].mul_(22.0)
    identity: Identity = {"teacher": "random", "tokenizer": "none", "vocab_size": vocab_size, "corpus": "drawn"}
    manifest = label(
        ModelScores(teacher, vocab_size), sequences, LabelsConfig(shard_sequences=64), folder, identity=identity
    )
    store = LabelStore.open(folder)
    sizes = ModelConfig(hidden_size=256, intermediate_size=768, num_layers=4)
    seconds: dict[str, list[float]] = {"hard": [], "stored": []}
    models = {name: build_model(sizes, vocab_size, seed=1) for name in seconds}
    optimizers = {name: torch.optim.AdamW(model.parameters(), 1e-3) for name, model in models.items()}
    alphas = {"hard": ObjectiveConfig(alpha=0.0), "stored": ObjectiveConfig(alpha=0.9)}
    for number in range(rounds + 1):
        for name, model in models.items():
            began = time.process_time()
            batch = sequences.batch(range(number * size, (number + 1) * size))
            labels = store.lookup(batch.tokens_BT) if name == "stored" else None
            with precision("auto", "cpu"):
                hidden_ND = hidden_states(model, batch).flatten(0, 1)
                losses = token_losses(hidden_ND, unembedding(model)[0], batch, alphas[name], labels)
            (losses.loss_N.sum() / losses.counted_N.sum()).backward()
            optimizers[name].step()
            optimizers[name].zero_grad()
            if number:  # the first step warms up
                seconds[name].append(time.process_time() - began)
    return {
        "stored_over_hard_best": min(seconds["stored"]) / min(seconds["hard"]),
        "stored_over_hard_median": float(np.median(np.divide(seconds["stored"], seconds["hard"]))),
        "hard_tokens_per_second": size * 256 / min(seconds["hard"]),
        "ids_per_token": manifest.num_entries / manifest.num_tokens,
    }


def main() -> None:
    """Runs everything that its arguments allow."""
    parser = argparse.ArgumentParser(description=__doc__)
    teachers = parser.add_mutually_exclusive_group(required=True)
    teachers.add_argument("--teacher", type=Path, help="folder that stillroom.teachers.smollm2 made")
    teachers.add_argument("--random", choices=RANDOM, help="labelling alone, by a random teacher on the GPU if any")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to add the numbers to")
    parser.add_argument("--rows", type=Path, default=Path(tempfile.gettempdir()) / "store-rows.pkl")
    parser.add_argument("--parts", nargs="*", default=["labelling", "decoding", "training"])
    parser.add_argument("--distillkit", type=Path, help="checkout of DistillKit")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=49_152)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    note = partial(noted, arguments.out)
    if arguments.random:
        note({"labelling": {arguments.random: labelling_of_a_random_teacher(*RANDOM[arguments.random])}})
        return
    tokenizer = AutoTokenizer.from_pretrained(arguments.teacher)
    text = corpus(tokenizer, arguments.tokens // arguments.length, arguments.length)
    kept = arguments.rows is not None and arguments.rows.exists()
    if "labelling" in arguments.parts or not kept:
        scores = ModelScores(load_model(arguments.teacher, dtype=torch.bfloat16), len(tokenizer))
        if "labelling" in arguments.parts:
            note({"labelling": labelling(scores, text)})
        if not kept:
            arguments.rows.write_bytes(pickle.dumps(capture_all(scores, text)))
    captured = pickle.loads(arguments.rows.read_bytes())
    with tempfile.TemporaryDirectory() as scratch:
        stores = {name: store_of(captured, name, Path(scratch) / name, len(tokenizer)) for name in STORES}
        note({"sequence_length": captured.tokens_BT.shape[1]})
        sizes = {name: bytes_of(store) for name, store in stores.items()}
        note({"bytes": sizes})
        if "decoding" in arguments.parts:
            speeds = {name: decoding(store, captured.tokens_BT) for name, store in stores.items()}
            note({"decode_tokens_per_second": speeds})
        if arguments.distillkit:
            rows, tokens_BT = captured.rows["top-k"], captured.tokens_BT
            found = against_distillkit(rows, tokens_BT, stores, sizes, arguments.distillkit, len(tokenizer))
            note({"distillkit": found})
        if "training" in arguments.parts:
            note({"training": training(Path(scratch) / "training")})


def noted(path: Path, found: dict[str, Any]) -> None:
    """Adds to the results, so that what was measured is kept whatever comes after."""
    on_gpu = own_device().type == "cuda"
    machine = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    about = {
        "machine": f"{machine}, torch {torch.__version__}",
        "clock": "seconds" if on_gpu else "CPU seconds of one thread",
        "date": date.today().isoformat(),
    }
    before = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(before | about | found, indent=2) + "\n")
    print(json.dumps(found, indent=2), flush=True)


if __name__ == "__main__":
    main()
