"""Strict typed configuration: what can be asked for, with units, and one sentence when it is asked for wrongly.

A recipe is a Python function that returns one of these objects; the resolved object is written to every run folder as
YAML and can be run again from there. Imports no torch, so that ``--help`` and ``--dry-run`` stay quick.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from stillroom.files import fingerprint
from stillroom.results.schema import arm_and_seed
from stillroom.types import UserError, printable
from stillroom.yamlfiles import parse_yaml

_MOST_ITEM_TOKENS = 100_000_000
"""Tokens of all items of one measure together: they are made one by one and held in memory."""
_MANY = 10**15
"""More than anything that is counted here comes to; what is larger would overflow somewhere."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0, le=_MANY)]
Count = Annotated[int, Field(ge=0, le=_MANY)]
Items = Annotated[int, Field(gt=0, le=1_000_000)]
"""How many items are measured: each is held in memory."""
Length = Annotated[int, Field(gt=0, le=65_536)]
"""Tokens of an item that is measured."""
PositiveFloat = Annotated[float, Field(gt=0.0)]
Factor = Annotated[float, Field(gt=0.0, le=1e6)]
"""A multiple of something."""
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]
"""A softmax temperature: outside of this, logits divided by it are not finite or all alike."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What both torch and numpy take as a seed."""
M = TypeVar("M", bound=BaseModel)
C = TypeVar("C", bound="Strict")
V = TypeVar("V")

_MOST_NAME_BYTES = 100
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
"""Names that are devices in every folder of some systems."""


def _is_name(name: str) -> str:
    """A name that is safe as a folder's: one visible line without separators."""
    stripped = name.strip(" ")
    if not name or name != stripped or name[-1] == ".":
        problem = "is empty, or begins or ends with a space, or ends with a point"
    elif printable(name) != name or any(sign in name for sign in "/\\:"):
        problem = "holds a slash, a backslash, a colon or a sign that cannot be seen"
    elif name[0] in ".-~":
        problem = "begins with a point, a hyphen or a tilde"
    elif len(name.encode()) > _MOST_NAME_BYTES:
        problem = f"takes {len(name.encode())} bytes"
    elif name.partition(".")[0].lower() in _DEVICES:
        problem = "is the name of a device on some systems"
    else:
        return name
    raise ValueError(
        f"the name {problem}; it becomes that of a folder, so give letters, digits and signs such as _ - + . @ of at "
        f"most {_MOST_NAME_BYTES} bytes"
    )


def _names_apart(named: dict[str, V]) -> dict[str, V]:
    """Refuses names that some file systems take for the same one."""
    seen: dict[str, str] = {}
    for name in named:
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            raise ValueError(f"{seen[folded]!r} and {name!r} are one name on some file systems; rename one")
        seen[folded] = name
    return named


Name = Annotated[str, AfterValidator(_is_name)]
"""A name that becomes part of a path."""
Named = Annotated[dict[Name, V], AfterValidator(_names_apart)]
"""Things by name, where names become folders."""


@functools.cache
def _takes_bool(kind: type[BaseModel], field: str) -> bool:
    return _mentions_bool(kind.model_fields[field].annotation)


def _mentions_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_mentions_bool, typing.get_args(annotation)))


def _holds_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_bool, value)))


class Strict(BaseModel):
    """A frozen configuration object that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name is not None and _holds_bool(value) and not _takes_bool(cls, info.field_name):
            raise ValueError("should be no true or false")
        return value

    def canonical(self) -> dict[str, Any]:
        """Plain JSON-able values of every field, defaults included."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """A hash of every field: two objects with the same fingerprint ask for the same thing."""
        return fingerprint(self.canonical())


class ModelConfig(Strict):
    """A causal language model in the Llama layout, or the folder or hub id of a pretrained one."""

    hidden_size: Annotated[int, Field(gt=0, le=2**17)] = 128
    """Width D of the residual stream."""
    intermediate_size: Annotated[int, Field(gt=0, le=2**20)] = 384
    """Width of the gated feed-forward layer."""
    num_layers: Annotated[int, Field(gt=0, le=4096)] = 4
    num_heads: Annotated[int, Field(gt=0, le=4096)] = 4
    num_kv_heads: Positive | None = None
    """Key and value heads; None means one for each query head."""
    max_positions: Annotated[int, Field(gt=0, le=2**24)] = 512
    """Longest sequence, in tokens, that the positions of the model cover."""
    rope_theta: PositiveFloat = 10_000.0
    tie_embeddings: bool = True
    """One matrix for the embedding and the unembedding."""
    path: str | None = None
    """A Hugging Face folder or hub id to start from; the sizes above are then ignored."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.num_heads % (self.num_kv_heads or self.num_heads):
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        return self


