"""What is ranked against what: candidates by run, folder, hub id or GGUF file, the corpus, and the student.

A run folder's ``study.json`` says where its models and its corpus lie. Imports torch only through the model's layout.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stillroom.config import ArmConfig, ModelConfig, Strict, StudyConfig, TrainingConfig
from stillroom.corpora import Corpus
from stillroom.costs import size_of_path
from stillroom.models import empty_model, looks_local, read_config
from stillroom.objectives.schedules import ever_needs_teacher
from stillroom.places import find_part, find_parts, split_reference
from stillroom.strict import Count, Fraction, Items, Length, Positive, Seed, Share, Temperature
from stillroom.study.recipe_files import resolve_recipe
from stillroom.study.teacherfolders import check_vocabulary, teacher_hash
from stillroom.types import UserError


class RankSettings(Strict):
    """How much is measured of every candidate."""

    heldout_sequences: Items = 256
    low_entropy_share: Share = 0.15
    """Share of the counted positions of each sequence that are taken for its low-entropy ones."""
    copying_sequences: Items = 64
    copying_period: Annotated[int, Field(ge=2, le=4096)] = 25
    copying_repeats: Annotated[int, Field(ge=2, le=64)] = 4
    problems: Annotated[int, Field(ge=0, le=1_000_000)] = 50
    """Problems for pass@k; 0 leaves them out. They come from the corpus's own problems source."""
    samples_per_problem: Items = 16
    temperature: Temperature = 1.0
    """Sampling temperature of pass@k."""
    max_new_tokens: Length = 24
    label_tokens: Positive | None = None
    """Tokens to be labelled, for the price; None means the corpus's training tokens."""
    proxy_tokens: Count = 0
    """Training tokens of a proxy student per teacher; 0 trains none."""
    proxy_seeds: Annotated[int, Field(gt=0, le=1000)] = 1
    proxy_alpha: Fraction = 0.9
    seed: Seed = 0


@dataclass(frozen=True)
class Candidate:
    """A model that may teach: its name on the page, where it is, and a hash of its weights."""

    name: str
    path: str
    key: str
    parameters: int
    forward_flops: float
    """FLOPs of a forward pass, per token."""

    @property
    def slug(self) -> str:
        """The name as part of a folder's name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-") or "teacher"


@dataclass(frozen=True)
class TargetStudent:
    """What proxies are, and the supervised student whose loss the teachers' is divided by, where there is one."""

    model: ModelConfig
    training: TrainingConfig
    reference: Candidate | None


def candidates(given: list[str], corpus: Corpus) -> list[Candidate]:
    """Every model that the arguments name, each once, all of the corpus's tokenizer.

    Raises ``UserError`` for a model that is not there, named twice, or of another tokenizer, before anything is run.
    """
    found: list[Candidate] = []
    for argument in given:
        for part in find_parts("model", argument):
            name = _free(part.name, argument, [other.name for other in found])
            candidate = describe(name, part.path, corpus)
            same = next((other for other in found if other.key == candidate.key), None)
            if same is not None:
                raise UserError(f"teacher {argument}: {name} is the same model as {same.name}; name it once.")
            found.append(candidate)
    return found


def _free(name: str, argument: str, taken: list[str]) -> str:
    if name not in taken:
        return name
    longer = f"{Path(split_reference(argument)[0] or argument).name}:{name}"
    return longer if longer not in taken else f"{longer} #{len(taken) + 1}"


def describe(name: str, path: str, corpus: Corpus) -> Candidate:
    """A candidate with its size; refuses a model that cannot be found, read or used with this corpus."""
    if looks_local(path) and not path.endswith(".gguf") and not os.path.isfile(os.path.join(path, "config.json")):
        raise UserError(
            f"teacher {path}: holds no config.json; expected a run folder, RUN:ARM, a Hugging Face model folder, a hub "
            "id or a .gguf file."
        )
    empty_model(read_config(path), path)
    check_vocabulary(path, corpus)
    size = size_of_path(path)
    flops = size.flops_per_token(corpus.train.sequence_length, backward=False)
    return Candidate(name, path, teacher_hash(path), size.parameters, flops)


def find_student(given: str | None, corpus_path: str | Path, corpus: Corpus, settings: RankSettings) -> TargetStudent:
    """The student that teachers are chosen for.

    ``RUN:ARM`` or a model folder is the supervised student; without one, the corpus's run gives its first arm of
    alpha 0. Proxies take the run's student and training, else the folder's layout, else the defaults.
    """
    if given is None and (run := _study_folder(corpus_path)) is not None:
        given = _supervised_arm(run)
    study = _study_of(given, corpus_path)
    model = ModelConfig() if study is None else study.student
    training = TrainingConfig() if study is None else study.training
    if given is None:
        return TargetStudent(model, _proxy_training(training, settings), None)
    part = find_part("model", given)
    if study is None and settings.proxy_tokens:
        model = layout_of(part.path)
    reference = describe(f"student {part.name}", part.path, corpus)
    return TargetStudent(model, _proxy_training(training, settings), reference)


def check_proxies(student: TargetStudent, corpus: Corpus, settings: RankSettings) -> None:
    """Refuses proxy students that the corpus cannot feed or whose positions do not cover its sequences."""
    if not settings.proxy_tokens:
        return
    if settings.proxy_tokens > corpus.train.num_tokens:
        raise UserError(
            f"--proxy-tokens {settings.proxy_tokens}: the corpus holds {corpus.train.num_tokens} training tokens; ask "
            "for at most as many."
        )
    length = corpus.train.sequence_length
    longest = student.model.positions
    if longest is not None and longest < length:
        raise UserError(
            f"--student: covers {longest} positions, but the corpus's sequences have {length} "
            "tokens; name a student that was made for this corpus."
        )


def _supervised_arm(run: Path) -> str | None:
    arms = _read_study(run).arms
    plain = next((name for name, arm in arms.items() if not ever_needs_teacher(arm) and _is_plain(arm)), None)
    return None if plain is None else f"{run}:{plain}"


def _is_plain(arm: ArmConfig) -> bool:
    return arm.data == 1 and arm.epochs == 1 and arm.seed is None


def _study_of(given: str | None, corpus_path: str | Path) -> StudyConfig | None:
    folder = _study_folder(given or corpus_path) or _study_folder(corpus_path)
    return None if folder is None else _read_study(folder)


def _study_folder(given: str | Path) -> Path | None:
    """The folder of the finished study that a reference names, or names a part of."""
    folder, _ = split_reference(given)
    return folder if folder is not None and (folder / "study.json").is_file() else None


def _read_study(run: Path) -> StudyConfig:
    config = resolve_recipe(str(run / "config.yaml"))
    if not isinstance(config, StudyConfig):
        raise UserError(f"{run / 'config.yaml'}: is of a single run, expected that of a study.")
    return config


def _proxy_training(training: TrainingConfig, settings: RankSettings) -> TrainingConfig:
    changes = {"tokens": max(1, settings.proxy_tokens), "epochs": 1.0, "steps": None, "flops": None, "tracker": "none"}
    return training.model_copy(update=changes)


def layout_of(path: str) -> ModelConfig:
    """The sizes of a model, for a fresh one of the same shape."""
    config = read_config(path)
    if config.model_type != "llama":
        return ModelConfig(config=path)
    return ModelConfig(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        max_positions=config.max_position_embeddings,
        rope_theta=config.rope_parameters["rope_theta"],
        tie_embeddings=config.tie_word_embeddings,
    )
