"""A ranking for the terminal: a row per measure, a column per teacher."""

from __future__ import annotations

from rich.table import Table

from stillroom.results.ranking_file import NoPositions, Ranking, TeacherRecord
from stillroom.types import Estimate


def ranking_table(ranking: Ranking) -> Table:
    """Every measure with its 95 % interval, teachers from the first of the order to the last."""
    comparison = ranking.proxies or ranking.teacher_loss
    by_name = {teacher.name: teacher for teacher in ranking.teachers}
    teachers = [by_name[name] for name in comparison.order]
    chosen = ranking.recommendation.teachers
    table = Table(title="Candidate teachers, 95 % intervals in brackets", title_justify="left")
    table.add_column("measure")
    for teacher in teachers:
        style = "bold green" if teacher.name in chosen else None
        table.add_column(teacher.name, justify="right", style=style, overflow="fold")
    for title, cells in _rows(ranking, teachers):
        table.add_row(title, *cells)
    return table


def _rows(ranking: Ranking, teachers: list[TeacherRecord]) -> list[tuple[str, list[str]]]:
    rows = [
        ("parameters (M)", [f"{teacher.parameters / 1e6:.2f}" for teacher in teachers]),
        ("held-out loss (nats/token)", [_shown(teacher.ce) for teacher in teachers]),
        ("entropy (nats)", [_shown(teacher.entropy.mean) for teacher in teachers]),
        ("overconfidence (nats)", [_shown(teacher.overconfidence_nats) for teacher in teachers]),
        ("calibration error", [_shown(teacher.calibration.ece) for teacher in teachers]),
        ("gold prob., copyable", [_shown(teacher.copyable.gold_probability) for teacher in teachers]),
        ("leak, low entropy", [_shown(teacher.leak.shared) for teacher in teachers]),
        ("copies random tokens", [_shown(teacher.looking_back.copying.accuracy_repeat) for teacher in teachers]),
        ("induction", [teacher.looking_back.induction for teacher in teachers]),
        ("best prefix matching", [f"{teacher.looking_back.best_head.prefix_matching:.2f}" for teacher in teachers]),
    ]  # fmt: skip
    if ranking.student is not None:
        rows.append(("L teacher / L student", [_shown(teacher.capacity) for teacher in teachers]))
    solved = [teacher.problems for teacher in teachers if teacher.problems is not None]
    if len(solved) == len(teachers):
        for k in solved[0].pass_at:
            if k in (1, 16) or len(solved[0].pass_at) < 3:
                rows.append((f"pass@{k}", [_shown(one.pass_at[k]) for one in solved]))
    rows.append(("labelling FLOPs", [f"{teacher.cost.flops:.2e}" for teacher in teachers]))
    rows.append(("label bytes", [f"{teacher.cost.bytes / 1e6:.1f} MB" for teacher in teachers]))
    if ranking.proxies is not None:
        losses = ranking.proxies.ce
        means = [sum(losses[teacher.name]) / len(losses[teacher.name]) for teacher in teachers]
        rows.append(("proxy student's loss", [f"{value:.4f}" for value in means]))
    return rows


def _shown(estimate: Estimate | NoPositions | None) -> str:
    if not isinstance(estimate, Estimate):
        return "–"
    return f"{estimate.value:.3f}\n[{estimate.low:.3f}, {estimate.high:.3f}]"