class SourceConfig(Strict):
    """Where a part of the text comes from."""

    kind: Literal["python-library", "files", "hub", "facts", "problems", "copying"]
    """``python-library``: the installed Python library's source. ``files``: files under ``path``. ``hub``: a
    Hugging Face dataset named by ``path`` (extra ``hub``). The others are synthetic worlds."""
    share: Factor = 1.0
    """Part of the training tokens, relative to the other sources."""
    path: str | None = None
    """Folder or file (``files``), dataset id or folder (``hub``)."""
    pattern: str = "**/*"
    """Which files under ``path`` (``files``); hidden ones only where the pattern names their dot."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders under ``path`` that are left out (``files``)."""
    format: Literal["auto", "text", "rows"] = "auto"
    """``text``: files are text as they stand. ``rows``: they hold rows with a text in ``field`` (JSON, JSON lines, CSV,
    Parquet, Arrow). ``auto``: what their names say (``files``)."""
    field: str = "text"
    """Column that holds the text (``hub``, and ``files`` of rows); ``a.b`` is field b of field a."""
    name: str | None = None
    """Configuration of the dataset (``hub``); None means its only one."""
    split: str | None = None
    """Split of the dataset that is read (``hub``); None means train. Held-out text is set apart within it."""
    max_document_chars: Annotated[int, Field(ge=100, le=_MANY)] = 4000
    """Longer texts are cut into documents of at most this many characters, at line ends."""
    options: dict[str, int | float | str | bool] = Field(default_factory=dict)
    """Knobs of a world, by name; the world refuses those that it does not know."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        known = _SOURCE_FIELDS.get(self.kind, ("options",))
        for name, field in type(self).model_fields.items():
            if name in ("kind", "share", *known):
                continue
            if getattr(self, name) != field.get_default(call_default_factory=True):
                raise ValueError(f"{name} has no effect on kind {self.kind}, which takes {', '.join(known)}; remove it")
        if "path" in known and not self.path:
            raise ValueError(f"kind {self.kind} has no path; set it to {_SOURCE_PATHS[self.kind]}")
        return self

    @model_serializer(mode="wrap")
    def _without_later_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out the fields that came later where they ask for nothing, so that older hashes still hold."""
        later = {"exclude": ((), []), "format": ("auto",), "name": (None,), "split": (None,)}
        return {name: value for name, value in handler(self).items() if value not in later.get(name, ())}


_SOURCE_FIELDS = {
    "python-library": ("max_document_chars",),
    "files": ("path", "pattern", "exclude", "format", "field", "max_document_chars"),
    "hub": ("path", "name", "split", "field", "max_document_chars"),
}
_SOURCE_PATHS = {"files": "a file or a folder of text", "hub": "the id of a dataset, or a folder that holds one"}


class CorpusConfig(Strict):
    """Text, a tokenizer trained on it, and packed sequences of tokens."""

    sources: Named[SourceConfig] = Field(min_length=1)
    vocab_size: Annotated[int, Field(ge=258, le=2**24)] = 2048
    """Tokens of the byte-level BPE tokenizer, specials included. Ignored where ``tokenizer`` is given."""
    tokenizer: str | None = None
    """A Hugging Face tokenizer folder or hub id to use instead of training one."""
    sequence_length: Annotated[int, Field(ge=8, le=2**20)] = 128
    """T, in tokens."""
    train_tokens: Positive = 1_000_000
    """Distinct training tokens prepared; an arm may use fewer (the first ones), never more."""
    heldout_tokens: Positive = 50_000
    """Held-out tokens, from files and worlds' items that training never sees."""
    isolate_documents: bool = True
    """Attention does not cross from one packed document to another and positions restart at each."""
    seed: Seed = 0


