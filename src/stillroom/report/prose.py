"""The summary in words, computed from the numbers and never beyond them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillroom.report.arms import Paired, SeededArm, arms_over_seeds, baseline_arm, mean_of, paired_with
from stillroom.report.differences import Word, verdicts
from stillroom.report.formats import fixed, has_width, interval, listing, overlap, si, with_interval
from stillroom.report.headline import headline_passes, headline_temperature, measured
from stillroom.report.html import Lead
from stillroom.report.view import Entry, View, make_view, run_names
from stillroom.results.measures import Measure, registered_measures, unique_answers
from stillroom.results.schema import ModelRecord, WorthTable, arm_and_seed
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
SEEDS_CLOSING = "Intervals are Student's t over training seeds; they cover another run and not other items."
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


def summary(view: View) -> Lead:
    """What came out, what was run and how sure it is, in three sentences or four; the comparisons one by one below.

    Where there are several runs and each has students to compare, each run has a paragraph of its own, in which its
    students are compared with its own baseline; else the students are compared across the runs. Where every student is
    one seed of an arm, arms are compared instead, over their seeds.
    """
    arms = arms_over_seeds(view)
    if len(arms) > 1 and sum(len(arm.seeds) for arm in arms) == len(view.students):
        baseline = baseline_arm(arms)
        assert baseline is not None
        rule = SEEDS_RULE.format(arm=baseline.label)
        return _lead(view, _arms_over_seeds(view, arms, baseline), (rule,), SEEDS_CLOSING)
    over_seeds = f" {OVER_SEEDS}" if len(arms) > 1 else ""
    if (found := verdicts(view)) and _findings(view):
        assert view.baseline is not None
        if (opening := _opening(view, view.baseline, found)) is not None:
            entry, bought, lost = opening
            others = [pair for pair in found if pair[0] is not entry]
            return Lead(((bought,), (lost,), (_what_was_run(view), HOW_SURE)), _verdicts_told(view.baseline, others))
        told = (_by_word(view.baseline, found), *_verdicts_told(view.baseline, found))
        return _lead(view, told, (), PAIRED_CLOSING + over_seeds)
    alone = [make_view((run,)) for run in view.runs]
    if len(alone) == 1 or any(len(each.students) < 2 for each in alone):
        rule = (RULE.format(model=view.baseline.label),) if view.baseline and len(view.students) > 1 else ()
        return _lead(view, _findings(view), rule, CLOSING + over_seeds)
    names = run_names(view.runs)
    told = [f"{name}. {_joined(each)}" for name, each in zip(names, alone, strict=True)]
    first = [f"{names[0]}. {one}" for one in (_findings(alone[0])[:1] or (NOTHING,))]
    return _lead(view, first + told, (), CLOSING + over_seeds)


def _lead(view: View, findings: Sequence[str], rule: tuple[str, ...], sure: str) -> Lead:
    """The first finding in front; the others below the key figure, after the rule by which they are told."""
    if not findings:
        return Lead(((NOTHING, _what_was_run(view)),))
    first, *others = findings
    below = (" ".join((*rule, *others)),) if rule and others else tuple(others)
    return Lead(((first,), (_what_was_run(view), sure)), below)


def apart(groups: Sequence[View]) -> Lead:
    """The summary of each of several groups of runs, which were not measured on the same."""
    names = listing([f"({group.title})" if len(group.runs) > 1 else group.title for group in groups])
    told = []
    for group in groups:
        lead = summary(group)
        told += [f"{group.title}. {' '.join(one)}" for one in lead.paragraphs]
        told += [f"{group.title}. {one}" for one in lead.details]
    return Lead(((APART.format(names=names),),), tuple(told))


def _joined(view: View) -> str:
    rule = (RULE.format(model=view.baseline.label),) if view.baseline else ()
    findings = _findings(view)
    return " ".join((*rule, *findings)) if findings else NOTHING


def _what_was_run(view: View) -> str:
    """How many models of which size, and on how much text."""
    students = [entry.model.record for entry in view.students]
    teachers = [entry.model.record for entry in view.entries if entry.is_teacher]
    text = _ends([one.distinct_tokens for one in students])
    parts = [_models(students, "student") + (f" on {text} tokens" if text else ""), _models(teachers, "teacher")]
    return f"What was run: {', '.join(part for part in parts if part)}."


def _models(records: Sequence[ModelRecord], name: str) -> str:
    if not records:
        return ""
    size = _ends([one.parameters for one in records])
    return f"{len(records)} {name}{'s' if len(records) > 1 else ''}" + (f" of {size} parameters" if size else "")


def _ends(counts: Sequence[float]) -> str:
    """The smallest and the largest count; empty where none is known."""
    known = sorted(count for count in counts if count)
    return " to ".join(dict.fromkeys(si(count) for count in (known[:1] + known[-1:])))


_FEW = 4
"""Names that are listed; more are counted."""


def _by_word(baseline: Entry, found: Sequence[tuple[Entry, Mapping[Word, list[str]]]]) -> str:
    """The students against the baseline in the first measure, however many there are."""
    by_word = [(word, title) for _, words in found for word, titles in words.items() for title in titles]
    title = next((title for word, title in by_word if word != "no clear difference"), by_word[0][1])
    groups: dict[Word, list[str]] = {"better": [], "worse": [], "no clear difference": []}
    for entry, words in found:
        for word, titles in words.items():
            if title in titles:
                groups[word].append(entry.label)
    ways: dict[Word, str] = {
        "better": f"{{}} better than {baseline.label}",
        "worse": "{} worse",
        "no clear difference": "no clear difference for {}",
    }
    told = "; ".join(ways[word].format(_counted(names, word)) for word, names in groups.items() if names)
    return f"In {title}: {told}."


def _counted(names: list[str], word: Word) -> str:
    does = "" if word == "no clear difference" else " do" if len(names) > 1 else " does"
    return (listing(names) if len(names) <= _FEW else f"{len(names)} students") + does


def _opening(
    view: View, baseline: Entry, found: Sequence[tuple[Entry, Mapping[Word, list[str]]]]
) -> tuple[Entry, str, str] | None:
    """A student, what soft labels bought it and what not; None where no ladder says what one was worth.

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
    rest = "; ".join(part for part in (lost, level) if part) or "nothing was measured without a gain"
    return entry, f"{BOUGHT}: {bought}{_worth_of_text(worths, entry)}.", f"{NOT_BOUGHT}: {rest}."


