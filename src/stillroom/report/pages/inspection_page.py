"""The page of ``stillroom inspect --html``: heads, attention, and where two models differ. No network, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stillroom.files import write_text
from stillroom.report.charts.figure import Figure, Panel, Table
from stillroom.report.charts.heat import attention_square
from stillroom.report.charts.keys import ATTENTION, line_key, shades_key
from stillroom.report.charts.lines import Axis, Series, chart, linear_axis
from stillroom.report.charts.scales import Scale
from stillroom.report.charts.svg import WIDE, drawing, joined, shortened, text
from stillroom.report.figures.head_maps import score_maps
from stillroom.report.formats import fixed, minus
from stillroom.report.html import Lead, fill
from stillroom.report.samples import visible
from stillroom.results.inspected import AttentionPattern, InspectedCheckpoints, InspectedModel, Passage
from stillroom.types import Estimate

STRONGEST_NATS = 3.0
"""Difference at which a token has its full colour."""
SHADES = 5
MARGIN = 110.0
"""Room for the words beside a picture of attention."""


def write_inspection_page(page: Path, found: InspectedModel | InspectedCheckpoints) -> None:
    """Writes the page; it appears complete or not at all, and the same numbers give the same bytes."""
    write_text(page, inspection_text(found))


def inspection_text(found: InspectedModel | InspectedCheckpoints) -> str:
    """The page as text."""
    if isinstance(found, InspectedCheckpoints):
        lead = _lead_over_training(found)
        return _filled(title=found.name, lead=lead, figures=_over_training(found), against="", passages=())
    figures = [_heads(found)]
    if found.attention:
        figures.append(_attention(found.attention))
    return _filled(
        title=found.name,
        lead=_lead(found),
        figures=figures,
        samples_title=f"Where {found.against} differs" if found.passages else "",
        against=found.against,
        passages=[(minus(f"{passage.total:+.1f}"), shaded_tokens(passage)) for passage in found.passages],
    )


def _filled(**values: Any) -> str:
    return fill("inspection.html.j2", kind="stillroom inspect", **values)


def _lead(found: InspectedModel) -> Lead:
    """Which head could be an induction head, how strong it is, and what the scores are means of."""
    heads, best = found.heads, found.heads.induction_head
    size = f"{heads.num_layers} layers of {heads.num_heads} heads, scored on repeated random tokens."
    if best is None:
        return Lead((("The copying scores of these heads are not known.", size),))
    answer = (
        f"The strongest induction head is layer {heads.layer(best.layer)}, head {best.head}: prefix matching "
        f"{fixed(best.prefix_matching, 2)}, copying {fixed(best.copying, 2)}."
    )
    return Lead(((answer, size, "Scores are means over sequences, without an interval."),))


def _lead_over_training(found: InspectedCheckpoints) -> Lead:
    """How the loss on repeats changed, and how strong the strongest heads became."""
    first, last = found.steps[0], found.steps[-1]
    answer = (
        f"The loss on repeated tokens went from {fixed(found.loss[0], 2)} to {fixed(found.loss[-1], 2)} nats per token "
        f"between steps {first} and {last}."
    )
    scores = [f"{name} {fixed(values[-1], 2)}" for name, values in found.strongest.items()]
    sure = "One training run: at another seed a head may form earlier or later."
    return Lead(((answer, f"The strongest heads at the end: {', '.join(scores)}.", sure),))


def _heads(found: InspectedModel) -> Figure:
    maps = {"scores": score_maps(found.name, found.heads)}
    if found.ablation is not None:
        words = "rise of the loss without the head"
        maps["ablation"] = score_maps(found.name, found.heads, {words: found.ablation})
    caption = (
        "Every square is a head: layers from bottom to top, heads from left to right, counted from 0. Previous token "
        "and prefix matching are mean attention (0 to 1), copying is the score of the head’s output circuit (−1 to 1); "
        "an induction head is high in prefix matching and in copying (Olsson et al. 2022). Ablation: rise of the loss "
        "on repeated random tokens without the head, in nats; blank where not measured."
    )
    return Figure(
        "fig-heads",
        "Heads",
        caption,
        tuple(Panel(title, picture) for title, picture in maps.items()),
        (("above 0", shades_key("warm")), ("below 0", shades_key("cold"))),
        most_columns=2,
    )


def _attention(patterns: Sequence[AttentionPattern]) -> Figure:
    over = "the text" if patterns[0].tokens else "random tokens that repeat"
    caption = (
        "Rows are the tokens that look, columns those looked at; the stronger the colour, the more, and blank is less "
        "than 0.04."
    )
    panels = tuple(Panel(pattern.title, _picture(pattern)) for pattern in patterns)
    return Figure("fig-attention", f"Attention over {over}", caption, panels, ATTENTION, most_columns=2)


def _picture(pattern: AttentionPattern) -> Markup:
    left = MARGIN if pattern.tokens else 2.0
    step = (WIDE - left - 2) / len(pattern.rows)
    parts = attention_square(pattern.rows, (left, 2.0), step)
    shown = [visible(token.replace("\n", "⏎").replace("\t", "⇥")) for token in pattern.tokens]
    words = [shortened(one, left - 8, WIDE) for one in shown]
    parts += [text(left - 6, 2 + step * (row + 0.5) + 4, word, "end", "tick") for row, word in enumerate(words)]
    described = f"Attention of one head over {len(pattern.rows)} tokens."
    return drawing(WIDE, WIDE - left + 2, pattern.title, described, joined(parts))


def shaded_tokens(passage: Passage) -> list[tuple[str, str, str]]:
    """Each token with its CSS class and its difference: better where the second model's loss is lower, else worse."""
    shown = []
    for token, gain in zip(passage.tokens, passage.gains, strict=True):
        strength = round(min(1.0, abs(gain) / STRONGEST_NATS) * SHADES)
        side = "better" if gain >= 0 else "worse"
        words = visible(token.replace("\n", "⏎").replace("\t", "⇥"))
        shown.append((f"{side} by-{strength}" if strength else "", minus(f"{gain:+.2f} nats"), words))
    return shown


def _over_training(found: InspectedCheckpoints) -> list[Figure]:
    losses = {"loss on repeats": found.loss}
    return [
        _series("fig-scores", "Scores over training", "strongest head", found.steps, found.strongest),
        _series("fig-loss", "Loss on repeated random tokens", "nats per token", found.steps, losses),
    ]


def _series(
    ident: str, title: str, unit: str, steps: Sequence[int], lines: Mapping[str, Sequence[float]]
) -> Figure:  # fmt: skip
    shapes = ("circle", "square", "triangle", "diamond")
    drawn = [
        Series(
            name, f"s{place}", shapes[place], xs=steps[-1:], points=[Estimate(values[-1], values[-1], values[-1], 1)],
            line_xs=steps, line_ys=values,
        )
        for place, (name, values) in enumerate(lines.items())
    ]  # fmt: skip
    x = Axis("training step", Scale(float(steps[0]), float(max(steps[-1], steps[0] + 1))))
    y = linear_axis(unit, [value for values in lines.values() for value in values])
    keys = tuple((one.name, line_key(f"curve thin {one.colour}", one.marker, one.colour)) for one in drawn)
    rows = tuple(
        (str(step), *(fixed(values[place], 3) for values in lines.values())) for place, step in enumerate(steps)
    )
    caption = f"{title}, {unit}, at every checkpoint."
    table = Table(("step", *lines), rows)
    return Figure(ident, title, caption, (Panel("", chart(title, x, y, drawn)),), keys, table)