class ScheduleConfig(Strict):
    """How a field changes over the run; the field's own value is the first one, or the plateau with a warm-up."""

    kind: Literal["constant", "linear", "cosine", "warmup-stable-decay", "switch"]
    """``linear`` and ``cosine`` go from the field's value to ``final`` over the run; ``warmup-stable-decay`` rises from
    ``initial`` to it, stays, and falls to ``final``; ``switch`` jumps to ``final`` at ``at_tokens``."""
    final: float = 0.0
    """Value at the end of the run."""
    initial: float = 0.0
    """Value at the start (``warmup-stable-decay``)."""
    warmup: Fraction = 0.1
    """Part of the run in which the value rises (``warmup-stable-decay``)."""
    decay: Fraction = 0.2
    """Part of the run in which the value falls at the end (``warmup-stable-decay``)."""
    at_tokens: Positive | None = None
    """Training tokens after which the value is ``final`` (``switch``)."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "switch" and self.at_tokens is None:
            raise ValueError("kind switch needs at_tokens, the training tokens after which the value is final")
        if self.kind == "warmup-stable-decay" and self.warmup + self.decay > 1 + 1e-9:
            raise ValueError(f"warmup {self.warmup:g} and decay {self.decay:g} together are more than the whole run")
        return self


def _stays_within(schedule: ScheduleConfig | None, field: str, low: float, high: float) -> None:
    """Refuses a schedule that takes its field out of the range [low, high]."""
    if schedule is None:
        return
    names = ("final", "initial") if schedule.kind == "warmup-stable-decay" else ("final",)
    for name in names:
        value = getattr(schedule, name)
        if not low <= value <= high:
            raise ValueError(f"{field}.{name} is {value:g}, expected a value from {low:g} to {high:g}")


class RoutingConfig(Strict):
    """Which positions lose their distillation term."""

    rule: Literal["low-entropy", "entropy-threshold", "low-gold-probability", "copy-aware", "student-entropy", "random"]
    """``low-entropy``: the paper's rule, the share of positions per sequence with the lowest teacher entropy."""
    share: Share = 0.15
    """Share of the positions of each sequence that are routed to the hard label alone."""
    share_schedule: ScheduleConfig | None = None
    """How ``share`` changes over the run."""
    threshold_nats: PositiveFloat | None = None
    """Positions whose teacher entropy is below this are routed (``entropy-threshold``; ``share`` is then ignored)."""
    hard_weight: Literal["restore", "keep"] = "restore"
    """Weight of the hard label on a routed position: back to 1 (``restore``) or still 1 - alpha (``keep``)."""

    @model_validator(mode="after")
    def _threshold_where_needed(self) -> Self:
        if self.rule == "entropy-threshold" and self.threshold_nats is None:
            raise ValueError("rule entropy-threshold needs threshold_nats, in nats")
        _stays_within(self.share_schedule, "share_schedule", 0.0, 1.0)
        return self


