"""What a law expected of every arm, with its interval, and what came out."""

from __future__ import annotations

from markupsafe import Markup

from stillroom.report.charts.figure import Figure, Panel, Table
from stillroom.report.charts.keys import line_key
from stillroom.report.charts.scales import Scale, tight
from stillroom.report.charts.svg import WIDE, Frame, drawing, marker, segment, shortened, text, whisker
from stillroom.report.formats import fixed
from stillroom.report.view import View
from stillroom.results.schema import ArmForecast

ID, TITLE = "fig-forecast", "Forecast and outcome"
TOP, LINE, BOTTOM = 10.0, 34.0, 44.0
_FORETOLD, _MEASURED = ("s0", "circle"), ("s1", "diamond")
CAPTION = (
    "Held-out loss in nats per token: what the law {law} expected of each student, with its 95 % interval, and what "
    "came out. Distilled students are foretold with the measured loss of their teacher."
)


def forecast_figure(view: View) -> Figure:
    """A row for each arm that the law says something of; the others are in the table with the reason."""
    found = view.runs[0].forecast if len(view.runs) == 1 else None
    if found is None:
        return Figure(ID, TITLE)
    drawn = [one for one in found.arms if one.forecast is not None]
    table = Table(("arm", "forecast", "outcome"), tuple(one.cells() for one in found.arms))
    signs = (("forecast", line_key("", _FORETOLD[1], _FORETOLD[0])), ("outcome", line_key("", *_MEASURED[::-1])))
    panels = (Panel("", _picture(drawn)),) if drawn else ()
    return Figure(ID, TITLE, CAPTION.format(law=found.law), panels, signs, table)


def _picture(arms: list[ArmForecast]) -> Markup:
    values = [value for one in arms for value in _values(one)]
    height = TOP + LINE * len(arms) + BOTTOM
    frame = Frame(WIDE, height, tight(values), Scale(0, 1), left=14, right=20, top=TOP, bottom=BOTTOM)
    parts = []
    for value in frame.x.ticks():
        parts.append(segment(frame.px(value), TOP, frame.px(value), frame.floor, "grid"))
        parts.append(text(frame.px(value), frame.floor + 18, f"{value:g}", "middle", "tick"))
    parts.append(text(frame.px((frame.x.low + frame.x.high) / 2), height - 6, "nats per token", "middle", "name"))
    for place, one in enumerate(arms):
        parts += _row(frame, one, TOP + LINE * place)
    told = "; ".join(
        f"{arm}: forecast {told}, outcome {after or 'none'}" for arm, told, after in (a.cells() for a in arms)
    )
    return drawing(WIDE, height, TITLE, f"{told}.", *parts)


def _values(one: ArmForecast) -> list[float]:
    assert one.forecast is not None
    return [one.forecast.low, one.forecast.high, *([] if one.outcome is None else [one.outcome])]


def _row(frame: Frame, one: ArmForecast, y: float) -> list[Markup]:
    assert one.forecast is not None
    line = y + 24
    name = one.arm + (" (outside its interval)" if one.is_outside else "")
    hint = f"{one.arm}: forecast {one.cells()[1]}"
    parts = [
        text(frame.left, y + 14, shortened(name, WIDE - frame.left, WIDE), class_="halo"),
        whisker(frame.px(one.forecast.low), line, frame.px(one.forecast.high), line, f"error {_FORETOLD[0]}"),
        marker(_FORETOLD[1], frame.px(one.forecast.value), line, f"mark {_FORETOLD[0]}", hint),
    ]
    if one.outcome is not None:
        hint = f"{one.arm}: outcome {fixed(one.outcome, 3)}"
        parts.append(marker(_MEASURED[1], frame.px(one.outcome), line, f"mark {_MEASURED[0]}", hint))
    return parts
