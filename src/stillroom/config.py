"""Strict typed configuration: what can be asked for, with units, and one sentence when it is asked for wrongly.

A recipe is a Python function that returns one of these objects; the resolved object is written to every run folder as
YAML and can be run again from there. Imports no torch, so that ``--help`` and ``--dry-run`` stay quick.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from stillroom.files import fingerprint
from stillroom.types import UserError

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
M = TypeVar("M", bound=BaseModel)
C = TypeVar("C", bound="Strict")


class Strict(BaseModel):
    """A frozen configuration object that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def canonical(self) -> dict[str, Any]:
        """Plain JSON-able values of every field, defaults included."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """A hash of every field: two objects with the same fingerprint ask for the same thing."""
        return fingerprint(self.canonical())


class ModelConfig(Strict):
    """A causal language model in the Llama layout, or the folder or hub id of a pretrained one."""

    hidden_size: Positive = 128
    """Width D of the residual stream."""
    intermediate_size: Positive = 384
    """Width of the gated feed-forward layer."""
    num_layers: Positive = 4
    num_heads: Positive = 4
    num_kv_heads: Positive | None = None
    """Key and value heads; None means one for each query head."""
    max_positions: Positive = 512
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
    share: PositiveFloat = 1.0
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
    max_document_chars: Annotated[int, Field(ge=100)] = 4000
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

    sources: dict[str, SourceConfig] = Field(min_length=1)
    vocab_size: Annotated[int, Field(ge=258)] = 2048
    """Tokens of the byte-level BPE tokenizer, specials included. Ignored where ``tokenizer`` is given."""
    tokenizer: str | None = None
    """A Hugging Face tokenizer folder or hub id to use instead of training one."""
    sequence_length: Annotated[int, Field(ge=8)] = 128
    """T, in tokens."""
    train_tokens: Positive = 1_000_000
    """Distinct training tokens prepared; an arm may use fewer (the first ones), never more."""
    heldout_tokens: Positive = 50_000
    """Held-out tokens, from files and worlds' items that training never sees."""
    isolate_documents: bool = True
    """Attention does not cross from one packed document to another and positions restart at each."""
    seed: int = 0


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
        if self.warmup + self.decay > 1:
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
    temperature: PositiveFloat = 1.0
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
    heads: Positive = 1
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
    epochs: PositiveFloat = 1.0
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
    keep_every: Annotated[int, Field(ge=0)] = 0
    """Checkpoints whose step is a multiple of this are kept to the end of the run; 0 means none."""
    non_finite: Literal["stop", "skip"] = "stop"
    """On a loss or gradient that is not finite: ``stop`` saves and ends the run, ``skip`` leaves the step out."""
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Where the metrics go besides ``metrics.jsonl`` (extra ``track``)."""
    parallel: ParallelConfig = ParallelConfig()
    validate_every: Annotated[int, Field(ge=0)] = 100
    """Steps between validations; 0 means at the end only."""
    seed: int = 0

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
    temperature: PositiveFloat = 1.0
    """Temperature at which the teacher is read."""
    shard_sequences: Positive = 512
    """Sequences per shard."""
    seed: int = 0


class ArmConfig(ObjectiveConfig):
    """One student of a study: its objective, and what differs from the study's training."""

    data: PositiveFloat = 1.0
    """Distinct tokens as a multiple of ``training.tokens``: 2 for SPT-2x."""
    epochs: PositiveFloat = 1.0
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
    seed: int | None = None
    """Seed of weights and order; None means the study's."""


def over_seeds(arms: Mapping[str, ArmConfig], seeds: Sequence[int]) -> dict[str, ArmConfig]:
    """Every arm at every seed, named ``arm-s0``, ``arm-s1``, ... as reports group them.

    Seed by seed, so that a study cut short has whole seeds.
    """
    return {f"{name}-s{seed}": arm.model_copy(update={"seed": seed}) for seed in seeds for name, arm in arms.items()}


_ARM_AND_SEED = re.compile(r"(.+)[-_.](?:s|seed)[-_]?(\d+)")


def arm_and_seed(name: str) -> tuple[str, int | None]:
    """``dpt90-s3`` as ``dpt90`` and 3, as ``over_seeds`` names arms; a name without a seed at its end as it is."""
    match = _ARM_AND_SEED.fullmatch(name)
    return (name, None) if match is None else (match[1], int(match[2]))


def heads_that_do_not_fit(model: ModelConfig, heads: int) -> str | None:
    """Why a model cannot have so many heads, each beyond the first taking a block off its trunk; None where it can."""
    if heads == 1 or (model.path is None and model.num_layers >= heads):
        return None
    found = f"{model.num_layers} layers" if model.path is None else f"model.path {model.path}"
    return (
        f"heads is {heads}, which takes {heads - 1} blocks off the trunk, but the model is {found}; "
        "train a new model with at least as many layers as heads"
    )


