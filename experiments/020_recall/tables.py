"""The tables of the recall study: every arm, the contrasts that README.md fixed, and the words that they allow."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from grid import FOCUS, GRID, TEACHERS

from stillroom.results.intervals import paired_interval
from stillroom.results.json_form import as_json
from stillroom.results.recall_file import RecallResults
from stillroom.sandbox.recall.recall_results import mean_where_found

Values = dict[str, Any]
MEASURES = (
    *(("copy_accuracy", "copy accuracy"), ("copy_loss", "copy loss"), ("log2_tokens_80", "log2 tokens to 0.8")),
    *(("kl_high", "KL high"), ("kl_low", "KL low"), ("over_copying", "over-copying")),
    ("calibration_error", "calibration error"),
)
COSTS = ("over_copying", "calibration_error")
ROUTED = [method for method in GRID if not method.startswith("dpt")]


def lean(results: RecallResults) -> Values:
    """The results with one record per arm and seed: the last probe, the crossings, and no curves or pictures."""
    arms, found = [], as_json(results)
    for arm in found["arms"]:
        seeds = {str(seed["seed"]): _at_the_end(seed, found["tokens"]) for seed in arm["seeds"]}
        arms.append({name: arm[name] for name in ("name", "label", "alpha", "teacher", "routing")} | {"seeds": seeds})
    return {name: value for name, value in found.items() if name not in ("arms", "total_seconds")} | {"arms": arms}


def _at_the_end(seed: Values, tokens: int) -> Values:
    last, crossings = seed["probes"][-1], seed["crossings"]
    record = {name: last[name] for name, _ in MEASURES if name in last} | {"loss": last["loss"], "kl": last["kl"]}
    record["log2_tokens_80"] = math.log2(crossings["copy_accuracy_80"] or tokens)
    record["reached_80"] = crossings["copy_accuracy_80"] is not None
    for name in ("copy_accuracy", "previous_token", "prefix_matching"):
        record[f"tokens_half_{name}"] = crossings[name]
    record["best_heads"] = {name: crossings[f"best_{name}"] for name in ("previous_token", "prefix_matching")}
    return record | {"routed_share": seed["routed_share"], "seconds": seed["seconds"]}


class Results:
    """Look-ups in lean results: an arm's values by seed, and paired differences."""

    def __init__(self, found: Values) -> None:
        self._arms = {arm["name"]: arm for arm in found["arms"]}

    def __contains__(self, name: str) -> bool:
        return name in self._arms

    def names(self) -> list[str]:
        """Every arm, in the order of the grid."""
        return list(self._arms)

    def values(self, name: str, measure: str) -> dict[int, float | None]:
        """A measure of an arm at every seed."""
        return {int(seed): record[measure] for seed, record in self._arms[name]["seeds"].items()}

    def mean(self, name: str, measure: str) -> Values | None:
        """Mean over seeds with its interval."""
        found = mean_where_found(measure, self.values(name, measure))
        return found and found.as_dict()

    def difference(self, first: str, second: str, measure: str) -> Values | None:
        """``first`` minus ``second``, paired by seed."""
        others = self.values(second, measure)
        pairs = [(value, others.get(seed)) for seed, value in self.values(first, measure).items()]
        differences = [value - other for value, other in pairs if value is not None and other is not None]
        return paired_interval(differences).as_dict() if differences else None


def contrasts(found: Values) -> Values:
    """Arm → its mean, and its differences from SPT, from unrouted DPT-90 and from lowest entropy at the same share."""
    results = Results(found)
    made: Values = {}
    for name in results.names():
        method, _, teacher = name.partition("@")
        others = {"mean": None, "over_spt": "spt", "over_dpt90": f"dpt90@{teacher}"}
        if method.startswith("copy-"):
            others["over_entropy"] = f"entropy-{method.removeprefix('copy-')}@{teacher}"
        for kind, other in others.items():
            if other is None or (other in results and other != name):
                read = results.mean if other is None else partial(_difference, results, other)
                made.setdefault(name, {})[kind] = {measure: read(name, measure) for measure, _ in MEASURES}
    return made


def _difference(results: Results, other: str, name: str, measure: str) -> Values | None:
    return results.difference(name, other, measure)


def shown(found: Values | None, signed: bool = False) -> str:
    """``0.31 [0.25, 0.37]``; a dash where nothing was measured."""
    if found is None:
        return "–"
    sign = "+" if signed else ""
    ends = "" if found["low"] is None else f" [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
    return f"{found['value']:{sign}.3f}{ends}".replace("-", "−")


def is_above(found: Values | None) -> bool:
    """Whether an interval is above 0."""
    return found is not None and found["low"] is not None and found["low"] > 0


def is_below(found: Values | None) -> bool:
    """Whether an interval is below 0."""
    return found is not None and found["high"] is not None and found["high"] < 0