class ObjectiveConfig(Strict):
    """Loss = (1 - alpha)·CE(hard label) + alpha·CE(teacher's label), in nats per token."""

    alpha: Fraction = 0.0
    """Weight of the teacher's label: 0 is standard pretraining (SPT), 0.9 is DPT-90."""
    temperature: Temperature = 1.0
    """Softmax temperature of the teacher; stored labels must have been made at it."""
    temperature_form: Literal["teacher", "both"] = "teacher"
    """``teacher``: the teacher's softmax alone (the paper's form). ``both``: teacher and student, with the soft term
    multiplied by temperature² (Hinton et al. 2015); costs a second softmax."""
    divergence: Literal["cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon"] = "cross-entropy"
    """What the soft term measures. ``forward-kl`` is ``cross-entropy`` less the teacher's entropy, so it has the same
    gradient; the last two need a live teacher."""
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Weight of the teacher in the mixture of ``jensen-shannon``."""
    tail: Literal["bucket", "renormalise", "gold"] = "bucket"
    """What becomes of the mass outside truncated labels: one further outcome, dropped (biased), or given to the next
    token."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Part of the hard label that is spread evenly over the vocabulary."""
    z_loss: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of logsumexp² of the logits, which keeps them from drifting."""
    heads: Annotated[int, Field(gt=0, le=4096)] = 1
    """Tokens predicted ahead of each position (multi-token prediction); 1 is the next token alone."""
    alpha_schedule: ScheduleConfig | None = None
    """How ``alpha`` changes over the run."""
    temperature_schedule: ScheduleConfig | None = None
    """How ``temperature`` changes over the run; needs a live teacher."""
    routing: RoutingConfig | None = None

    @model_validator(mode="after")
    def _schedules_stay_in_range(self) -> Self:
        _stays_within(self.alpha_schedule, "alpha_schedule", 0.0, 1.0)
        _stays_within(self.temperature_schedule, "temperature_schedule", 0.01, 100.0)
        return self

    @property
    def highest_alpha(self) -> float:
        """The largest alpha of the run; above 0 means that a teacher is needed at some step."""
        schedule = self.alpha_schedule
        if schedule is None or schedule.kind == "constant":
            return self.alpha
        values = [self.alpha, schedule.final]
        return max([*values, schedule.initial] if schedule.kind == "warmup-stable-decay" else values)


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
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon`` gives the hidden matrices to Muon and everything else to AdamW."""
    learning_rate: PositiveFloat = 3e-3
    base_width: Positive | None = None
    """Width that the learning rate was tuned at (μP), so that one found on a narrow model holds for a wide one: initial
    weights, logits and the rates of the hidden matrices are scaled by powers of base_width / hidden_size. None means no
    scaling. Widen by more heads of the same size."""
    muon_learning_rate: PositiveFloat = 0.02
    """Learning rate of the matrices that Muon trains."""
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    warmup: Fraction = 0.03
    """Share of the steps in which the learning rate rises from 0."""
    decay: Fraction = 0.2
    """Share of the steps in which the learning rate falls at the end (``wsd``)."""
    final_learning_rate: Fraction = 0.1
    """Last learning rate as a part of the highest."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """On matrices only: never on norms, biases and embeddings."""
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
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
    """Checkpoints whose step is a multiple of this are kept to the end of the run; 0 means none."""
    non_finite: Literal["stop", "skip"] = "stop"
    """On a loss or gradient that is not finite: ``stop`` saves and ends the run, ``skip`` leaves the step out."""
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Where the metrics go besides ``metrics.jsonl`` (extra ``track``)."""
    parallel: ParallelConfig = ParallelConfig()
    validate_every: Count = 100
    """Steps between validations; 0 means at the end only."""
    seed: Seed = 0

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

    def identity(self) -> dict[str, Any]:
        """The fields that determine the trained weights: without bookkeeping and without how the work is spread."""
        bookkeeping = {"checkpoint_seconds", "checkpoint_steps", "keep_last", "keep_every", "tracker", "parallel"}
        kept = {name: value for name, value in self.canonical().items() if name not in bookkeeping}
        return kept | {"parameter_precision": self.parallel.parameter_precision}


class LabelsConfig(Strict):
    """How a teacher's distribution is kept."""

    codec: Literal["sampled", "top-k", "top-p"] = "sampled"
    """``sampled`` is unbiased (systematic sampling); the others keep the largest probabilities and the tail's mass."""
    num_samples: Annotated[int, Field(ge=1, le=255)] = 50
    """N of the sampled codec."""
    k: Annotated[int, Field(ge=1, le=1024)] = 50
    """Most ids kept per position (``top-k``, ``top-p``)."""
    p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Probability mass kept (``top-p``)."""
    value_steps: Annotated[int, Field(ge=1, le=255)] = 199
    """Levels per unit of the square root of a probability (``top-k``, ``top-p``): their error falls with its square."""
    temperature: Temperature = 1.0
    """Temperature at which the teacher is read."""
    shard_sequences: Positive = 512
    """Sequences per shard."""
    seed: Seed = 0


class ArmConfig(ObjectiveConfig):
    """One student of a study: its objective, and what differs from the study's training."""

    data: Factor = 1.0
    """Distinct tokens as a multiple of ``training.tokens``: 2 for SPT-2x."""
    epochs: Factor = 1.0
    """Passes over them."""
    teacher: Literal["stored", "live"] = "stored"
    """Where the teacher's labels come from: the store that all arms share, or the teacher itself at every step."""
    like: str | None = None
    """Another arm whose budget this one takes, as ``budget`` says; ``data`` is then worked out."""
    budget: Literal["iso-data", "iso-compute"] = "iso-data"
    """What is taken from arm ``like``: its tokens and epochs, or its FLOPs of student and teacher together (labelling
    counts once for every distinct token)."""
    learning_rate: PositiveFloat | None = None
    """None means the study's."""
    seed: Seed | None = None
    """Seed of weights and order; None means the study's."""


def over_seeds(arms: Mapping[str, ArmConfig], seeds: Sequence[int]) -> dict[str, ArmConfig]:
    """Every arm at every seed, named ``arm-s0``, ``arm-s1``, ... as reports group them.

    Seed by seed, so that a study cut short has whole seeds.
    """
    return {f"{name}-s{seed}": arm.model_copy(update={"seed": seed}) for seed in seeds for name, arm in arms.items()}


