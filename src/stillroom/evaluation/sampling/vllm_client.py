"""Sampling by vLLM in a process of another environment, since it pins a torch of its own.

The protocol is JSON over standard input and output; ``_vllm_worker.py`` says it in full.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from stillroom.evaluation.sampling.draw import Samples, SamplingRequest
from stillroom.types import OnProgress, UserError

_WORKER = Path(__file__).parent / "_vllm_worker.py"


class _Answer(BaseModel):
    """A line of the worker: samples of one prompt under one setting."""

    model_config = ConfigDict(allow_inf_nan=False)
    setting: int
    prompt: int
    tokens: tuple[tuple[int, ...], ...]
    stopped: tuple[bool, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class OutOfProcess:
    """Draws what ``sample`` draws, with vLLM under another interpreter and from an exported model folder.

    The distributions are the same, the numbers drawn are vLLM's own: a sample here is not the one that ``sample`` draws
    from the same seed.
    """

    python: Path
    """An interpreter in whose environment vLLM is installed."""
    folder: Path
    """The model, in the Hugging Face layout with its tokenizer."""

    def check(self) -> None:
        """A ``UserError`` where the interpreter is none or has no vLLM."""
        try:
            probe = subprocess.run([self.python, "-c", "import vllm"], capture_output=True, text=True, check=False)
        except OSError as error:
            raise UserError(f"--vllm {self.python}: is no Python interpreter ({error.strerror}).") from None
        if probe.returncode:
            reason = probe.stderr.strip().rsplit("\n", 1)[-1]
            raise UserError(f"--vllm {self.python}: this Python cannot import vllm ({reason}); name one that can.")

    def __call__(
        self, model: object, request: SamplingRequest, progress: OnProgress | None = None
    ) -> list[list[Samples]]:
        """``result[setting][prompt]``, as ``sample`` gives it; the model in this process is not used."""
        del model
        self.check()
        texts, num_prompts = request.stop_texts, len(request.prompts)
        asked = {
            "model": str(self.folder),
            "prompts": [list(prompt) for prompt in request.prompts],
            "num_samples": request.num_samples,
            "max_new_tokens": request.max_new_tokens,
            "settings": [asdict(setting) for setting in request.settings],
            "stop": sorted({*request.stop, *(() if texts is None else texts.ids)}),
            "stop_texts": [] if texts is None else list(texts.texts),
            "seed": request.seed,
        }
        drawn: list[dict[int, Samples]] = [{} for _ in request.settings]
        total = len(request.settings) * num_prompts * request.num_samples
        for line in self._answers(json.dumps(asked)):
            answer = self._read(line)
            drawn[answer.setting][answer.prompt] = Samples(answer.tokens, answer.stopped, answer.logprobs)
            if progress:
                progress(sum(map(len, drawn)) * request.num_samples, total)
        if any(len(of_setting) < num_prompts for of_setting in drawn):
            raise UserError(f"--vllm {self.python}: vLLM ended before every prompt was answered; run it again.")
        return [[of_setting[place] for place in range(num_prompts)] for of_setting in drawn]

    def _read(self, line: str) -> _Answer:
        try:
            return _Answer.model_validate_json(line)
        except ValidationError:
            raise UserError(
                f"--vllm {self.python}: the worker said {line[:60]!r}, expected samples; let nothing in that "
                "environment write to its standard output, and check that its scores are finite."
            ) from None

    def _answers(self, request: str) -> Iterator[str]:
        """The worker's lines as they come; a ``UserError`` with its last words where it fails."""
        with subprocess.Popen(
            [self.python, str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdin is not None and worker.stdout is not None and worker.stderr is not None
            complaints: list[str] = []
            listener = threading.Thread(target=lambda lines=worker.stderr: complaints.extend(lines))
            listener.start()
            with contextlib.suppress(BrokenPipeError):  # it has ended, and its last words say why
                worker.stdin.write(request)
                worker.stdin.close()
            yield from worker.stdout
            listener.join()
        if worker.returncode:
            last = complaints[-1].strip() if complaints else f"exit {worker.returncode}"
            raise UserError(f"--vllm {self.python}: vLLM could not sample from {self.folder} ({last}).")