def damage(results: Results, teacher: str) -> str:
    """What the decision rule calls DPT-90 with this teacher, against SPT."""
    weaker = is_below(results.difference(f"dpt90@{teacher}", "spt", "copy_accuracy"))
    later = is_above(results.difference(f"dpt90@{teacher}", "spt", "log2_tokens_80"))
    words = [word for word, holds in (("weakens", weaker), ("delays", later)) if holds]
    stronger = is_above(results.difference(f"dpt90@{teacher}", "spt", "copy_accuracy"))
    sooner = is_below(results.difference(f"dpt90@{teacher}", "spt", "log2_tokens_80"))
    words += [word for word, holds in (("strengthens", stronger), ("speeds up", sooner)) if holds]
    return ", ".join(words) or "not told apart"


def remedy(results: Results, method: str, teacher: str) -> str:
    """What the decision rule calls a routed arm."""
    gain = results.difference(f"{method}@{teacher}", f"dpt90@{teacher}", "copy_accuracy")
    against_spt = results.difference(f"{method}@{teacher}", "spt", "copy_accuracy")
    if is_below(gain):
        return "hurts"
    if not is_above(gain):
        return "not told apart"
    return "helps" if is_below(against_spt) else "helps, restores"


def markdown(found: Values) -> str:
    """Every table as one page."""
    results, seeds = Results(found), found["seeds"]
    parts = [
        "# Recall study: tables\n",
        f"Seeds {', '.join(map(str, seeds))}; {found['tokens']:,} tokens per run. Values are means over seeds with the "
        "95 % interval of Student's t; differences are paired by seed. Losses and KL in nats.\n",
        *_damage_table(results),
        *_remedy_table(results),
        *_rule_table(results),
        *_teacher_table(found["teachers"]),
        *_arm_table(results),
    ]
    return "\n".join(parts) + "\n"


def _table(title: str, head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return [f"## {title}\n", *lines, ""]


def _damage_table(results: Results) -> list[str]:
    rows = [
        [
            teacher,
            *(
                shown(results.difference(f"dpt90@{teacher}", "spt", measure), signed=True)
                for measure in ("copy_accuracy", "copy_loss", "log2_tokens_80")
            ),
            damage(results, teacher),
        ]
        for teacher in TEACHERS
    ]
    head = ["teacher", "copy accuracy", "copy loss", "log2 tokens to 0.8", "so the teacher"]
    return _table("1. DPT-90 minus SPT", head, rows)


def _remedy_table(results: Results) -> list[str]:
    rows = []
    for teacher in TEACHERS:
        for method in ROUTED:
            name = f"{method}@{teacher}"
            if name not in results:
                continue
            gain = results.difference(name, f"dpt90@{teacher}", "copy_accuracy")
            share = results.mean(name, "routed_share")
            per_share = "–" if gain is None or not share else f"{gain['value'] / share['value']:+.2f}"
            costs = [shown(results.difference(name, f"dpt90@{teacher}", cost), signed=True) for cost in COSTS]
            routed = "–" if share is None else f"{100 * share['value']:.1f} %"
            against = shown(results.difference(name, "spt", "copy_accuracy"), signed=True)
            words = remedy(results, method, teacher)
            rows.append([teacher, method, routed, shown(gain, signed=True), against, per_share, words, *costs])
    head = ["teacher", "rule", "routed", "copy accuracy over DPT-90", "over SPT", "gain per share routed", "so it"]
    return _table("2. Routed minus unrouted DPT-90, same teacher", [*head, "over-copying", "calibration error"], rows)


def _rule_table(results: Results) -> list[str]:
    rows = []
    for teacher in TEACHERS:
        for share in (5, 15, 30):
            names = f"copy-{share}@{teacher}", f"entropy-{share}@{teacher}"
            if all(name in results for name in names):
                differences = [
                    results.difference(*names, measure) for measure in ("copy_accuracy", "copy_loss", *COSTS)
                ]
                verdict = "better" if is_above(differences[0]) else "worse" if is_below(differences[0]) else "not told"
                star = " (primary)" if share == 15 and teacher in FOCUS else ""
                rows.append([teacher + star, f"{share} %", *(shown(one, signed=True) for one in differences), verdict])
    head = ["teacher", "share", "copy accuracy", "copy loss", "over-copying", "calibration error", "copy-aware is"]
    return _table("3. Copy-aware minus lowest entropy, same share and teacher", head, rows)


def _teacher_table(teachers: Values) -> list[str]:
    rows = [
        [name, *(shown(one["measured"][measure]) for measure in ("step", "copy_accuracy", "copy_loss", "kl"))]
        for name, one in teachers.items()
        if "measured" in one
    ]
    return _table("4. The trained teachers themselves", ["teacher", "step", "copy accuracy", "copy loss", "KL"], rows)


def _arm_table(results: Results) -> list[str]:
    rows = [[name, *(shown(results.mean(name, measure)) for measure, _ in MEASURES)] for name in results.names()]
    return _table("5. Every arm at the end", ["arm", *(title for _, title in MEASURES)], rows)