def heads_that_do_not_fit(model: ModelConfig, heads: int) -> str | None:
    """Why a model cannot have so many heads, each beyond the first taking a block off its trunk; None where it can."""
    if heads == 1 or (model.path is None and model.num_layers >= heads):
        return None
    found = f"{model.num_layers} layers" if model.path is None else f"model.path {model.path}"
    return (
        f"heads is {heads}, which takes {heads - 1} blocks off the trunk, but the model is {found}; "
        "train a new model with at least as many layers as heads"
    )


class EvaluationConfig(Strict):
    """What is measured, on how many items, from which seed."""

    suites: tuple[Literal["lm", "icl", "tts", "heads", "retrieval"], ...] = ("lm", "icl", "tts", "heads")
    """``lm``: bits per byte. ``icl``: copying, recall, few-shot rules and counterfactual facts. ``tts``: pass@k and
    diversity. ``heads``: induction and previous-token heads. ``retrieval``: needle in a haystack and context question
    answering."""
    heldout_sequences: Items = 256
    copying_sequences: Items = 64
    """Sequences of random tokens, repeated."""
    copying_period: Annotated[int, Field(ge=2, le=65_536)] = 25
    """Tokens before the sequence repeats."""
    copying_repeats: Annotated[int, Field(ge=2, le=65_536)] = 4
    copying_vocabulary: Items = 256
    """How many token ids, the most frequent ones of the held-out text, the random tokens are drawn from."""
    counterfactual_items: Items = 200
    recall_sequences: Items = 64
    """Random walks over real bigrams in which some tokens always have the same successor (``icl``)."""
    recall_length: Annotated[int, Field(ge=16, le=65_536)] = 96
    """Tokens of each."""
    recall_triggers: Items = 3
    """Tokens of each sequence that always have the same successor."""
    rule_items: Items = 16
    """Few-shot items per kind (words, numbers) and number of shots (``icl``)."""
    rule_shots: Annotated[tuple[Annotated[int, Field(ge=1, le=32)], ...], Field(min_length=1)] = (1, 2, 4)
    """Examples before the question; those that the model's positions cannot hold are left out."""
    contamination_ngram: Annotated[int, Field(ge=0, le=65_536)] = 13
    """Tokens of the n-grams by which items are looked for in the training text; 0 looks for none."""
    contamination_sequences: Positive = 50_000
    """Most training sequences that are read for it, evenly spaced."""
    retrieval_items: Items = 40
    """Needles per length and depth, and context questions per number of notes."""
    needle_lengths: Annotated[tuple[Length, ...], Field(min_length=1)] = (48, 80, 112)
    """Whole prompts, in tokens."""
    needle_depths: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Where the needle lies: 0 is first, 1 is last."""
    context_notes: Annotated[tuple[Annotated[int, Field(gt=0, le=1000)], ...], Field(min_length=1)] = (1, 2, 4)
    """Facts stated before a context question."""
    problems: Items = 100
    samples_per_problem: Items = 32
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (0.6, 1.0)
    ks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    max_new_tokens: Length = 24
    seed: Seed = 0

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self.ks and max(self.ks) > self.samples_per_problem:
            raise ValueError(
                f"ks asks for pass@{max(self.ks)} but samples_per_problem is {self.samples_per_problem}; "
                "give at least as many samples"
            )
        return self

    @model_validator(mode="after")
    def _items_fit_into_memory(self) -> Self:
        for name, number in (
            ("copying_sequences, copying_period and copying_repeats", self.copying_tokens * self.copying_sequences),
            ("recall_sequences and recall_length", self.recall_length * self.recall_sequences),
            ("retrieval_items and needle_lengths", sum(self.needle_lengths) * self.retrieval_items),
        ):
            if number > _MOST_ITEM_TOKENS:
                raise ValueError(f"{name} make {number:,} tokens, expected at most {_MOST_ITEM_TOKENS:,}; lower one")
        return self

    @property
    def copying_tokens(self) -> int:
        """Tokens of a copying sequence after what opens it."""
        return self.copying_period * self.copying_repeats


class MixtureConfig(Strict):
    """Further teachers beside the study's own, whose name among them is ``teacher``."""

    rule: Literal["average", "position", "domain"] = "average"
    """``average``: of their probabilities. ``position``: at every position the one with the lowest cross-entropy (it
    looks at the next token to choose). ``domain``: each for the sources that ``domains`` gives it."""
    teachers: Named[str] = Field(min_length=1)
    """A model folder, hub id or GGUF file by name; all must have the corpus's tokenizer."""
    weights: dict[str, Factor] = Field(default_factory=dict)
    """By teacher's name, relative to the others (``average``); 1 where none is given."""
    domains: dict[str, str] = Field(default_factory=dict)
    """The name of the teacher for a source (``domain``); ``teacher`` where none is given."""

    @model_validator(mode="after")
    def _names_known(self) -> Self:
        if "teacher" in self.teachers:
            raise ValueError("teachers names one 'teacher', which is the study's own; call it otherwise")
        known = ["teacher", *self.teachers]
        for field, names in (("weights", self.weights), ("domains", self.domains.values())):
            for name in names:
                if name not in known:
                    raise ValueError(f"{field} names teacher {name!r}, which is not one{nearest(name, known)}")
        return self


