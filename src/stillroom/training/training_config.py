"""The budget, the optimizer and the bookkeeping of a run, and how it is spread over processes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from stillroom.strict import ADDED_LATER, Count, Factor, Fraction, Positive, PositiveFloat, Seed, Strict
from stillroom.training.optimizer_registry import OPTIMIZERS

_HELD_WHOLE = 2 * 2**30
"""Bytes of state up to which sharding a model costs more time in messages than its memory is worth."""


class ParallelConfig(Strict):
    """How a run is spread over the processes that ``torchrun`` started; results do not depend on it."""

    replicas: Positive | None = None
    """Groups of processes that hold the whole model each (hybrid sharding); inside one it is sharded. None means as
    many as there are processes where the model's state takes less than 2 GiB, else one."""
    tensor: Positive = 1
    """Processes that share every matrix (tensor parallel), where the model has a plan for it."""
    reshard: bool = True
    """Let go of a block's gathered weights after its forward pass: less memory, more messages."""
    parameter_precision: Literal["fp32", "bf16"] = "fp32"
    """In what the weights are gathered. ``fp32`` under autocast gives the numbers of one process; ``bf16`` halves the
    messages, with the residual stream in bf16 too."""
    recompute: bool = False
    """Activation checkpointing: keep only the input of every block and compute the rest again (a third more FLOPs)."""
    compile: bool = False
    """``torch.compile`` every block."""

    def num_replicas(self, size: int, state_bytes: float) -> int:
        """``replicas`` of ``size`` processes, with None worked out.

        Args:
            size: How many processes there are.
            state_bytes: Weights, gradients and moments of the model, and the weights of a live teacher.
        """
        if self.replicas is not None:
            return self.replicas
        return size if self.tensor == 1 and state_bytes < _HELD_WHOLE else 1


class TrainingConfig(Strict):
    """The budget, the optimizer and the bookkeeping of one training run."""

    tokens: Positive = 1_000_000
    """Distinct tokens seen: the first ones of the corpus."""
    epochs: Factor = 1.0
    """Passes over them."""
    steps: Positive | None = None
    """Budget in optimizer steps, instead of ``epochs``: the data is passed over as often as it takes."""
    flops: PositiveFloat | None = None
    """Budget in model FLOPs of the student (forward and backward), instead of ``epochs``."""
    batch_sequences: Positive = 32
    """Sequences per optimizer step, over all ranks and micro-batches."""
    micro_batch_sequences: Positive | None = None
    """Sequences per forward pass on one rank; None means the whole batch of the rank."""
    optimizer: str = "adamw"
    """``adamw``, or ``muon``, which gives the hidden matrices to Muon and everything else to AdamW; other packages may
    add more (entry point ``stillroom.optimizers``)."""
    learning_rate: PositiveFloat = 3e-3
    """Highest learning rate of what AdamW trains."""
    base_width: Positive | None = None
    """Width that the learning rate was tuned at (μP), so that one found on a narrow model holds for a wide one: initial
    weights, logits and the rates of the hidden matrices are scaled by powers of base_width / hidden_size. None means no
    scaling. Widen by more heads of the same size."""
    muon_learning_rate: PositiveFloat = 0.02
    """Learning rate of the matrices that Muon trains."""
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    """How the learning rate goes on after ``warmup``: to ``final_learning_rate`` over the run (``linear``, ``cosine``),
    or stable until ``decay`` (``wsd``)."""
    warmup: Fraction = 0.03
    """Share of the steps in which the learning rate rises from 0."""
    decay: Fraction = 0.2
    """Share of the steps in which the learning rate falls at the end (``wsd``)."""
    final_learning_rate: Fraction = 0.1
    """Last learning rate as a part of the highest."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """On matrices only: never on norms, biases and embeddings."""
    beta1: Fraction = 0.9
    """AdamW: decay per step of the mean of gradients."""
    beta2: Fraction = 0.95
    """AdamW: decay per step of the mean of their squares."""
    gradient_clip: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest norm of the gradient of a step; 0 means no clipping."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast precision; ``auto`` takes bf16 where the processor has it in hardware."""
    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 30.0
    """Seconds between checkpoints; 0 writes one after every step."""
    checkpoint_steps: Positive | None = None
    """Steps between checkpoints; takes the place of ``checkpoint_seconds``."""
    keep_last: Positive = 2
    """Newest checkpoints that are kept."""
    keep_every: Count = 0
    """Steps whose multiples are kept after the end as models, to be evaluated and inspected; 0 means none."""
    keep: Annotated[tuple[Positive, ...], ADDED_LATER] = ()
    """Further steps that are kept so."""
    non_finite: Literal["stop", "skip"] = "stop"
    """On a loss or gradient that is not finite: ``stop`` saves and ends the run, ``skip`` leaves the step out."""
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Where the metrics go besides ``metrics.jsonl`` (extra ``track``)."""
    parallel: ParallelConfig = ParallelConfig()
    validate_every: Count = 100
    """Steps between validations; 0 means at the end only."""
    seed: Seed = 0
    """Seed of the first weights and of the order of sequences."""

    @field_validator("optimizer")
    @classmethod
    def _is_known(cls, optimizer: str) -> str:
        return OPTIMIZERS.checked(optimizer)

    @model_validator(mode="after")
    def _micro_batches_divide(self) -> Self:
        micro = self.micro_batch_sequences
        if micro is not None and self.batch_sequences % micro:
            raise ValueError(
                f"batch_sequences {self.batch_sequences} is not a multiple of micro_batch_sequences {micro}"
            )
        if self.steps is not None and self.flops is not None:
            raise ValueError("steps and flops are both given; give one budget")
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.schedule != "constant" and self.warmup >= 1:
            raise ValueError(
                f"warmup is {self.warmup:g}, the whole run, so schedule {self.schedule} never begins; lower warmup or "
                "take schedule constant"
            )
        if self.schedule == "wsd" and self.warmup + self.decay > 1 + 1e-9:
            raise ValueError(
                f"warmup {self.warmup:g} and decay {self.decay:g} together are more than the whole run; lower one"
            )
        if self.schedule == "wsd" and self.decay == 0 and self.final_learning_rate < 1:
            raise ValueError(
                "decay is 0 with schedule wsd, so the rate would fall in no time; give a decay or take schedule "
                "constant"
            )
        return self

    def keeps(self, step: int) -> bool:
        """Whether the model after a step is kept."""
        return step in self.keep or (self.keep_every > 0 and step % self.keep_every == 0)

    def identity(self) -> dict[str, JsonValue]:
        """The fields that determine what is kept: without other bookkeeping and without how the work is spread."""
        bookkeeping = {"checkpoint_seconds", "checkpoint_steps", "keep_last", "keep_every", "tracker", "parallel"}
        kept = {name: value for name, value in self.canonical().items() if name not in bookkeeping}
        asked = {"keep_every": self.keep_every} if self.keep_every else {}
        return kept | asked | {"parameter_precision": self.parallel.parameter_precision}