def _worth_of_text(worths: WorthTable, entry: Entry) -> str:
    """What one of its tokens was worth on the first ability, which is real text where there is any."""
    ability = next(iter(worths.abilities), None)
    found = ability and ability.arms.get(arm_and_seed(entry.model.record.name)[0])
    if ability is None or found is None or found.data.why == "flat":
        return ""
    return f". On {ability.title}, one of its tokens was worth {found.data} of hard labels"


def _verdicts_told(baseline: Entry, found: Sequence[tuple[Entry, Mapping[Word, list[str]]]]) -> tuple[str, ...]:
    """What students have over the baseline, and what not, by the paired tests; those with the same words together."""
    alike: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for entry, words in found:
        key = tuple(tuple(words.get(word, ())) for word in _WORDS)
        alike.setdefault(key, []).append(entry.label)
    return tuple(_verdict_sentence(names, baseline, *map(list, key)) for key, names in alike.items())


_WORDS: tuple[Word, ...] = ("better", "worse", "no clear difference")


def _verdict_sentence(names: list[str], baseline: Entry, better: list[str], worse: list[str], same: list[str]) -> str:
    who, does = listing(names), "do" if len(names) > 1 else "does"
    if not better and not worse:
        return f"{who}: no clear difference from {baseline.label} in {listing(same)}."
    told = f"{does} better than {baseline.label} in {listing(better)}" if better else ""
    if worse:
        lost = f"worse in {listing(worse)}" if told else f"{does} worse than {baseline.label} in {listing(worse)}"
        told = f"{told} and {lost}" if told else lost
    return f"{who} {told}{f'; there is no clear difference in {listing(same)}' if same else ''}."


def _findings(view: View) -> tuple[str, ...]:
    """What the students show against the baseline, a sentence a measure; none where nothing was measured of it."""
    baseline = view.baseline
    found = [_finding(view, baseline, measure) for measure in _told(view)] if baseline else []
    return tuple(sentence for sentence in found if sentence)


def _arms_over_seeds(view: View, arms: tuple[SeededArm, ...], baseline: SeededArm) -> tuple[str, ...]:
    """Every arm against the baseline's, a sentence a measure."""
    return tuple(one for measure in _told(view) if (one := _arms_finding(arms, baseline, measure)))


def _arms_finding(arms: tuple[SeededArm, ...], baseline: SeededArm, measure: Measure) -> str:
    """One sentence on one measure; empty where the baseline has it at fewer than two seeds."""
    reference = mean_of(baseline, measure)
    if reference is None:
        return ""
    groups: dict[Word, list[str]] = {"better": [], "worse": [], "no clear difference": []}
    for arm in arms:
        paired = None if arm is baseline else paired_with(baseline, arm, measure)
        if paired is not None:
            word, told = _difference_told(paired, measure)
            groups[word].append(f"{arm.label} {told}")
    value = with_interval(reference, measure.decimals)
    start = measure.said().format(model=baseline.label, value=value)
    parts = [listing(found) for word, found in groups.items() if found and word != "no clear difference"]
    parts += [f"no clear difference for {listing(found)}" for found in [groups["no clear difference"]] if found]
    return f"{start}: {'; '.join(parts)}." if parts else f"{start}."


def _difference_told(paired: Paired, measure: Measure) -> tuple[Word, str]:
    """``is better by 0.10``, or the interval of a difference that holds 0."""
    mean, sign = paired.mean, measure.sign
    low, high = sorted((sign * mean.low, sign * mean.high))
    if low <= 0 <= high:
        return "no clear difference", f"({interval(mean.estimate, measure.decimals) or 'all alike'})"
    word: Word = "better" if low > 0 else "worse"
    return word, f"is {word} by {fixed(abs(mean.value), measure.decimals)}"


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
