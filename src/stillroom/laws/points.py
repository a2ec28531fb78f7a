"""What a law is fitted on: finished students, each with its size, tokens, teacher's loss and own loss.

Losses are nats per token on the same held-out text; those of another tokenizer or corpus cannot be compared and are
refused. Letters: P points. Imports no torch.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.config import ModelConfig, StudyConfig, parse
from stillroom.costs import size_of
from stillroom.files import read_json_object, read_text, shaped
from stillroom.laws.forms import Floats
from stillroom.places import split_reference
from stillroom.results.runs import ModelRun, Run, load
from stillroom.results.schema import MeasuredOn
from stillroom.types import UserError
from stillroom.yamlfiles import parse_yaml

COLUMNS = ("student_parameters", "student_tokens", "teacher_nats", "student_nats")
LEAST_NATS, MOST_NATS = 0.4, 12.5
"""Losses in nats per token lie between these: ln 268,000 is 12.5, and 0.4 is a loss per byte."""


@dataclass(frozen=True)
class Points:
    """P students; ``teacher_P`` is NaN for hard labels alone, ``names_P`` say where each is from."""

    N_P: Floats
    D_P: Floats
    teacher_P: Floats
    loss_P: Floats
    names_P: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.N_P)

    def where(self, kept_P: np.ndarray) -> Points:
        """Those of a mask."""
        names = tuple(name for name, kept in zip(self.names_P, kept_P, strict=True) if kept)
        return Points(self.N_P[kept_P], self.D_P[kept_P], self.teacher_P[kept_P], self.loss_P[kept_P], names)

    @property
    def hard(self) -> Points:
        """Students of hard labels."""
        return self.where(np.isnan(self.teacher_P))

    @property
    def distilled(self) -> Points:
        """Students of a teacher."""
        return self.where(~np.isnan(self.teacher_P))


@dataclass(frozen=True)
class Model:
    """What FLOPs of a size need beside it: F(N) per token, forward, by ``flops``.

    A model has L layers of width ``width_per_layer``·L, and N = ``block``·L·width² parameters beside its embeddings.
    """

    vocabulary: int
    context: int
    width_per_layer: float
    block: float = 12.0


@dataclass(frozen=True)
class Pilots:
    """Points with what else their runs say; None where points come from a table."""

    points: Points
    model: Model | None = None
    bytes_per_label: float | None = None
    measured_on: MeasuredOn | None = None
    """What losses are of; None in a table, and of runs of older versions."""


def make_points(rows: Sequence[tuple[float, float, float, float]], names: Sequence[str]) -> Points:
    """Points of rows (N, D, teacher's loss or NaN, loss), each looked at; what is impossible is refused by its name."""
    for row, name in zip(rows, names, strict=True):
        _check(row, name)
    for row, count in Counter(tuple(map(str, row)) for row in rows).items():
        if count > 1:
            same = [name for one, name in zip(rows, names, strict=True) if tuple(map(str, one)) == row]
            raise UserError(f"{same[1]}: is the same student as {same[0]}, expected each once; leave one out.")
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Points(columns[0], columns[1], columns[2], columns[3], tuple(names))


def _check(row: tuple[float, float, float, float], name: str) -> None:
    N, D, teacher, loss = row
    for title, value in (("student_parameters", N), ("student_tokens", D)):
        if not math.isfinite(value) or value < 1:
            raise UserError(
                f"{name}: {title} is {value:g}, expected a number of at least 1; mend or leave out the row."
            )
    for title, value in (("student_nats", loss), *((("teacher_nats", teacher),) if not math.isnan(teacher) else ())):
        check_loss(value, f"{name}: {title}")


def check_loss(value: float, where: str) -> None:
    """Refuses what is no loss in nats per token, with what it may be instead."""
    if not math.isfinite(value):
        raise UserError(
            f"{where} is {value:g}, expected a finite loss in nats per token; leave out runs that diverged."
        )
    if value < LEAST_NATS:
        raise UserError(
            f"{where} is {value:g}, expected nats per token from {LEAST_NATS} to {MOST_NATS}; a loss per byte is "
            "multiplied by bytes per token, one in bits by 0.693."
        )
    if value > MOST_NATS:
        raise UserError(
            f"{where} is {value:g}, expected nats per token from {LEAST_NATS} to {MOST_NATS}; of a perplexity take the "
            "logarithm, and multiply bits by 0.693."
        )


def read_pilots(sources: Sequence[Path]) -> Pilots:
    """The points of run folders, or of one CSV with the columns ``COLUMNS`` (an empty teacher means hard labels).

    Raises:
        UserError: a file does not hold what it should, a student is there twice, or the runs cannot be compared.
    """
    if not sources:
        raise UserError("forecast: no run and no table of points was given; name run folders or one .csv file.")
    tables = [path for path in sources if path.suffix.lower() == ".csv"]
    if tables and len(sources) > 1:
        raise UserError(f"{tables[0]}: a table stands alone, found it among {len(sources)} sources; join them in one.")
    return Pilots(_from_table(tables[0])) if tables else _from_runs(sources)


def _from_table(path: Path) -> Points:
    table = csv.reader(io.StringIO(read_text(path, f"a CSV with the columns {', '.join(COLUMNS)}")))
    head = [name.strip() for name in next(table, [])]
    missing = [name for name in COLUMNS if name not in head]
    if missing:
        bits = [name for name in head if "bit" in name.lower() or "byte" in name.lower() or "bpb" in name.lower()]
        hint = f"; {bits[0]} is no loss in nats per token: multiply bits by 0.693, a loss per byte by bytes per token"
        raise UserError(f"{path}: has no column {missing[0]}, expected {', '.join(COLUMNS)}{hint if bits else ''}.")
    places = [head.index(name) for name in COLUMNS]
    rows, names = [], []
    for number, cells in enumerate(table, 2):
        if not any(cell.strip() for cell in cells):
            continue
        rows.append(_row(cells, places, f"{path}: line {number}"))
        names.append(f"{path}: line {number}")
    return make_points(rows, names)


def _row(cells: list[str], places: list[int], where: str) -> tuple[float, float, float, float]:
    values = []
    for name, place in zip(COLUMNS, places, strict=True):
        text = cells[place].strip() if place < len(cells) else ""
        if not text and name == "teacher_nats":
            values.append(math.nan)
            continue
        try:
            value = float(text)
        except ValueError:
            raise UserError(f"{where}: {name} is {text!r}, expected a number; mend or leave out the row.") from None
        if math.isnan(value):
            raise UserError(f"{where}: {name} is NaN, expected a number; leave out runs that diverged.")
        values.append(value)
    return values[0], values[1], values[2], values[3]


def _from_runs(folders: Sequence[Path]) -> Pilots:
    runs = [load(folder) for folder in folders]
    configs = [_study(run) for run in runs]
    _comparable(runs, configs)
    rows, names, alphas, seen = [], [], set(), set()
    for run, config in zip(runs, configs, strict=True):
        for model in run.models:
            row = _student(run, config, model)
            if row is None:
                continue
            alphas |= {model.record.alpha} - {0.0}
            if tuple(map(str, row)) not in seen:  # studies share models, and each lists them
                seen.add(tuple(map(str, row)))
                rows.append(row)
                names.append(f"{run.folder}: {model.record.name}")
    if len(alphas) > 1:
        found = " and ".join(f"{alpha:g}" for alpha in sorted(alphas))
        raise UserError(f"runs: students have alpha {found}, expected one value; a law holds for one objective.")
    stored = [run.study.labels.bytes_per_token for run in runs if run.study.labels is not None]
    known = [size for size in stored if size is not None]
    per_label = float(np.mean(known)) if known else None
    return Pilots(make_points(rows, names), _shape(configs), per_label, runs[0].measured_on)


def _study(run: Run) -> StudyConfig:
    where = str(run.folder / "config.yaml")
    values = parse_yaml(run.config_yaml, where, "the configuration of a study")
    if not isinstance(values, dict) or values.get("kind") != "study":
        raise UserError(
            f"{where}: is not that of a study, whose students a law is fitted on; name a study's run folder."
        )
    return parse(StudyConfig, {name: value for name, value in values.items() if name != "kind"}, where)


def _comparable(runs: Sequence[Run], configs: Sequence[StudyConfig]) -> None:
    """Refuses a run that is there twice, and one whose losses are of other text."""
    seen: dict[str, Path] = {}
    for run, config in zip(runs, configs, strict=True):
        first = seen.setdefault(run.study.fingerprint, run.folder)
        if first is not run.folder:
            raise UserError(f"{run.folder}: is the same run as {first}, expected each once; leave one out.")
        if config.corpus != configs[0].corpus:
            one, other = config.corpus.model_dump(), configs[0].corpus.model_dump()
            part = next(name for name in one if one[name] != other[name])
            raise UserError(
                f"{run.folder}: its corpus differs in {part} from that of {runs[0].folder}, so that losses cannot be "
                "compared; expected runs of one corpus and tokenizer: fit a law for each."
            )
        if (apart := what_differs(run.measured_on, runs[0].measured_on)) != "":
            raise UserError(
                f"{run.folder}: was measured on another {apart} than {runs[0].folder}, although both ask for one "
                "corpus, so that losses cannot be compared; expected one corpus and tokenizer: fit a law for each."
            )


def what_differs(one: MeasuredOn | None, other: MeasuredOn | None) -> str:
    """What two sets of losses are not both of, in words; empty where that is not known."""
    return "" if one is None or other is None else one.differs(other)


def beside_embeddings(model: ModelConfig, vocabulary: int) -> float:
    """N of a configuration's model: its parameters without embedding and unembedding."""
    size = size_of(model, vocabulary)
    return float(size.parameters - size.tables)


def _student(run: Run, config: StudyConfig, model: ModelRun) -> tuple[float, float, float, float] | None:
    """A row; None of what no law speaks of: text seen twice, routed positions, a pretrained teacher."""
    record = model.record
    is_teacher = record.role == "teacher"
    if record.routing is not None or record.epochs != 1 or not record.tokens:
        return None
    shape = config.teacher.model if is_teacher else config.student
    size = beside_embeddings(shape, config.corpus.vocab_size)
    taught = math.nan if record.alpha == 0 else _nats(run, run.model("teacher"))
    return size, float(record.tokens), taught, _nats(run, model)


def _nats(run: Run, model: ModelRun) -> float:
    measured = model.evaluation.lm
    if measured is None or measured.nats_per_token is None:
        name = model.record.name
        raise UserError(f"{run.folder}: {name} has no held-out loss in nats per token; evaluate it with the suite lm.")
    return measured.nats_per_token.value


def _shape(configs: Sequence[StudyConfig]) -> Model:
    corpus = configs[0].corpus
    sizes = [size_of(config.student, corpus.vocab_size) for config in configs]
    ratio = float(np.median([one.width / one.layers for one in sizes]))
    block = float(np.median([one.blocks / (one.layers * one.width**2) for one in sizes]))
    return Model(corpus.vocab_size, corpus.sequence_length, ratio, block)


def measured_loss(place: str, wanted: MeasuredOn | None = None) -> float:
    """A teacher's held-out loss, in nats per token, from a run (``RUN``, ``RUN:ARM``) or a ranking (``FOLDER:NAME``).

    Raises:
        UserError: there is no such run, model or loss, or it is of other text or tokens than ``wanted``, a law's.
    """
    head, name = split_reference(place)
    folder = head or Path(place)
    if (folder / "ranking.json").exists():
        file = folder / "ranking.json"
        with shaped(file, "that of stillroom teachers rank"):
            ranking: dict[str, Any] = read_json_object(file)
            losses = {one["name"]: float(one["ce"]["value"]) for one in ranking["teachers"]}
        if name not in losses:
            raise UserError(f"{place}: names no teacher of the ranking, expected {folder}:NAME of {', '.join(losses)}.")
        return losses[name]
    run = load(folder)
    model = run.model(name or "teacher")
    if (apart := what_differs(model.evaluation.measured_on, wanted)) != "":
        raise UserError(
            f"--teacher {place}: its loss is of another {apart} than the law's, so the law says nothing of it; fit a "
            "law on runs of that corpus, or name a run of the law's."
        )
    return _nats(run, model)