class RunConfig(Strict):
    """One training run: ``stillroom train``."""

    name: str = "run"
    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    labels: str | None = None
    """Folder of the label store, where ``objective.alpha`` is above 0."""
    teacher: str | None = None
    """Folder or hub id of a live teacher, instead of ``labels``."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := heads_that_do_not_fit(self.model, self.objective.heads):
            raise ValueError(f"objective.{problem}")
        return self


class EvaluationConfig(Strict):
    """What is measured, on how many items, from which seed."""

    suites: tuple[Literal["lm", "icl", "tts", "heads", "retrieval"], ...] = ("lm", "icl", "tts", "heads")
    """``lm``: bits per byte. ``icl``: copying, recall, few-shot rules and counterfactual facts. ``tts``: pass@k and
    diversity. ``heads``: induction and previous-token heads. ``retrieval``: needle in a haystack and context question
    answering."""
    heldout_sequences: Positive = 256
    copying_sequences: Positive = 64
    """Sequences of random tokens, repeated."""
    copying_period: Annotated[int, Field(ge=2)] = 25
    """Tokens before the sequence repeats."""
    copying_repeats: Annotated[int, Field(ge=2)] = 4
    copying_vocabulary: Positive = 256
    """How many token ids, the most frequent ones of the held-out text, the random tokens are drawn from."""
    counterfactual_items: Positive = 200
    recall_sequences: Positive = 64
    """Random walks over real bigrams in which some tokens always have the same successor (``icl``)."""
    recall_length: Annotated[int, Field(ge=16)] = 96
    """Tokens of each."""
    recall_triggers: Positive = 3
    """Tokens of each sequence that always have the same successor."""
    rule_items: Positive = 16
    """Few-shot items per kind (words, numbers) and number of shots (``icl``)."""
    rule_shots: tuple[Annotated[int, Field(ge=1, le=32)], ...] = (1, 2, 4)
    """Examples before the question; those that the model's positions cannot hold are left out."""
    contamination_ngram: Annotated[int, Field(ge=0)] = 13
    """Tokens of the n-grams by which items are looked for in the training text; 0 looks for none."""
    contamination_sequences: Positive = 50_000
    """Most training sequences that are read for it, evenly spaced."""
    retrieval_items: Positive = 40
    """Needles per length and depth, and context questions per number of notes."""
    needle_lengths: tuple[Positive, ...] = (48, 80, 112)
    """Whole prompts, in tokens."""
    needle_depths: tuple[Fraction, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Where the needle lies: 0 is first, 1 is last."""
    context_notes: tuple[Positive, ...] = (1, 2, 4)
    """Facts stated before a context question."""
    problems: Positive = 100
    samples_per_problem: Positive = 32
    temperatures: tuple[PositiveFloat, ...] = (0.6, 1.0)
    ks: tuple[Positive, ...] = (1, 2, 4, 8, 16)
    max_new_tokens: Positive = 24
    seed: int = 0

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self.ks and max(self.ks) > self.samples_per_problem:
            raise ValueError(
                f"ks asks for pass@{max(self.ks)} but samples_per_problem is {self.samples_per_problem}; "
                "give at least as many samples"
            )
        return self


class MixtureConfig(Strict):
    """Further teachers beside the study's own, whose name among them is ``teacher``."""

    rule: Literal["average", "position", "domain"] = "average"
    """``average``: of their probabilities. ``position``: at every position the one with the lowest cross-entropy (it
    looks at the next token to choose). ``domain``: each for the sources that ``domains`` gives it."""
    teachers: dict[str, str] = Field(min_length=1)
    """A model folder, hub id or GGUF file by name; all must have the corpus's tokenizer."""
    weights: dict[str, PositiveFloat] = Field(default_factory=dict)
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


class StudyConfig(Strict):
    """A corpus, a teacher, its labels, students that differ in one thing each, and what is measured on all."""

    name: str
    corpus: CorpusConfig
    teacher: TeacherConfig = TeacherConfig()
    labels: LabelsConfig = LabelsConfig()
    student: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    arms: dict[str, ArmConfig] = Field(min_length=1)
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
        if "teacher" in self.arms:
            raise ValueError("arms.teacher has the name under which the teacher's own results stand; choose another")
        for name, arm in self.arms.items():
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
    if first["type"] == "missing":
        return UserError(f"{where}: {dotted} is missing{more}; give it a value.")
    found = first.get("input")
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    message = message[:1].lower() + message[1:]
    if not dotted:
        return UserError(f"{where}: {message}{more}.")
    shown = ":" if isinstance(found, Mapping | BaseModel) else f" is {found!r},"
    return UserError(f"{where}: {dotted}{shown} {message}{more}.")


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
    """The configuration with ``dotted.name=value`` assignments applied; values are read as YAML scalars."""
    values = config.model_dump(mode="python")
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise UserError(f"--set {assignment}: no '=' found, expected dotted.name=value.")
        _assign(values, type(config), name.strip().split("."), _scalar(text, assignment), assignment)
    return parse(type(config), values, "--set") if assignments else config


def _scalar(text: str, assignment: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(
            f"--set {assignment}: the value is not a YAML scalar or list; quote it if it is text."
        ) from None
    if isinstance(value, str):  # YAML 1.1 takes 1e-3 for text
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
            choices = [*(current if isinstance(current, dict) else []), *field_names(root, path[:depth])]
            within = f" of {prefix}" if prefix else ""
            raise UserError(f"--set {assignment}: {part} is not a field{within}{nearest(part, choices)}.")
        if depth == len(path) - 1:
            current[part] = value
        else:
            if current[part] is None:  # an optional object, such as routing, that is now asked for
                current[part] = {}
            current = current[part]


def _may_be_new(root: type[BaseModel], path: list[str], depth: int) -> bool:
    """Whether a name that has no value yet may be set: a field of an optional object, or a world's option."""
    return path[depth] in field_names(root, path[:depth]) or (depth > 0 and path[depth - 1] == "options")


def to_yaml(config: Strict, kind: str) -> str:
    """The resolved configuration as YAML, with the kind of object on top, so that it runs again as it is."""
    return yaml.safe_dump({"kind": kind, **config.canonical()}, sort_keys=False, allow_unicode=True, width=120)
