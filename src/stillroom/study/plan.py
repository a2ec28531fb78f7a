"""What a study will take, before it is run: tokens, parameters, FLOPs, time and memory. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from stillroom.config import ModelConfig, RunConfig, StudyConfig, TrainingConfig, to_yaml
from stillroom.console import Terminal
from stillroom.models.cost import flops_per_token, num_parameters
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.study.budgets import with_budgets
from stillroom.study.measurable import check_evaluation
from stillroom.study.scale import (
    COUNTS,
    GPU,
    GPU_FLOPS,
    UTILISATION,
    gpu_plan,
    label_bytes_per_token,
    num_planned_steps,
)
from stillroom.study.single import check_taught, single_study
from stillroom.types import printable_lines

_UTILISATION = 0.25
"""Part of the measured matrix rate that a training step of a small model is assumed to reach on a processor."""
_GPU_PARAMETERS = 50_000_000
"""Models from this size on are planned for GPUs too."""
_BYTES_PER_PARAMETER = 16  # fp32 weight, gradient and two moments
_ACTIVATIONS_PER_LAYER = 34  # numbers of width D kept per position and layer for the backward pass


@dataclass(frozen=True)
class Cost:
    """What one model takes."""

    name: str
    parameters: int
    tokens: float
    flops: float
    memory_bytes: float


def study_costs(config: StudyConfig) -> list[Cost]:
    """The teacher, the labelling pass and every arm, in the order in which they run."""
    costs = []
    vocab, length = config.corpus.vocab_size, config.corpus.sequence_length
    training = config.teacher.training
    if training is not None:
        costs.append(training_cost("teacher", config.teacher.model, training, vocab, length))
    distilled = [arm for arm in config.arms.values() if ever_needs_teacher(arm)]
    if distilled and config.teacher.model.path is None:
        tokens = max(config.training.tokens * arm.data for arm in distilled)
        rate = flops_per_token(config.teacher.model, vocab, length, backward=False)
        costs.append(Cost("labels", 0, tokens, rate * tokens, label_bytes_per_token(config.labels, vocab) * tokens))
    for name, arm in config.arms.items():
        changes = {"tokens": round(config.training.tokens * arm.data), "epochs": arm.epochs}
        arm_training = config.training.model_copy(update=changes)
        costs.append(training_cost(name, config.student, arm_training, vocab, length))
    return costs


def training_cost(name: str, model: ModelConfig, training: TrainingConfig, vocab: int, length: int) -> Cost:
    """One training run: FLOPs forward and backward; memory of weights, optimizer and one micro-batch."""
    parameters = num_parameters(model, vocab)
    rate = flops_per_token(model, vocab, length, backward=True)
    tokens = num_planned_steps(training, rate, length) * training.batch_sequences * length
    sequences = training.micro_batch_sequences or training.batch_sequences
    activations = 4.0 * sequences * length * model.hidden_size * model.num_layers * _ACTIVATIONS_PER_LAYER
    return Cost(name, parameters, tokens, rate * tokens, parameters * _BYTES_PER_PARAMETER + activations)


@dataclass(frozen=True)
class Machine:
    """What the plan's times are told for."""

    name: str
    flops: float
    """Matrix-product FLOP/s of the processor or of one GPU."""
    is_measured: bool
    """Now, on this machine; else it is from the maker's data sheet."""
    is_gpu: bool

    @property
    def utilisation(self) -> float:
        """Part of that rate that a training step is assumed to reach."""
        return UTILISATION if self.is_gpu else _UTILISATION

    @property
    def reached(self) -> float:
        """Model FLOP/s that are assumed."""
        return self.flops * self.utilisation

    def describe(self) -> str:
        """The assumption in words."""
        unit, size = ("TFLOP/s", 1e12) if self.is_gpu else ("GFLOP/s", 1e9)
        source = "measured now" if self.is_measured else "by its data sheet"
        return f"{self.utilisation:.0%} of the matrix rate of this {self.name}, {self.flops / size:.0f} {unit} {source}"


def this_machine(precision: str) -> Machine:
    """The GPU of this process where there is one, else its processor, whose rate is measured at a small model's sizes.

    A GPU's rate is its data sheet's, or measured (0.3 s) where that is not known or the precision is fp32.
    """
    import torch

    from stillroom.models import precision_name
    from stillroom.training.distributed import own_device
    from stillroom.training.hardware import listed_flops, measured_rate

    device = own_device()
    resolved = precision_name(precision, device)
    dtype = torch.bfloat16 if resolved == "bf16" else torch.float32
    if device.type != "cuda":
        return Machine("processor", measured_rate(dtype, 512, 0.3, rows=4096), is_measured=True, is_gpu=False)
    name = torch.cuda.get_device_name(device)
    listed = listed_flops(name) if resolved == "bf16" else None
    rate = measured_rate(dtype, 4096, 0.3, device=device) if listed is None else listed
    return Machine(name, rate, is_measured=listed is None, is_gpu=True)


