"""A model trained by reinforcement with verifiable rewards: GRPO (DeepSeekMath, 2402.03300) through TRL.

TRL and what it needs are imported when training begins (extra ``rl``); nothing else of stillroom imports them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from rich.console import Console
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as transformers_logging

from stillroom.choosing.tuning.supervise import (
    ProblemFamilies,
    Record,
    begin_tuning,
    finish_tuning,
    is_tuned,
    open_base,
    save_tuned,
)
from stillroom.corpora import load_tokenizer
from stillroom.costs import size_of_path
from stillroom.files import write_text
from stillroom.models import load_model
from stillroom.strict import Items, Length, Positive, PositiveFloat, Seed, Temperature
from stillroom.study.folders import held_alone
from stillroom.study.interrupts import Stopper
from stillroom.study.progress import StageDisplay
from stillroom.training.metrics import finite_or_none
from stillroom.types import OnProgress, UserError
from stillroom.vocabulary import Vocabulary
from stillroom.worlds.base import Problem
from stillroom.worlds.problems_world import problems


class ReinforcedConfig(ProblemFamilies):
    """How a model is trained with verifiable rewards."""

    problems: Items = 512
    """Different problems to draw prompts from, from the training split."""
    steps: Positive = 100
    prompts_per_step: Items = 8
    samples_per_prompt: Annotated[int, Field(ge=2, le=1_000_000)] = 8
    """Samples of one prompt that are compared with one another."""
    max_new_tokens: Length = 24
    temperature: Temperature = 1.0
    learning_rate: PositiveFloat = 1e-5
    kl_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the divergence from the model that training began with."""
    seed: Seed = 0


def reward_function(items: Sequence[Problem], vocabulary: Vocabulary) -> Callable[..., list[float]]:
    """1 for a completion that ended by itself and solves its problem, else 0: what pass@k counts.

    Gets what TRL hands to a reward: ``completion_ids`` and, from the data's column, the problem's ``number``.
    """
    ends = set(vocabulary.line_ends)

    def reward(*, completion_ids: Sequence[Sequence[int]], number: Sequence[int], **_: Any) -> list[float]:
        return [
            float(not ends.isdisjoint(ids) and items[index].grade(vocabulary.line(ids)) is not None)
            for ids, index in zip(completion_ids, number, strict=True)
        ]

    return reward


def reinforce(base: str, config: ReinforcedConfig, out: Path, display: StageDisplay) -> Path:
    """Trains ``base`` into ``out/model`` (Hugging Face layout) and returns that folder; continues after a stop."""
    path, identity = open_base(base, config, "reinforced", out)
    with held_alone(out, "tuning"):
        if not is_tuned(out, "reinforcement", display):
            _reinforce(path, identity, config, out, display)
    return out / "model"


def _reinforce(path: str, identity: Record, config: ReinforcedConfig, out: Path, display: StageDisplay) -> None:
    trl, datasets = _libraries()
    tokenizer, model = load_tokenizer(path), load_model(path).train()
    items = problems(config.problems, config.seed, split="train", options=config.options)
    vocabulary = Vocabulary.of(tokenizer)
    own_ends = model.generation_config.eos_token_id if model.generation_config else None
    model.generation_config.eos_token_id = list(vocabulary.line_ends)  # pyright: ignore[reportOptionalMemberAccess]
    begin_tuning(out, identity, {"path": path, "trl": trl.__version__})
    with Stopper() as stopper, display.stage("reinforcement", "steps") as update, stopper.cooperative(), _quietly():
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=reward_function(items, vocabulary),
            args=_arguments(trl, config, out),
            train_dataset=datasets.Dataset.from_list(_rows(tokenizer, items)),
            processing_class=tokenizer,
            callbacks=[_Follow(update, stopper.asked)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=_newest(out / "checkpoints"))
        if stopper.asked() and trainer.state.global_step < config.steps:
            stopper.leave()
    model.generation_config.eos_token_id = own_ends  # pyright: ignore[reportOptionalMemberAccess]
    save_tuned(model, tokenizer, out)
    finish_tuning(out, identity, _result(trainer.state.log_history, config, out, display))


