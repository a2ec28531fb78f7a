"""What a study will take, before it is run: tokens, parameters, FLOPs, time and memory. Writes nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from stillroom.config import ModelConfig, RunConfig, StudyConfig, TrainingConfig, to_yaml
from stillroom.console import Terminal
from stillroom.corpora.sources.source_kinds import source_kind
from stillroom.costs import num_parameters, size_of, training_bytes
from stillroom.labels import price
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.results.schema import arm_and_seed
from stillroom.study.budgets import teaching_rate, with_budgets
from stillroom.study.buildable import check_models
from stillroom.study.feasible import check_study, refuse_unreached
from stillroom.study.scale import (
    COUNTS,
    GPU,
    GPU_FLOPS,
    UTILISATION,
    gpu_plan,
    num_planned_steps,
)
from stillroom.study.single import check_taught, labelled_tokens, single_study
from stillroom.study.spans import MOST_PARAMETERS, Span, Trials
from stillroom.types import UserError, printable_lines

_ON_PAPER = (0.4, 4.0)
"""A stage that was not tried takes between so many times what its FLOPs come to."""
_LABEL_BYTES = (0.3, 2.5)
"""Labels of a teacher that is not there yet take between so many times the rule of thumb, by how sure it will be."""
_UTILISATION = 0.25
"""Part of the measured matrix rate that a training step of a small model is assumed to reach on a processor."""
_GPU_PARAMETERS = 50_000_000
"""Models from this size on are planned for GPUs too."""


@dataclass(frozen=True)
class Cost:
    """What one model takes."""

    name: str
    parameters: int
    tokens: float
    flops: float
    memory_bytes: float


def study_costs(config: StudyConfig) -> list[Cost]:
    """The teacher, the labelling pass and every arm with its live teacher, in the order in which they run.

    FLOPs are NaN where a pretrained teacher is not on this machine.
    """
    costs = []
    vocab, length = config.corpus.vocab_size, config.corpus.sequence_length
    training = config.teacher.training
    if training is not None:
        costs.append(training_cost("teacher", config.teacher.model, training, vocab, length))
    if tokens := labelled_tokens(config):
        asked = price(tokens, _teaching_rate(config), config.labels, vocab)
        costs.append(Cost("labels", 0, tokens, asked.teacher_flops, asked.num_bytes))
    for name, arm in config.arms.items():
        changes = {"tokens": round(config.training.tokens * arm.data), "epochs": arm.epochs}
        arm_training = config.training.model_copy(update=changes)
        cost = training_cost(name, config.student, arm_training, vocab, length)
        if ever_needs_teacher(arm) and arm.teacher == "live":
            cost = replace(cost, flops=cost.flops + _teaching_rate(config) * cost.tokens)
        costs.append(cost)
    return costs


def _teaching_rate(config: StudyConfig) -> float:
    try:
        return teaching_rate(config, config.corpus.vocab_size)
    except UserError:  # such as a hub id that is not in the cache yet
        return math.nan


def training_cost(name: str, model: ModelConfig, training: TrainingConfig, vocab: int, length: int) -> Cost:
    """One training run: FLOPs forward and backward; memory of weights, optimizer and one micro-batch."""
    size = size_of(model, vocab)
    rate = size.flops_per_token(length, backward=True)
    tokens = num_planned_steps(training, rate, length) * training.batch_sequences * length
    sequences = training.micro_batch_sequences or training.batch_sequences
    memory = training_bytes(size, sequences * length, number_bytes=4, recompute=training.parallel.recompute)
    return Cost(name, size.parameters, tokens, rate * tokens, memory)


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
    """Prints the resolved configuration and the table of costs, whose times are tried on a little of every stage."""
    console, study = Terminal(), config
    for source in config.corpus.sources.values() if config.corpus.path is None else ():
        source_kind(source.kind).check(source)
    if isinstance(config, StudyConfig):
        study = config = with_budgets(config)
        check_study(config)
        costs = study_costs(config)
    elif config.teaching is not None:
        refuse_unreached([config.training], config)
        study = single_study(config)
        check_models(study)
        costs = study_costs(study)
    else:
        check_taught(config)
        check_models(single_study(config))
        corpus = config.corpus
        costs = [training_cost(config.name, config.model, config.training, corpus.vocab_size, corpus.sequence_length)]
    kind = "study" if isinstance(config, StudyConfig) else "run"
    console.print(
        Syntax(printable_lines(to_yaml(config, kind)), "yaml", theme="ansi_light", background_color="default")
    )
    machine = this_machine(config.training.precision)
    trials = _tried(study, costs, machine)
    for cost in costs:
        if cost.name not in trials.seconds and not math.isnan(cost.flops):
            trials.seconds[cost.name] = Span.around(cost.flops / machine.reached, *_ON_PAPER)
    console.print(_cost_table(config, costs, trials))
    console.print(_how_told(trials, machine), style="dim", soft_wrap=True)
    print_gpu_plan(config, console, machine)


def _tried(study: StudyConfig | RunConfig, costs: list[Cost], machine: Machine) -> Trials:
    """What a little of every stage took just now; nothing where a GPU or a large model would have to be tried."""
    if machine.is_gpu or not isinstance(study, StudyConfig) or max(cost.parameters for cost in costs) > MOST_PARAMETERS:
        return Trials()
    from stillroom.study.trials import try_stages  # on demand: it needs all that a study needs

    return try_stages(study)


def _how_told(trials: Trials, machine: Machine) -> str:
    """Where the times are from, in words."""
    tried = ", ".join(dict.fromkeys(arm_and_seed(name)[0] for name in trials.tried))
    paper = f"{'other times are' if tried else 'Times are'} on paper, at {machine.describe()}"
    parts = [f"Tried on a little of it just now: {tried}" if tried else "", paper, *trials.missing]
    return (
        f"{'; '.join(filter(None, parts))}. Times go from the lowest to the highest that is likely while the machine "
        "is as busy as now; memory is weights, gradients, optimizer state and one micro-batch. Nothing was written."
    )


def _cost_table(config: StudyConfig | RunConfig, costs: list[Cost], trials: Trials) -> Table:
    """A row for every stage, or arm at all its seeds, and their sum, with times from lowest to highest."""
    table = Table(title=f"{config.name}: what it will take", title_justify="left")
    for heading in ("part", "parameters", "tokens", "FLOPs", "time", "memory"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    corpus = config.corpus
    table.add_row("corpus", "", _millions(corpus.train_tokens + corpus.heldout_tokens), "", _span(trials, "corpus"), "")
    for row in _rows(costs):
        cost = row.cost
        memory = f"{cost.memory_bytes / 2**20:.0f} MiB"
        if cost.name == "labels":
            size = trials.label_bytes or Span.around(cost.memory_bytes / cost.tokens, *_LABEL_BYTES)
            memory = f"{_range(size.low * cost.tokens / 2**20, size.high * cost.tokens / 2**20)} MiB on disk"
        table.add_row(
            cost.name,
            f"{cost.parameters / 1e6:.2f} M" if cost.parameters else "",
            _millions(cost.tokens),
            "unknown" if math.isnan(cost.flops) else f"{cost.flops:.2e}",
            _durations(_sum_of(trials, row.names)) if set(row.names) <= set(trials.seconds) else "unknown",
            memory,
        )
    if isinstance(config, StudyConfig):
        table.add_row("evaluation", "", "", "", _span(trials, "evaluation"), "")
    total = sum(cost.flops for cost in costs if not math.isnan(cost.flops))
    table.add_section()
    whole = _sum_of(trials, trials.seconds)
    rows = {"corpus", *(cost.name for cost in costs), *(["evaluation"] if isinstance(config, StudyConfig) else [])}
    more = "" if rows <= set(trials.seconds) else " and what is unknown"
    table.add_row("total", "", "", f"{total:.2e}", f"{_durations(whole)}{more}", "")
    return table


@dataclass(frozen=True)
class _Row:
    """A stage, or an arm at all its seeds, whose tokens and FLOPs are summed; the memory is that of one."""

    cost: Cost
    names: tuple[str, ...]


def _rows(costs: list[Cost]) -> list[_Row]:
    grouped: dict[str, list[Cost]] = {}
    for cost in costs:
        grouped.setdefault(arm_and_seed(cost.name)[0], []).append(cost)
    return [
        _Row(
            replace(
                same[0],
                name=f"{arm}, {len(same)} seeds" if len(same) > 1 else same[0].name,
                tokens=sum(cost.tokens for cost in same),
                flops=sum(cost.flops for cost in same),
            ),
            tuple(cost.name for cost in same),
        )
        for arm, same in grouped.items()
    ]


def _sum_of(trials: Trials, names: Iterable[str]) -> Span:
    return functools.reduce(Span.__add__, (trials.seconds[name] for name in names), Span(0.0, 0.0))


def _millions(tokens: float) -> str:
    return f"{tokens / 1e6:.2f} M"


def _span(trials: Trials, name: str) -> str:
    found = trials.seconds.get(name)
    return "unknown" if found is None else _durations(found)


def _durations(span: Span) -> str:
    low, high = _duration(span.low), _duration(span.high)
    low_unit, high_unit = low.partition(" ")[2], high.partition(" ")[2]
    return high if low == high else f"{low.partition(' ')[0] if low_unit == high_unit else low} to {high}"


def _range(low: float, high: float) -> str:
    return f"{low:.2g} to {high:.2g}" if high < 100 else f"{low:.0f} to {high:.0f}"


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
    if isinstance(config, StudyConfig) and (tokens := labelled_tokens(config)):
        asked = price(tokens, _teaching_rate(config), config.labels, vocab)
        sure = " to ".join(f"{part * asked.num_bytes / 2**30:.0f}" for part in _LABEL_BYTES)
        size = f"at about {asked.bytes_per_token:.0f} bytes, {sure} GiB by how sure the teacher is"
        note += f" Label store: {tokens / 1e9:.2f} G tokens {size}"
        hours = asked.teacher_flops / gpu.reached / 3600
        note += "." if math.isnan(hours) else f"; labelling takes {hours:.0f} GPU-hours, on any number of GPUs."
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