class TeacherConfig(Strict):
    """The teacher of a study: trained here, or a pretrained model named by ``model.path``."""

    model: ModelConfig = ModelConfig(hidden_size=256, intermediate_size=768, num_layers=4)
    training: TrainingConfig | None = TrainingConfig(epochs=2.0)
    """None where ``model.path`` names a model to be used as it is."""
    mixture: MixtureConfig | None = None
    """Further teachers whose labels are mixed with this one's."""


class TeachingConfig(Strict):
    """What stands behind the soft labels of one run, in full: its recipe makes the same student anywhere."""

    teacher: TeacherConfig
    labels: LabelsConfig = LabelsConfig()
    labelled_tokens: Positive | None = None
    """Training tokens whose labels are stored; None means those that the run sees."""
    source: Literal["stored", "live"] = "stored"
    """As ``ArmConfig.teacher``."""


class RunConfig(Strict):
    """One training run: ``stillroom train``."""

    name: Name = "run"
    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    labels: str | None = None
    """Folder of the label store, where ``objective.alpha`` is above 0."""
    teacher: str | None = None
    """Folder or hub id of a live teacher, instead of ``labels``."""
    teaching: TeachingConfig | None = None
    """A teacher to be made or loaded, and its labels, instead of both."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = [name for name in ("labels", "teacher", "teaching") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both given; say once where soft labels come from")
        if problem := heads_that_do_not_fit(self.model, self.objective.heads):
            raise ValueError(f"objective.{problem}")
        return self


class StudyConfig(Strict):
    """A corpus, a teacher, its labels, students that differ in one thing each, and what is measured on all."""

    name: Name
    corpus: CorpusConfig
    teacher: TeacherConfig = TeacherConfig()
    labels: LabelsConfig = LabelsConfig()
    student: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    arms: Named[ArmConfig] = Field(min_length=1)
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        length = self.corpus.sequence_length
        for name, model in (("teacher.model", self.teacher.model), ("student", self.student)):
            if model.path is None and length > model.max_positions:
                raise ValueError(
                    f"corpus.sequence_length is {length} but {name}.max_positions is {model.max_positions}; "
                    "shorten the sequences or raise the positions"
                )
        for source in self.teacher.mixture.domains if self.teacher.mixture else ():
            if source not in self.corpus.sources:
                hint = nearest(source, list(self.corpus.sources))
                raise ValueError(f"teacher.mixture.domains names source {source!r}, which is not one{hint}")
        if self.training.epochs != 1:
            raise ValueError(
                f"training.epochs is {self.training.epochs:g}, but every arm has its own; set arms.NAME.epochs"
            )
        seeds: dict[tuple[str, int | None], str] = {}
        for name, arm in self.arms.items():
            if (twin := seeds.setdefault(arm_and_seed(name), name)) != name:
                raise ValueError(f"arms {twin!r} and {name!r} are both named as one seed of one arm; rename one")
            if name.casefold() == "teacher":
                raise ValueError(f"arms names one {name!r}, which is the study's own teacher; call it otherwise")
            if problem := heads_that_do_not_fit(self.student, arm.heads):
                raise ValueError(f"arms.{name}.{problem}")
        needed = max(round(self.training.tokens * arm.data) for arm in self.arms.values())
        if self.teacher.training is not None:
            needed = max(needed, self.teacher.training.tokens)
        if needed > self.corpus.train_tokens:
            raise ValueError(
                f"corpus.train_tokens is {self.corpus.train_tokens} but an arm or the teacher needs {needed}; raise it"
            )
        return self


def explain(error: ValidationError, root: type[BaseModel], where: str) -> UserError:
    """The first problem of a pydantic error as one sentence with the field's dotted name."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path)
    count = len(error.errors())
    more = f" (and {count - 1} more)" if count > 1 else ""
    if first["type"] == "extra_forbidden":
        names = field_names(root, path[:-1])
        return UserError(f"{where}: {dotted} is not a field here{nearest(path[-1], names)}{more}.")
    if first["type"] == "invalid_key":
        return UserError(f"{where}: {dotted} is no text and so no name of a field{more}.")
    if path and path[-1] == "[key]":
        del path[-1]
        dotted = ".".join(path)
    if first["type"] == "missing":
        return UserError(f"{where}: {dotted} is missing{more}; give it a value.")
    found = first.get("input")
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    message = message[:1].lower() + message[1:]
    if not dotted:
        return UserError(f"{where}: {message}{more}.")
    shown = ":" if isinstance(found, Mapping | BaseModel) else f" is {short(found)},"
    return UserError(f"{where}: {dotted}{shown} {message}{more}.")


