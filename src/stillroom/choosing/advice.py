"""From a ranking's numbers to a recommendation: which teacher, why, how sure, and what to watch. Pure functions.

Imports no torch.
"""

from __future__ import annotations

from stillroom.results.ranking_file import Advice, LossOrder, RankingNumbers, TeacherRecord
from stillroom.types import Estimate

Teachers = dict[str, TeacherRecord]


def recommend(ranking: RankingNumbers) -> Advice:
    """The first teacher, or all that are tied with it, and why.

    Where proxy students were trained, their held-out loss decides; else the teachers' own.
    """
    by_proxy = ranking.proxies is not None
    comparison = ranking.proxies or ranking.teacher_loss
    teachers = {teacher.name: teacher for teacher in ranking.teachers}
    tied = [found.name for found in comparison.differences if found.tie]
    chosen = [comparison.order[0], *tied]
    basis = "held-out loss of proxy students" if by_proxy else "the teachers' own held-out loss"
    sentences = [
        _verdict(chosen, comparison, teachers, by_proxy),
        *_runner_up(comparison, by_proxy),
        *_cheapest(chosen, teachers),
        *_orders_differ(ranking),
        *_against_control(ranking, chosen),
        *_solvers(ranking, chosen),
        *_warnings(chosen, teachers),
        _uncertainty(ranking),
    ]
    return Advice(teachers=tuple(chosen), basis=basis, sentences=tuple(sentences))


def _verdict(chosen: list[str], comparison: LossOrder, teachers: Teachers, by_proxy: bool) -> str:
    what = "its proxy student has the lowest held-out loss" if by_proxy else "its own held-out loss is the lowest"
    if len(teachers) == 1:
        return f"{chosen[0]} is the only candidate: it is described, not compared."
    if len(chosen) == 1:
        return f"Take {chosen[0]}: {what}, and no other candidate's interval reaches it."
    subject = "their proxy students" if by_proxy else "they"
    return (
        f"A tie: {_listing(chosen)} cannot be told apart, since {subject} differ by less in held-out loss than "
        f"documents do ({comparison.order[0]} is lowest by value)."
    )


def _runner_up(comparison: LossOrder, by_proxy: bool) -> list[str]:
    return [
        f"{found.name} is {_interval(found.nats)} nats per token above {comparison.against}"
        f"{' (proxy students)' if by_proxy else ''}: {'a tie' if found.tie else 'worse'}."
        for found in comparison.differences
    ]


def _cheapest(chosen: list[str], teachers: Teachers) -> list[str]:
    if len(chosen) < 2:
        return []
    cheapest = min(chosen, key=lambda name: teachers[name].cost.flops)
    dearest = max(chosen, key=lambda name: teachers[name].cost.flops)
    low, high = teachers[cheapest].cost.flops, teachers[dearest].cost.flops
    if high < 1.01 * low:
        return ["Those tied cost the same to label with."]
    return [
        f"Of those tied, {cheapest} labels for the fewest FLOPs ({low:.2e}, against {high:.2e} with {dearest}): where "
        "nothing else decides, take it."
    ]


def _orders_differ(ranking: RankingNumbers) -> list[str]:
    """Says so where a proxy contradicts what the teachers' own loss would have chosen."""
    if ranking.proxies is None:
        return []
    own, proxy = ranking.teacher_loss.order[0], ranking.proxies.order[0]
    tied = [found.name for found in ranking.proxies.differences if found.tie]
    if own == proxy or own in tied:
        return []
    return [
        f"Of the teachers themselves {own} has the lowest held-out loss, but its proxy student is worse than {proxy}'s."
    ]


def _against_control(ranking: RankingNumbers, chosen: list[str]) -> list[str]:
    if ranking.proxies is None:
        return []
    found = ranking.proxies.against_hard_labels[chosen[0]]
    words = (
        f"A proxy student of {chosen[0]} differs from one of hard labels alone by {_interval(found)} nats per token: "
    )
    if found.high < 0:
        return [f"{words}its labels help at this budget."]
    if found.low > 0:
        return [f"{words}at this budget its labels do harm, and none of these teachers is advised for held-out loss."]
    return [f"{words}the two cannot be told apart."]


def _solvers(ranking: RankingNumbers, chosen: list[str]) -> list[str]:
    return [
        f"{found.name} solves more problems than {chosen[0]}: pass@{found.k} is {_interval(found.difference)} "
        "higher. If that is what the student is for, held-out loss alone is not the measure to choose by."
        for found in ranking.solvers
        if found.against == chosen[0] and found.difference.low > 0
    ]


def _warnings(chosen: list[str], teachers: Teachers) -> list[str]:
    sentences = []
    for name in chosen:
        teacher = teachers[name]
        accuracy = teacher.looking_back.copying.accuracy_repeat
        if accuracy is not None and teacher.looking_back.induction != "finished":
            sentences.append(
                f"The induction of {name} is {_state(teacher)} (it copies {accuracy.value:.0%} of repeated random "
                "tokens): its labels may slow a student's own copying; train it longer, or route copyable positions "
                "(routing.rule copy-aware)."
            )
        capacity = teacher.capacity
        if capacity is not None and capacity.side == "above":
            sentences.append(
                f"The loss of {name} is {capacity.value:.2f} times that of the supervised student, above "
                f"{capacity.break_}, where the distillation scaling law breaks: expect little of it, and let a "
                "proxy student tell (--proxy-tokens)."
            )
        over = teacher.overconfidence_nats
        if over.low > 0.05:
            sentences.append(
                f"{name} is overconfident by {over.value:.2f} nats per token (held-out loss above its own entropy): "
                "its labels claim more than it knows; a temperature above 1 may help."
            )
    return sentences


def _state(teacher: TeacherRecord) -> str:
    return {"begun": "under way", "not begun": "not begun"}[teacher.looking_back.induction]


def _uncertainty(ranking: RankingNumbers) -> str:
    documents = ranking.heldout.documents
    level = f"intervals are over {documents} held-out documents and hold together with 95 %"
    if ranking.proxies is None:
        return (
            f"How sure: {level}. They say which teacher predicts this text best, not that its student will be best: "
            "train proxy students (--proxy-tokens) for that."
        )
    seeds = ranking.proxies.seeds
    runs = "one training run each, so luck of the run is not in them" if seeds == 1 else f"means of {seeds} runs each"
    return f"How sure: {level}; proxies are {runs}, at {ranking.proxies.tokens:,} tokens, which may not hold at yours."


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"


def _listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
