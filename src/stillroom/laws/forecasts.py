"""What a law says of a student that is not trained yet, each number with its 95 % interval, and where it ends.

Losses carry the spread of students that were left out of the fit beside that of the coefficients; data multiplier and
crossing carry that of the coefficients alone. R draws. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stillroom.laws.bills import BILLS, Rates, Teacher, forward_flops, student_flops, teacher_flops
from stillroom.laws.forms import Floats
from stillroom.laws.law_file import PRESET, Law
from stillroom.laws.points import check_loss
from stillroom.laws.presets import CAPACITY_BREAK
from stillroom.types import Estimate, UserError

_BELOW, _ABOVE = 0.1, 100.0
"""How far outside its reach, as a factor, a law is still asked, with a warning."""
_GRID = 241
_SEED_NOISE = 0.003
"""Least relative spread of a pilot's loss: that of training seeds."""


@dataclass(frozen=True)
class PlannedStudent:
    """A student to be trained: N parameters beside embeddings, D tokens, and its teacher's loss in nats per token."""

    N: float
    D: float
    teacher_loss: float


@dataclass(frozen=True)
class BillCost:
    """A student's FLOPs on one bill, its teacher's part of them, and what they take at given rates.

    These are counted, not estimated, so they have no interval; ``over_hard`` has one: the FLOPs over those of a student
    of hard labels that reaches the same loss.
    """

    bill: str
    flops: float
    teacher_flops: float
    over_hard: Estimate
    hours: float | None
    price: float | None

    def text(self) -> str:
        """For people."""
        parts = [f"{self.flops:.3g}", f"{_text(self.over_hard, '.2f')} of hard labels' for the same loss"]
        if self.teacher_flops:
            parts.append(f"teacher's part {self.teacher_flops / self.flops:.0%}")
        if self.hours is not None:
            parts.append(f"{self.hours:.3g} hours")
        if self.price is not None:
            parts.append(f"price {self.price:.4g}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Forecast:
    """Losses in nats per token. ``catch_up`` are the tokens from which on hard labels are level or better: 0 where they
    always are, infinite where they never are within ten thousand times the law's reach.
    """

    student: PlannedStudent
    hard: Estimate
    distilled: Estimate
    gain: Estimate
    """Hard minus distilled: positive where distillation helps; by the coefficients alone."""
    multiplier: Estimate
    """Hard-label tokens that reach the distilled loss, over D; infinite where none do."""
    catch_up: Estimate
    costs: tuple[BillCost, ...]
    hard_flops: float
    label_bytes: float
    warnings: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """Every number but the bills, for people."""
        return [
            ("hard labels (SPT), nats", _text(self.hard, ".3f")),
            ("distilled (DPT), nats", _text(self.distilled, ".3f")),
            ("gain of DPT, nats", _text(self.gain, "+.3f")),
            ("data multiplier", _text(self.multiplier, ".2f")),
            ("hard labels catch up at, tokens", _text(self.catch_up, ".3g")),
            ("FLOPs of SPT", f"{self.hard_flops:.3g}"),
            ("label store, bytes", f"{self.label_bytes:.3g}"),
        ]


def _text(found: Estimate, form: str) -> str:
    def number(value: float) -> str:
        return format(value, form) if np.isfinite(value) else "never"

    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def forecast(
    law: Law, student: PlannedStudent, teacher: Teacher | None = None, rates: Rates | None = None, students: int = 1
) -> Forecast:
    """What to expect of a student, and what it costs when ``students`` share the teacher and its labels.

    Raises:
        UserError: the law cannot be asked this: too far outside its reach, or a loss that is none.
    """
    _check(law, student)
    (hard, hard_R), (distilled, distilled_R) = _losses(law, student)
    hard_law, _ = law.drawn()
    multiplier = _estimate(
        float(law.supervised.tokens_for(student.N, distilled)) / student.D,
        hard_law.tokens_for(student.N, distilled_R[:, None])[:, 0] / student.D,
    )
    return Forecast(
        student,
        *expected_losses(law, student),
        _estimate(hard - distilled, hard_R - distilled_R),
        multiplier,
        _catch_up(law, student),
        _costs(law, student, multiplier, _Asked(teacher, rates or Rates(), students)),
        float(student_flops(student.N, student.D, law.model)),
        law.bytes_per_label * student.D,
        tuple(_warnings(law, student, hard)),
    )


def expected_losses(law: Law, student: PlannedStudent) -> tuple[Estimate, Estimate]:
    """Nats per token by hard labels and distilled, with intervals that hold the law's own errors.

    Whatever is asked: ``forecast`` refuses what the law should not be asked.
    """
    hard, distilled = _losses(law, student)
    return _with_noise(*hard, law.hard_noise), _with_noise(*distilled, law.distilled_noise)


def _losses(law: Law, student: PlannedStudent) -> tuple[tuple[float, Floats], tuple[float, Floats]]:
    """By hard labels and distilled: the law's loss and those of its draws (R,)."""
    hard_law, drawn = law.drawn()
    assert drawn is not None
    asked, loss = (student.N, student.D), student.teacher_loss
    hard = float(law.supervised.loss(*asked)), hard_law.loss(*asked)[:, 0]
    return hard, (float(law.taught().loss(*asked, loss)), drawn.loss(*asked, loss)[:, 0])


def _estimate(value: float, draws_R: Floats) -> Estimate:
    """A value with the 95 % interval of its draws."""
    low, high = np.quantile(draws_R, [0.025, 0.975], method="inverted_cdf")
    return Estimate(value, min(float(low), value), max(float(high), value), len(draws_R))


def _with_noise(value: float, draws_R: Floats, noise: Floats) -> Estimate:
    rng = np.random.default_rng(0)
    return _estimate(value, draws_R * np.exp(rng.choice(noise, size=len(draws_R))))


def _catch_up(law: Law, student: PlannedStudent) -> Estimate:
    """Tokens at which hard labels reach the distilled loss of as many tokens, for this size and teacher."""
    log_G = np.linspace(np.log(law.reach.D[0] / 100), np.log(law.reach.D[1] * 1e4), _GRID)
    hard_law, drawn = law.drawn()
    assert drawn is not None
    value = _crossing(law.supervised.loss(student.N, np.exp(log_G))
                      - law.taught().loss(student.N, np.exp(log_G), student.teacher_loss), log_G)  # fmt: skip
    ahead_RG = hard_law.loss(student.N, np.exp(log_G)) - drawn.loss(student.N, np.exp(log_G), student.teacher_loss)
    return _estimate(value, np.array([_crossing(ahead_G, log_G) for ahead_G in ahead_RG]))


def _crossing(ahead_G: Floats, log_G: Floats) -> float:
    """Where the last stretch on which distillation is ahead ends."""
    ahead = np.flatnonzero(ahead_G > 0)
    if not len(ahead):
        return 0.0
    last = ahead[-1]
    if last == len(log_G) - 1:
        return float("inf")
    share = ahead_G[last] / (ahead_G[last] - ahead_G[last + 1])
    return float(np.exp(log_G[last] + share * (log_G[last + 1] - log_G[last])))


@dataclass(frozen=True)
class _Asked:
    """What bills are for: a teacher, rates, and how many students share the teacher and its labels."""

    teacher: Teacher | None
    rates: Rates
    students: int


def _costs(law: Law, student: PlannedStudent, multiplier: Estimate, asked: _Asked) -> tuple[BillCost, ...]:
    """The four bills for one of the students who share a teacher and its stored labels; those that can be told."""
    found, teacher = [], asked.teacher
    own = float(student_flops(student.N, student.D, law.model))
    for bill in BILLS:
        if (teacher is None and (bill.labels or bill.teacher)) or (bill.teacher and teacher and not teacher.D):
            continue
        share = float(teacher_flops(bill, teacher, student.D, law.model)) / asked.students if teacher else 0.0
        hours, price = _priced(own + share, law.bytes_per_label * student.D, asked)
        found.append(BillCost(bill.name, own + share, share, _over(own + share, own, multiplier), hours, price))
    return tuple(found)


def _over(flops: float, hard: float, multiplier: Estimate) -> Estimate:
    """FLOPs over those of hard labels on so many times the tokens; 0 where no text gives the same loss."""
    ends = (multiplier.value, multiplier.high, multiplier.low)
    value, low, high = (flops / (hard * times) if times else np.inf for times in ends)
    return Estimate(value, low, high, multiplier.num)


def _priced(flops: float, label_bytes: float, asked: _Asked) -> tuple[float | None, float | None]:
    """Hours and price of one student, where there are rates for them."""
    rates = asked.rates
    hours = flops / rates.flops_per_second / 3600 if rates.flops_per_second else None
    stored = label_bytes / 1e12 * rates.price_per_terabyte / asked.students
    priced = hours is not None and (rates.price_per_hour or rates.price_per_terabyte)
    return hours, (hours or 0.0) * rates.price_per_hour + stored if priced else None


def _check(law: Law, student: PlannedStudent) -> None:
    """Raises ``UserError`` for a student that the law cannot be asked about."""
    for title, value, (low, high) in (("parameters", student.N, law.reach.N), ("tokens", student.D, law.reach.D)):
        if not np.isfinite(value) or not low * _BELOW <= value <= high * _ABOVE:
            raise UserError(
                f"{title}: is {value:.3g}, expected from {low * _BELOW:.3g} to {high * _ABOVE:.3g}, for {law.name} was "
                f"fitted on {low:.3g} to {high:.3g}; fit a law on pilots of your own with stillroom forecast fit."
            )
    loss, floor = student.teacher_loss, law.supervised.E
    check_loss(loss, "teacher-loss")
    if loss <= floor:
        raise UserError(
            f"teacher-loss: is {loss:g}, below the {floor:.3f} that nothing goes below by this law, expected "
            "nats per token; is it per byte, in bits, or of other text?"
        )
    hard = float(law.supervised.loss(student.N, student.D))
    if loss > CAPACITY_BREAK * hard:
        raise UserError(
            f"teacher-loss: is {loss:g}, expected at most {CAPACITY_BREAK:g} times the {hard:.3f} nats of hard labels "
            "alone; such a teacher is worse than the student: train without it, or check its unit."
        )


def _warnings(law: Law, student: PlannedStudent, hard: float) -> list[str]:
    found = []
    for title, value, (low, high) in (
        ("parameters", student.N, law.reach.N),
        ("tokens", student.D, law.reach.D),
        ("teacher's loss", student.teacher_loss, law.reach.teacher),
    ):
        if not low * (1 - 1e-3) <= value <= high * (1 + 1e-3):
            found.append(
                f"The {title}, {value:.4g}, is outside the {low:.4g} to {high:.4g} that {law.name} was fitted on."
            )
    if student.teacher_loss > hard:
        found.append(
            f"The teacher ({student.teacher_loss:.3f} nats) is worse than the student by hard labels ({hard:.3f})."
        )
    if law.name == PRESET:
        found.append("The published law is for C4 and a vocabulary of 32,168: on other text only its shape may hold.")
    return found


@dataclass(frozen=True)
class BudgetSplit:
    """A way to spend FLOPs: sizes, tokens, and the loss to expect. A teacher of size 0 is plain pretraining."""

    bill: str
    N: float
    D: float
    teacher: Teacher
    teacher_loss: float | None
    loss: Estimate
    flops: float
    at_edge: bool
    """Whether a size or number of tokens is at the end of the law's reach, so that the best may lie outside."""

    def cells(self) -> tuple[str, ...]:
        """A row for people; a star where the best may lie outside."""
        taught = self.teacher_loss is not None
        teacher = (f"{self.teacher.N:.3g}" if self.teacher.N else "", f"{self.teacher.D:.3g}" if self.teacher.D else "")
        loss = f"{self.teacher_loss:.3f}" if taught else ""
        return self.bill, f"{self.N:.3g}", f"{self.D:.3g}", *teacher, loss, _text(self.loss, ".3f"), "*" * self.at_edge


def best_splits(
    law: Law, flops: float, teacher: Teacher | None = None, teacher_loss: float | None = None, students: int = 1
) -> list[BudgetSplit]:
    """The best split of so many FLOPs per student: plain pretraining first, then distillation on each of the bills.

    A given teacher's size and loss stand; without one the teacher is chosen too, its loss that of the supervised law.
    """
    law.taught()
    if not np.isfinite(flops) or flops <= 0:
        raise UserError(f"flops: is {flops:g}, expected a positive number; give what one student may cost.")
    N_J = np.geomspace(*law.reach.N, 49)
    rate_J = 3.0 * forward_flops(N_J, law.model)
    found = [_best(law, "plain pretraining", N_J, flops / rate_J, None, flops)]
    teachers = _teachers(law) if teacher is None else [(teacher, float(teacher_loss or 0.0))]
    for bill in BILLS:
        options = []
        for one, loss in teachers:
            per_token = bill.labels * float(forward_flops(one.N, law.model)) / students if one.N else 0.0
            fixed = 3.0 * float(forward_flops(one.N, law.model)) * one.D / students if bill.teacher and one.N else 0.0
            if fixed < flops and (one.D or not bill.teacher) and (one.N or not bill.labels):
                options.append(_best(law, bill.name, N_J, (flops - fixed) / (rate_J + per_token), (one, loss), flops))
        known = [split for split in options if split is not None]
        found.append(min(known, key=lambda split: split.loss.value, default=None))
    splits = [split for split in found if split is not None]
    if not splits:
        least = float(np.min(rate_J)) * law.reach.D[0]
        raise UserError(
            f"flops: {flops:.3g} trains no student within the reach of {law.name}, expected at least {least:.3g}; "
            "fit a law on smaller pilots."
        )
    return [_with_interval(law, split) for split in splits]


def _teachers(law: Law) -> list[tuple[Teacher, float]]:
    """Teachers within the reach of the law's sizes, tokens and losses, each with its loss by the supervised law."""
    found = []
    for N in np.geomspace(*law.reach.N, 17):
        for D in np.geomspace(*law.reach.D, 25):
            loss = float(law.supervised.loss(N, D))
            if law.reach.teacher[0] * 0.999 <= loss <= law.reach.teacher[1]:
                found.append((Teacher(float(N), float(D)), loss))
    return found


def _best(
    law: Law, bill: str, N_J: Floats, D_J: Floats, teacher: tuple[Teacher, float] | None, flops: float
) -> BudgetSplit | None:
    """The best size for what each may see; None where none is within the law's reach of tokens."""
    inside_J = (law.reach.D[0] <= D_J) & (law.reach.D[1] >= D_J)
    if not inside_J.any():
        return None
    sizes, tokens = N_J[inside_J], D_J[inside_J]
    loss_J = law.supervised.loss(sizes, tokens) if teacher is None else law.taught().loss(sizes, tokens, teacher[1])
    place = int(np.argmin(loss_J))
    edge = place in (0, len(sizes) - 1)
    value = float(loss_J[place])
    return BudgetSplit(
        bill, float(sizes[place]), float(tokens[place]), teacher[0] if teacher else Teacher(),
        teacher[1] if teacher else None, Estimate(value, value, value, 0), flops, edge,
    )  # fmt: skip


def _with_interval(law: Law, split: BudgetSplit) -> BudgetSplit:
    hard_law, drawn = law.drawn()
    assert drawn is not None
    if split.teacher_loss is None:
        loss = _with_noise(split.loss.value, hard_law.loss(split.N, split.D)[:, 0], law.hard_noise)
    else:
        draws_R = drawn.loss(split.N, split.D, split.teacher_loss)[:, 0]
        loss = _with_noise(split.loss.value, draws_R, law.distilled_noise)
    return BudgetSplit(**{**split.__dict__, "loss": loss})


@dataclass(frozen=True)
class NextPilot:
    """A pilot to train next; ``width`` is what the forecast's 95 % interval becomes, as a part of what it is."""

    N: float
    D: float
    teacher_loss: float | None
    """None: hard labels."""
    flops: float
    width: float

    def sentence(self) -> str:
        """For people."""
        taught = "hard labels" if self.teacher_loss is None else f"a teacher of {self.teacher_loss:.3f} nats"
        return (
            f"{self.N:.3g} parameters on {self.D:.3g} tokens by {taught} ({self.flops:.3g} FLOPs): the forecast's "
            f"interval becomes {self.width:.0%} of what it is."
        )


def next_pilots(
    law: Law, target: PlannedStudent, flops: float, teacher_losses: Sequence[float] = (), most: int = 5
) -> list[NextPilot]:
    """The pilots of at most ``flops`` each that narrow the forecast of ``target``'s gain most, best first.

    What a pilot would teach is read off the draws: the gain's variance less what the pilot's loss, measured with the
    noise of a student, explains of it (Gaussian conditioning).
    """
    law.taught()
    hard_law, drawn = law.drawn()
    assert drawn is not None
    _check(law, target)
    gain_R = (hard_law.loss(target.N, target.D) - drawn.loss(target.N, target.D, target.teacher_loss))[:, 0]
    spread = float(np.var(gain_R))
    found = []
    for N in np.geomspace(*law.reach.N, 7):
        for D in np.geomspace(*law.reach.D, 9):
            cost = float(student_flops(N, D, law.model))
            if cost > flops:
                continue
            for teacher in (None, *(teacher_losses or np.linspace(*law.reach.teacher, 4))):
                loss_R = (hard_law.loss(N, D) if teacher is None else drawn.loss(N, D, teacher))[:, 0]
                noise = law.hard_noise if teacher is None else law.distilled_noise
                known = float(np.var(loss_R) + max(np.var(noise), _SEED_NOISE**2) * np.mean(loss_R) ** 2)
                explained = float(np.cov(gain_R, loss_R)[0, 1] ** 2 / known) if known else 0.0
                width = float(np.sqrt(max(0.0, 1 - explained / spread))) if spread else 1.0
                found.append(NextPilot(float(N), float(D), None if teacher is None else float(teacher), cost, width))
    if not found:
        least = float(student_flops(law.reach.N[0], law.reach.D[0], law.model))
        raise UserError(
            f"flops: {flops:.3g} pays no pilot within the reach of {law.name}, expected at least {least:.3g}."
        )
    return sorted(found, key=lambda pilot: (pilot.width, pilot.flops))[:most]
