"""Top-k labels by vLLM in a process of another environment, since it pins a torch of its own.

Letters: B sequences, T positions, N = B·T, K kept ids.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np

from stillroom.labels.exchange.importing import Foreign, ForeignSource, rows_of_largest
from stillroom.labels.ragged import RaggedLabels
from stillroom.types import Batch, Sequences, SoftLabels, UserError

_WORKER = Path(__file__).parent / "_vllm_labels.py"


@dataclass
class VllmTeacher:
    """A model that vLLM runs, in a process that lives as long as the ``running`` block."""

    python: Path
    """An interpreter in whose environment vLLM is installed."""
    model: str
    k: int
    longest: int
    """Tokens of the longest text that is asked for."""
    precision: str = ""
    """That vLLM computes in, known while it runs."""
    _worker: subprocess.Popen[str] | None = None
    _said: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Starts the process, and ends it."""
        command = [self.python, str(_WORKER)]
        try:
            worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise UserError(f"--vllm {self.python}: is no Python interpreter ({error.strerror}).") from None
        with worker:
            listener = threading.Thread(target=self._listen, args=(worker.stderr,))
            listener.start()
            self._worker = worker
            try:
                begun = self._asked({"model": self.model, "k": self.k, "longest": self.longest})
                self.precision = {"float32": "fp32", "bfloat16": "bf16"}.get(begun["precision"], begun["precision"])
                yield
            finally:
                with contextlib.suppress(OSError):
                    self._pipe(worker.stdin).close()
                listener.join()

    def _listen(self, lines: IO[str]) -> None:
        for one in lines:
            self._said = [*self._said[-20:], one]

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None, "every stream of the worker is a pipe"
        return pipe

    def _asked(self, request: dict[str, object]) -> dict[str, str]:
        """The worker's answer to a line; a ``UserError`` with its last words where it fails."""
        worker = self._worker
        assert worker is not None, "vLLM runs inside of the block"
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its last words say why
            self._pipe(worker.stdin).write(json.dumps(request) + "\n")
            self._pipe(worker.stdin).flush()
        try:
            return json.loads(self._pipe(worker.stdout).readline())
        except ValueError:
            worker.kill()
            worker.wait()
            last = self._said[-1].strip() if self._said else f"exit {worker.returncode}"
            raise UserError(f"--vllm {self.python}: vLLM could not read {self.model} ({last}).") from None

    def top_k(self, batch: Batch, isolate: bool) -> tuple[Foreign, np.ndarray, np.ndarray]:
        """The K largest log-probabilities of every position, and log-probability and rank of the next token (N,).

        The last two are NaN and -1 where a document, or without ``isolate`` a sequence, ends.
        """
        tokens_BT, document_BT = batch.tokens_BT.numpy(), batch.document_BT.numpy()
        begins_BT = np.ones(tokens_BT.shape, bool)
        begins_BT[:, 1:] = (document_BT[:, 1:] != document_BT[:, :-1]) & isolate
        starts = np.flatnonzero(begins_BT)
        with tempfile.TemporaryDirectory() as folder:
            files = {"texts": f"{folder}/texts.npz", "to": f"{folder}/labels.npz"}
            np.savez(files["texts"], ids=tokens_BT.reshape(-1), lengths=np.diff(starts, append=tokens_BT.size))
            self._asked({**files})
            with np.load(files["to"]) as found:
                shape = (*tokens_BT.shape, self.k)
                largest = found["ids"].reshape(shape), found["logprobs"].reshape(shape)
                return Foreign(tokens_BT.astype(np.int32), *largest), found["gold_logprob"], found["gold_rank"]


@dataclass(frozen=True)
class VllmSource:
    """Labels of a teacher that vLLM runs, as a source for a store."""

    teacher: VllmTeacher
    sequences: Sequences
    vocab_size: int
    isolate: bool

    def rows(self, numbers: range) -> tuple[np.ndarray, RaggedLabels]:
        """See ``StoreSource``."""
        batch = self.sequences.batch(list(numbers))
        foreign, gold_logprob_N, gold_rank_N = self.teacher.top_k(batch, self.isolate)
        ids_NK, logprobs_NK = (one.reshape(-1, self.teacher.k) for one in (foreign.ids_RTK, foreign.logprobs_RTK))
        gold_N = batch.targets_BT.numpy().reshape(-1)
        rows = rows_of_largest(ids_NK, logprobs_NK, np.where(gold_N < 0, -1, gold_N), self.vocab_size)
        is_known_N = (gold_N >= 0) & (gold_rank_N >= 0)
        rows = replace(
            rows,
            gold_logprob_N=np.where(is_known_N, np.minimum(gold_logprob_N, 0.0), rows.gold_logprob_N),
            gold_rank_N=np.where(is_known_N, gold_rank_N, rows.gold_rank_N),
        )
        return batch.tokens_BT.numpy(), rows

    def distance(self, numbers: range, labels: SoftLabels) -> dict[str, float | int | str]:
        """See ``StoreSource``: KL(given‖stored) over the kept ids, renormalised."""
        foreign, *_ = self.teacher.top_k(self.sequences.batch(list(numbers)), self.isolate)
        found = ForeignSource(foreign, self.vocab_size, "vllm").distance(range(len(foreign.tokens_RT)), labels)
        return {**found, "side_columns": "entropy is a lower bound"}