def short(value: Any) -> str:
    """A value as it is quoted in a sentence."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def nearest(name: str, choices: list[str]) -> str:
    """A hint for a misspelt name: the nearest choice where one is near, and the choices where they are few."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; expected one of {', '.join(choices)}" if choices else ""


def _model_of(annotation: Any) -> Any:
    """The model, or the annotation of a mapping's values, inside an annotation; None where there is neither."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = typing.get_origin(annotation)
    if origin is dict:
        return annotation
    if origin in (typing.Union, types.UnionType):
        return next((found for part in typing.get_args(annotation) if (found := _model_of(part))), None)
    return None


def field_names(root: type[BaseModel], path: list[str]) -> list[str]:
    """The fields of the model that a dotted path leads to; empty where it leads to none."""
    current: Any = root
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(part)
            current = None if field is None else _model_of(field.annotation)
        elif typing.get_origin(current) is dict:
            current = _model_of(typing.get_args(current)[1])
        if current is None:
            return []
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def parse(kind: type[M], values: Any, where: str) -> M:
    """A configuration from plain values; a ``UserError`` that names the field where they do not fit."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: holds {type(values).__name__}, expected a mapping of fields of {kind.__name__}.")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, kind, where) from None


def override(config: C, assignments: list[str]) -> C:
    """The configuration with ``dotted.name=value`` assignments applied; values are read as YAML."""
    values = config.model_dump(mode="python")
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise UserError(f"--set {assignment}: no '=' found, expected dotted.name=value.")
        _assign(values, type(config), name.strip().split("."), _scalar(text, assignment), assignment)
    return parse(type(config), values, "--set") if assignments else config


def _scalar(text: str, assignment: str) -> Any:
    value = parse_yaml(text, f"--set {assignment}", "a YAML value, quoted where it is text with signs")
    if isinstance(value, str) and re.search(r"\d", value):  # YAML 1.1 takes 1e-3 for text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], root: type[BaseModel], path: list[str], value: Any, assignment: str) -> None:
    current: Any = values
    for depth, part in enumerate(path):
        if not isinstance(current, dict) or (part not in current and not _may_be_new(root, path, depth)):
            prefix = ".".join(path[:depth])
            given: list[str] = list(current) if isinstance(current, dict) else []
            choices = list(dict.fromkeys([*given, *field_names(root, path[:depth])]))
            within = f" of {prefix}" if prefix else ""
            raise UserError(f"--set {assignment}: {part} is not a field{within}{nearest(part, choices)}.")
        if depth == len(path) - 1:
            current[part] = value
        else:
            if current.get(part) is None:  # an optional object, such as routing, that is now asked for
                current[part] = {}
            current = current[part]


def _may_be_new(root: type[BaseModel], path: list[str], depth: int) -> bool:
    """Whether a name that has no value yet may be set: a field of an optional object, or a world's option."""
    return path[depth] in field_names(root, path[:depth]) or (depth > 0 and path[depth - 1] == "options")


def to_yaml(config: Strict, kind: str) -> str:
    """The resolved configuration as YAML, with the kind of object on top, so that it runs again as it is."""
    return yaml.safe_dump({"kind": kind, **config.canonical()}, sort_keys=False, allow_unicode=True, width=120)