def _libraries() -> tuple[Any, Any]:
    try:
        return importlib.import_module("trl"), importlib.import_module("datasets")
    except ImportError as error:
        raise UserError(
            f"teachers reinforce: {error.name or 'trl'} is not installed; it needs pip install 'stillroom[rl]'."
        ) from error


def _rows(tokenizer: PreTrainedTokenizerBase, items: Sequence[Problem]) -> list[dict[str, Any]]:
    """Prompts as a document begins, with the number by which the reward finds the problem."""
    opens_itself = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]  # pyright: ignore[reportIndexIssue]
    opening = "" if opens_itself or tokenizer.bos_token is None else tokenizer.bos_token
    return [{"prompt": f"{opening}{item.prompt}", "number": number} for number, item in enumerate(items)]


def _arguments(trl: Any, config: ReinforcedConfig, out: Path) -> Any:
    return trl.GRPOConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=config.steps,
        per_device_train_batch_size=config.prompts_per_step * config.samples_per_prompt,
        num_generations=config.samples_per_prompt,
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
        learning_rate=config.learning_rate,
        warmup_steps=max(
            1, config.steps // 10
        ),  # Adam's first step is as long as any: unwarmed it undoes a small model
        beta=config.kl_weight,
        seed=config.seed,
        save_strategy="steps",
        save_steps=max(1, config.steps // 5),
        save_total_limit=1,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without bars and deprecation notices of the trainer's own, which a user of this command cannot act on."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _newest(folder: Path) -> str | None:
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


class _Follow(TrainerCallback):
    """Moves the bar, and saves and stops when that is asked for."""

    def __init__(self, update: OnProgress, stop: Callable[[], bool]) -> None:
        self.update, self.stop = update, stop

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """After every optimizer step."""
        self.update(state.global_step, state.max_steps)
        if self.stop():
            control.should_save = control.should_training_stop = True
        return control


def _result(history: list[dict[str, Any]], config: ReinforcedConfig, out: Path, display: StageDisplay) -> Record:
    """Writes ``metrics.jsonl``, a record a step; returns what ``result.json`` says, with the first and last rewards.

    Says so where the reward has not risen.
    """
    records = [
        {"kind": "train", "step": entry["step"], "reward": entry["reward"], "loss": finite_or_none(entry.get("loss"))}
        for entry in history
        if "reward" in entry
    ]
    write_text(out / "metrics.jsonl", "".join(json.dumps(record, allow_nan=False) + "\n" for record in records))
    rewards = [record["reward"] for record in records]
    part = max(1, len(rewards) // 5)
    early, late = sum(rewards[:part]) / part, sum(rewards[-part:]) / part
    result = {
        "steps": config.steps,
        "samples": config.steps * config.prompts_per_step * config.samples_per_prompt,
        "mean_reward_first_fifth": early,
        "mean_reward_last_fifth": late,
    }
    display.console.print(f"mean reward {early:.3f} in the first fifth of the steps, {late:.3f} in the last")
    if late <= early:
        display.console.print(
            "The reward has not risen: begin with a model that solves some problems, lower --learning-rate or give "
            "more --steps.",
            style="yellow",
        )
    return result


def print_reinforced_plan(base: str, config: ReinforcedConfig, out: Path, console: Console) -> None:
    """Prints what reinforcement will take; writes nothing."""
    path, _ = open_base(base, config, "reinforced", out)
    size = size_of_path(path)
    samples = config.steps * config.prompts_per_step * config.samples_per_prompt
    tokens = samples * config.max_new_tokens
    rate = sum(size.flops_per_token(config.max_new_tokens, backward=backward) for backward in (False, True))
    console.print(
        f"{config.steps} steps of {config.prompts_per_step} prompts, {config.samples_per_prompt} samples each: "
        f"{samples:,} samples of at most {config.max_new_tokens} tokens, at most {rate * tokens:.2e} FLOPs "
        f"for sampling and training with {size.parameters / 1e6:.2f} M parameters. Nothing was written.",
        highlight=False,
    )
