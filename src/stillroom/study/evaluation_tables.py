"""What several evaluations say, as tables for the terminal: their headline, or every number.

The headline is what is registered to be shown somewhere, loss, pass@k for the fewest and the most samples at the
temperature nearest 1, and whatever else was asked for by its name: tasks of the harness, suites of other packages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields

from rich.table import Table

from stillroom.results.measures import registered_measures
from stillroom.results.runs import estimates
from stillroom.results.schema import (
    Against,
    BySeed,
    Comparison,
    Difference,
    Evaluation,
    ScalingResult,
    WorthTable,
)
from stillroom.types import Estimate

_PARTS = frozenset(one.name for one in fields(Evaluation)) - {"others", "lm_eval", "counterfactual_file"}
"""Parts of an evaluation of which a headline says less than all."""


def headline_rows(results: Mapping[str, Evaluation]) -> frozenset[str]:
    """The rows, named as in the tables, that are always shown; the tables show all where they are given None."""
    rows = {" ".join(place) for result in results.values() for place in _headline(result)}
    named = (place for result in results.values() for place, _ in estimates(result, missing=True))
    return frozenset(rows | {" ".join(place) for place in named if place[0] not in _PARTS})


def _headline(result: Evaluation) -> Iterator[tuple[str, ...]]:
    """Places of numbers of the parts that this package knows."""
    kept = [place for one in registered_measures() if one.roles for place in (one.place, one.before)]
    scaling = {("tts",): result.tts} | {("benchmarks", name): one for name, one in result.benchmarks.items()}
    kept += [(*part, *place) for part, found in scaling.items() for place in _headline_samples(found)]
    for place in (("lm", "nats_per_token"), *kept):
        yield tuple(f"{name:g}" if isinstance(name, float) else str(name) for name in place)


def _headline_samples(found: ScalingResult | None) -> Iterator[tuple[str | int | float, ...]]:
    if found is None or not found.temperatures:
        return
    heat = min(found.temperatures, key=lambda value: (abs(value - 1.0), value))
    ks = found.temperatures[heat].pass_at
    yield from (("temperatures", heat, "pass_at", k) for k in ({min(ks), max(ks)} if ks else ()))
    yield "temperatures", heat, "unique_correct"


def estimates_table(results: Mapping[str, Evaluation], shown: frozenset[str] | None = None) -> Table:
    """Estimates of several evaluations, a row each, a column per model, with 95 % intervals."""
    found = {name: estimates(result, missing=True) for name, result in results.items()}
    columns = {
        name: {" ".join(place): _with_interval(one) for place, one in numbers} for name, numbers in found.items()
    }
    more = "" if shown is None else "; --all prints every number"
    return _by_measure(f"95 % intervals in brackets{more}", columns, shown)


def comparison_table(comparison: Comparison, shown: frozenset[str] | None = None) -> Table:
    """Paired differences from the baseline, a row each, a column per model, with corrected p-values."""
    title = f"Difference from {comparison.baseline}, paired by item; p-values corrected for their number (Holm)"
    columns = {name: dict(_differences(part, shown is None)) for name, part in comparison.against.items()}
    of_samples = {row for column in columns.values() for row in column if row.startswith("pass@")}
    return _by_measure(title, columns, None if shown is None else shown | of_samples)


def _differences(against: Against, everything: bool) -> Iterator[tuple[str, str]]:
    for part, measures in against.items.items():
        yield from ((f"{part} {name}", _with_test(found)) for name, found in measures.items())
    heats = {} if against.samples is None else against.samples.temperature_matched
    nearest = min(heats, key=lambda value: (abs(value - 1.0), value), default=None)
    for heat, by_k in heats.items():
        for k, found in by_k.items():
            if everything or (heat == nearest and k in (min(by_k), max(by_k))):
                yield f"pass@{k} at temperature {heat:g}", _with_test(found)
    by_k = {} if against.samples is None else against.samples.entropy_matched
    matched = {k: found for k, found in by_k.items() if found is not None}
    for k, found in matched.items():
        if everything or k == max(matched):
            yield f"pass@{k} at equal answer entropy", _with_test(found)


def seed_means_table(found: BySeed, shown: frozenset[str] | None = None) -> Table:
    """Means over seeds and differences from the baseline's arm, a row for each measure, two columns for each arm."""
    columns: dict[str, dict[str, str]] = {}
    for name, arm in found.arms.items():
        columns[f"{name}, {len(arm.seeds)} seeds"] = {
            measure: _with_interval(cell.mean) for measure, cell in arm.measures.items()
        }
        if name != found.baseline:
            columns[f"{name} minus {found.baseline}"] = {
                measure: _with_test(one)
                for measure, cell in arm.measures.items()
                if (one := cell.difference) is not None
            }
    title = "Over seeds: 95 % intervals of Student's t, p-values corrected for their number (Holm)"
    return _by_measure(title, columns, shown)


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
            table.add_row(name, str(length), *(_number(cell.value, digits=2) for cell in row))
    return table


def _with_test(found: Difference) -> str:
    """A difference with its corrected p-value, where it was tested."""
    tested = found.p_holm is not None
    return _with_interval(found.estimate, "+") + (f" p={_number(found.p_holm or 0.0)}" if tested else "")


def _with_interval(estimate: Estimate, sign: str = "") -> str:
    value, low, high = (_number(number, sign) for number in (estimate.value, estimate.low, estimate.high))
    return value if math.isnan(estimate.low) and math.isnan(estimate.high) else f"{value} [{low}, {high}]"


def _number(value: float, sign: str = "", digits: int = 3) -> str:
    """A number for a table, and a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:{sign}.{digits}f}"


def _by_measure(title: str, columns: dict[str, dict[str, str]], shown: frozenset[str] | None = None) -> Table:
    """A row for every measure that any column has and that is shown, in the order in which they first appear."""
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for name in columns:
        table.add_column(name, justify="right")
    for measure in dict.fromkeys(measure for column in columns.values() for measure in column):
        if shown is not None and measure not in shown:
            continue
        table.add_row(measure, *(column.get(measure, "") for column in columns.values()))
    return table
