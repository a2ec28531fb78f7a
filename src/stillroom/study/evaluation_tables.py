"""What several evaluations say, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table

from stillroom.results.json_form import Json, as_json
from stillroom.results.schema import BySeed, Comparison, Evaluation, WorthTable


def estimates_table(results: Mapping[str, Evaluation]) -> Table:
    """Every estimate of several evaluations, a row each, a column per model, with 95 % intervals."""
    columns = {name: dict(_estimates(as_json(result))) for name, result in results.items()}
    return _by_measure("95 % intervals in brackets", columns)


def _estimates(value: Json, prefix: str = "", sign: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return
    if {"value", "low", "high"} <= value.keys():
        test = f" p={_number(value['p_holm'])}" if "p_holm" in value else ""
        yield prefix.strip(), f"{_with_interval(value, sign)}{test}"
        return
    for name, inner in value.items():
        yield from _estimates(inner, f"{prefix} {name.replace('_', ' ') if sign else name}", sign)


def comparison_table(comparison: Comparison) -> Table:
    """Every paired difference from the baseline, a row each, a column per model, with corrected p-values."""
    title = f"Difference from {comparison.baseline}, paired by item; p-values corrected for their number (Holm)"
    return _by_measure(
        title, {name: dict(_estimates(as_json(part), sign="+")) for name, part in comparison.against.items()}
    )


def seed_means_table(found: BySeed) -> Table:
    """Means over seeds and differences from the baseline's arm, a row for each measure, two columns for each arm."""
    columns: dict[str, dict[str, str]] = {}
    for name, arm in found.arms.items():
        cells = {measure: as_json(cell) for measure, cell in arm.measures.items()}
        columns[f"{name}, {len(arm.seeds)} seeds"] = {
            measure: _with_interval(cell["mean"]) for measure, cell in cells.items()
        }
        if name != found.baseline:
            columns[f"{name} minus {found.baseline}"] = {
                measure: f"{_with_interval(one, '+')} p={_number(one['p_holm'])}"
                for measure, cell in cells.items()
                if (one := cell.get("difference")) is not None
            }
    return _by_measure("Over seeds: 95 % intervals of Student's t, p-values corrected for their number (Holm)", columns)


def multipliers_table(found: WorthTable) -> Table:
    """What soft labels were worth, a row for each ability, a column for each arm."""
    rungs = ", ".join(f"{rung.tokens:,}" for rung in found.ladder)
    columns = {
        arm: {one.title: str(one.arms[arm].data) for one in found.abilities if arm in one.arms}
        for arm in dict.fromkeys(arm for one in found.abilities for arm in one.arms)
    }
    return _by_measure(f"Worth: hard-label tokens that do what one of its own did; ladder of {rungs} tokens", columns)


def needle_table(results: Mapping[str, Evaluation]) -> Table:
    """Share of needles found, a row for each model and length of the text, a column for each depth of the fact."""
    found = {name: result.needle for name, result in results.items() if result.needle is not None}
    table = Table(title="Needle in a haystack: found, by tokens and depth (0 first, 1 last)", title_justify="left")
    depths = next(iter(found.values())).depths
    for heading in ("model", "tokens", *(f"depth {depth:g}" for depth in depths)):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, needle in found.items():
        for length, row in zip(needle.lengths, needle.grid, strict=True):
            table.add_row(name, str(length), *(_number(as_json(cell)["value"], digits=2) for cell in row))
    return table


def _with_interval(estimate: Mapping[str, Json], sign: str = "") -> str:
    value, low, high = (_number(estimate[name], sign) for name in ("value", "low", "high"))
    return value if estimate["low"] is None and estimate["high"] is None else f"{value} [{low}, {high}]"


def _number(value: object, sign: str = "", digits: int = 3) -> str:
    """A number for a table, and a dash where there is none."""
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def _by_measure(title: str, columns: dict[str, dict[str, str]]) -> Table:
    """A row for every measure that any column has, in the order in which they first appear."""
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for name in columns:
        table.add_column(name, justify="right")
    for measure in dict.fromkeys(measure for column in columns.values() for measure in column):
        table.add_row(measure, *(column.get(measure, "") for column in columns.values()))
    return table
