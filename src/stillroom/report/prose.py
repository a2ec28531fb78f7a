"""The summary in words, computed from the numbers and never beyond them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillroom.report.arms import SeededArm, arms_over_seeds, baseline_arm, mean_of, paired_with
from stillroom.report.differences import Word, verdicts
from stillroom.report.formats import fixed, has_width, listing, overlap, with_interval
from stillroom.report.headline import headline_passes, headline_temperature, measured
from stillroom.report.view import Entry, View, make_view, run_names
from stillroom.results.measures import Measure, registered_measures, unique_answers
from stillroom.results.schema import WorthTable, arm_and_seed
from stillroom.types import Estimate

CLOSING = (
    "Intervals are over evaluation items of one training run per model: they do not cover other seeds, and overlapping "
    "intervals leave the order of two models open."
)
OVER_SEEDS = "Arms that were trained at several seeds are compared over them in a figure of their own."
RULE = (
    "Each student is compared with {model}; it is called better or worse only where the two 95 % intervals do not "
    "overlap."
)
SEEDS_RULE = (
    "Each arm is compared with {arm} seed by seed; it is called better or worse only where the 95 % interval of the "
    "mean difference leaves out 0, uncorrected for the number of comparisons."
)
SEEDS_CLOSING = (
    "Intervals are Student's t over training seeds; they cover another run and not other items. " + OVER_SEEDS
)
PAIRED_CLOSING = (
    "Every difference is tested on the same items and corrected for the number of measures. It is one of single "
    "training runs, and at another seed it may be another."
)
BOUGHT, NOT_BOUGHT = "What soft labels bought", "What they did not"
NOT_TOLD = "nothing that these items can tell"
HOW_SURE = (
    "How sure: every difference is tested on the same items and corrected for the number of measures, but each student "
    "is a single training run, and at another seed a difference may be another. A study of several seeds tells that."
)
APART = (
    "Not all of these runs were measured on the same held-out text in the same tokens. Runs that were share a table "
    "and figures; nothing is compared between {names}."
)
NOTHING = "No student was evaluated, so there is nothing to compare."


def summary(view: View) -> tuple[str, ...]:
    """A paragraph that compares every student with the baseline, one measure after another.

    Where there are several runs and each has students to compare, each run has a paragraph of its own, in which its
    students are compared with its own baseline; else the students are compared across the runs. Where every student is
    one seed of an arm, arms are compared instead, over their seeds.
    """
    arms = arms_over_seeds(view)
    if len(arms) > 1 and sum(len(arm.seeds) for arm in arms) == len(view.students):
        return (_arms_over_seeds(view, arms),)
    if (found := verdicts(view)) and _findings(view):
        assert view.baseline is not None
        if (opening := _opening(view, view.baseline, found)) is not None:
            return opening
        told = [_verdict_sentence(entry, view.baseline, words) for entry, words in found]
        return (*told, f"{PAIRED_CLOSING} {OVER_SEEDS}" if len(arms) > 1 else PAIRED_CLOSING)
    closing = f"{CLOSING} {OVER_SEEDS}" if len(arms) > 1 else CLOSING
    alone = [make_view((run,)) for run in view.runs]
    if len(alone) == 1 or any(len(each.students) < 2 for each in alone):
        findings = _findings(view)
        return (f"{findings} {closing}",) if findings else (NOTHING,)
    named = zip(run_names(view.runs), alone, strict=True)
    return (*(f"{name}. {_findings(each) or NOTHING}" for name, each in named), closing)


def apart(groups: Sequence[View]) -> tuple[str, ...]:
    """The summary of each of several groups of runs, which were not measured on the same."""
    names = listing([f"({group.title})" if len(group.runs) > 1 else group.title for group in groups])
    return (APART.format(names=names), *(f"{group.title}. {told}" for group in groups for told in summary(group)))


def _opening(
    view: View, baseline: Entry, found: Sequence[tuple[Entry, Mapping[Word, list[str]]]]
) -> tuple[str, str, str] | None:
    """What soft labels bought, what they did not, and how sure that is; None where no ladder says what one was worth.

    Of the student of soft labels that has the baseline's text and no routing, else of the first one.
    """
    worths = view.runs[0].worth
    text = baseline.model.record.distinct_tokens
    distilled = sorted(
        (pair for pair in found if pair[0].model.record.alpha > 0),
        key=lambda pair: (pair[0].model.record.distinct_tokens != text, pair[0].model.record.routing is not None),
    )
    if worths is None or not distilled:
        return None
    entry, words = distilled[0]
    better, worse, same = (words.get(word, []) for word in ("better", "worse", "no clear difference"))
    bought = f"{entry.label} does better than {baseline.label} in {listing(better)}" if better else NOT_TOLD
    lost = f"{entry.label} does worse than {baseline.label} in {listing(worse)}" if worse else ""
    level = f"there is no clear difference in {listing(same)}" if same else ""
    rest = "; ".join(part for part in (lost, level) if part) or "there is no measure without a gain"
    return f"{BOUGHT}: {bought}{_worth_of_text(worths, entry)}.", f"{NOT_BOUGHT}: {rest}.", HOW_SURE


def _worth_of_text(worths: WorthTable, entry: Entry) -> str:
    """What one of its tokens was worth on the first ability, which is real text where there is any."""
    ability = next(iter(worths.abilities), None)
    found = ability and ability.arms.get(arm_and_seed(entry.model.record.name)[0])
    if ability is None or found is None or found.data.why == "flat":
        return ""
    return f". On {ability.title}, one of its tokens was worth {found.data} of hard labels"


def _verdict_sentence(entry: Entry, baseline: Entry, words: dict[Word, list[str]]) -> str:
    """What a student has over the baseline, and what not, by the paired tests."""
    better, worse, same = (words.get(word, []) for word in ("better", "worse", "no clear difference"))
    if not better and not worse:
        return f"{entry.label}: no clear difference from {baseline.label} in {listing(same)}."
    told = f"does better than {baseline.label} in {listing(better)}" if better else ""
    if worse:
        told = (
            f"{told} and worse in {listing(worse)}" if told else f"does worse than {baseline.label} in {listing(worse)}"
        )
    return f"{entry.label} {told}{f'; there is no clear difference in {listing(same)}' if same else ''}."


def _findings(view: View) -> str:
    """What the students show against the baseline; empty where nothing was measured of it."""
    baseline = view.baseline
    found = [_finding(view, baseline, measure) for measure in _told(view)] if baseline else []
    told = [sentence for sentence in found if sentence]
    if baseline is None or not told:
        return ""
    return " ".join([RULE.format(model=baseline.label), *told] if len(view.students) > 1 else told)


def _arms_over_seeds(view: View, arms: tuple[SeededArm, ...]) -> str:
    """Every arm against the baseline's, one measure after another."""
    baseline = baseline_arm(arms)
    assert baseline is not None
    told = [_arms_finding(arms, baseline, measure) for measure in _told(view)]
    return " ".join([SEEDS_RULE.format(arm=baseline.label), *(one for one in told if one), SEEDS_CLOSING])