def print_plan(config: StudyConfig | RunConfig) -> None:
    """Prints the resolved configuration and the table of costs."""
    console = Terminal()
    if isinstance(config, StudyConfig):
        config = with_budgets(config)
        check_evaluation(config)
        costs = study_costs(config)
    elif config.teaching is not None:
        costs = study_costs(single_study(config))
    else:
        check_taught(config)
        corpus = config.corpus
        costs = [training_cost(config.name, config.model, config.training, corpus.vocab_size, corpus.sequence_length)]
    kind = "study" if isinstance(config, StudyConfig) else "run"
    console.print(
        Syntax(printable_lines(to_yaml(config, kind)), "yaml", theme="ansi_light", background_color="default")
    )
    machine = this_machine(config.training.precision)
    console.print(_cost_table(config.name, costs, machine.reached))
    console.print(
        f"Time is at {machine.describe()}, without corpus and evaluation; memory is weights, gradients, optimizer "
        "state and one micro-batch. Nothing was written.",
        style="dim",
    )
    print_gpu_plan(config, console, machine)


def _cost_table(name: str, costs: list[Cost], reached: float) -> Table:
    """A row per model and their sum, with times at ``reached`` FLOP/s."""
    table = Table(title=f"{name}: what it will take", title_justify="left")
    for heading in ("part", "parameters", "tokens", "FLOPs", "time", "memory"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for cost in costs:
        table.add_row(
            cost.name,
            f"{cost.parameters / 1e6:.2f} M" if cost.parameters else "",
            f"{cost.tokens / 1e6:.2f} M",
            f"{cost.flops:.2e}",
            _duration(cost.flops / reached),
            f"{cost.memory_bytes / 2**20:.0f} MiB",
        )
    total = sum(cost.flops for cost in costs)
    table.add_section()
    table.add_row("total", "", "", f"{total:.2e}", _duration(total / reached), "")
    return table


def _duration(seconds: float) -> str:
    """Seconds, or what is easier to read where there are many."""
    for size, unit in ((365.25 * 86_400, "years"), (86_400, "days"), (3600, "hours")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def print_gpu_plan(config: StudyConfig | RunConfig, console: Console, machine: Machine) -> None:
    """Prints what every model takes on GPUs; nothing for models that a processor trains in minutes.

    The GPUs are like the one of ``machine`` where it has one.
    """
    vocab = config.corpus.vocab_size
    if max(num_parameters(model, vocab) for _, model, _ in _gpu_runs(config)) < _GPU_PARAMETERS:
        return
    gpu = machine if machine.is_gpu else Machine(GPU, GPU_FLOPS, is_measured=False, is_gpu=True)
    console.print(_gpu_table(config, gpu))
    note = f"Time is at {gpu.utilisation:.0%} of {gpu.flops / 1e12:.0f} TFLOP/s per GPU; no step was measured."
    if isinstance(config, StudyConfig) and (tokens := _labelled_tokens(config)):
        size = label_bytes_per_token(config.labels, vocab)
        length = config.corpus.sequence_length
        forward = flops_per_token(config.teacher.model, vocab, length, backward=False) * tokens
        note += (
            f" Label store: {tokens / 1e9:.2f} G tokens at about {size:.0f} bytes, {tokens * size / 2**30:.0f} GiB; "
            f"labelling takes {forward / gpu.reached / 3600:.0f} GPU-hours, on any number of GPUs."
        )
    console.print(note, style="dim")


def _gpu_table(config: StudyConfig | RunConfig, gpu: Machine) -> Table:
    """A row for every model and number of GPUs that its layout divides over."""
    table = Table(title=f"On {gpu.name} GPUs, on paper", title_justify="left")
    for heading in ("part", "GPUs", "memory per GPU", "time per step", "steps", "time"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    vocab, length = config.corpus.vocab_size, config.corpus.sequence_length
    for name, model, training in _gpu_runs(config):
        for gpus in COUNTS:
            plan = gpu_plan(model, training, vocab, length, gpus, reached=gpu.reached)
            if plan is not None:
                table.add_row(
                    name,
                    str(gpus),
                    f"{plan.memory_bytes / 2**30:.1f} GiB",
                    f"{plan.step_seconds:.2f} s",
                    f"{plan.steps}",
                    f"{plan.hours:.1f} h",
                )
        table.add_section()
    return table


def _gpu_runs(config: StudyConfig | RunConfig) -> list[tuple[str, ModelConfig, TrainingConfig]]:
    if isinstance(config, RunConfig):
        return [(config.name, config.model, config.training)]
    runs = [("student", config.student, config.training)]
    if config.teacher.training is not None:
        runs.insert(0, ("teacher", config.teacher.model, config.teacher.training))
    return runs


def _labelled_tokens(config: StudyConfig) -> float:
    distilled = [arm for arm in config.arms.values() if ever_needs_teacher(arm)]
    return max((config.training.tokens * arm.data for arm in distilled), default=0.0)