def _arms_finding(arms: tuple[SeededArm, ...], baseline: SeededArm, measure: Measure) -> str:
    """One sentence on one measure; empty where the baseline has it at fewer than two seeds."""
    reference = mean_of(baseline, measure)
    if reference is None:
        return ""
    sign = measure.sign
    groups: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for arm in arms:
        paired = None if arm is baseline else paired_with(baseline, arm, measure)
        if paired is not None:
            low, high = sorted((sign * paired.mean.low, sign * paired.mean.high))
            word = "better" if low > 0 else "worse" if high < 0 else "not told apart"
            change = fixed(paired.mean.value, measure.decimals)
            groups[word].append(f"{arm.label} ({'+' if paired.mean.value > 0 else ''}{change})")
    value = with_interval(reference, measure.decimals)
    start = measure.said().format(model=baseline.label, value=value)
    parts = [f"{listing(found)} {_is(found)} {word}" for word, found in groups.items() if found]
    return f"{start}: {'; '.join(parts)}." if parts else f"{start}."


def _told(view: View) -> tuple[Measure, ...]:
    """The measures that have a sentence, in the order in which they are told: samples after held-out text."""
    first, *rest = registered_measures("table")
    return (first, *headline_passes(view), unique_answers(headline_temperature(view)), *rest)


def _finding(view: View, baseline: Entry, measure: Measure) -> str:
    """One sentence on one measure; empty where the baseline has no such number."""
    reference = baseline.read(measure)
    if reference is None:
        return ""
    value = with_interval(reference, measure.decimals)
    start = measure.said().format(model=baseline.label, value=value)
    others = [pair for pair in measured(view, measure) if not pair[0].is_teacher and pair[0] is not baseline]
    return f"{start}: {_verdict(others, reference, measure)}." if others else f"{start}."


def _verdict(others: list[tuple[Entry, Estimate]], reference: Estimate, measure: Measure) -> str:
    """Who is better, who is worse, whose interval overlaps, and who cannot be compared."""
    sign = measure.sign
    groups: dict[str, list[str]] = {"better": [], "worse": [], "open": [], "blank": []}
    for entry, est in others:
        better = sign * (est.value - reference.value) > 0
        if not (has_width(est) and has_width(reference)):
            group = "blank"
        else:
            group = "open" if overlap(est, reference) else "better" if better else "worse"
        groups[group].append(f"{entry.label} ({fixed(est.value, measure.decimals)})")
    parts = [f"{listing(found)} {_is(found)} {word}" for word in ("better", "worse") if (found := groups[word])]
    if found := groups["open"]:
        parts.append(
            f"the intervals of {listing(found)} overlap" if len(found) > 1 else f"the interval of {found[0]} overlaps"
        )
    if found := groups["blank"]:
        parts.append(f"{listing(found)} cannot be compared, since all items came out alike for one of the two")
    return "; ".join(parts)


def _is(found: list[str]) -> str:
    return "are" if len(found) > 1 else "is"
