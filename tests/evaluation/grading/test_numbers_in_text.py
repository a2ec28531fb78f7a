"""The number that a text comes to, case by case, and beside what other graders read."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.evaluation.grading.answers import last_number
from stillroom.evaluation.measuring.benchmarks import gsm8k

CASES = [
    # text, its number, and who else reads it: (m)ath-verify, lm-eval's GSM8K filters (s)trict and (f)lexible
    # Digits in groups of three are one number, however the comma is set.
    ("so $9{,}500.", "9500", ""),
    ("9\\,500", "9500", ""),
    ("9\\!500", "9500", ""),
    ("9,\\!500", "9500", ""),
    ("12{,}345{,}678.25", "12345678.25", ""),
    ("\\$1{,}234", "1234", ""),
    ("1,234.56", "1234.56", "mf"),
    ("1'234", "1234", ""),
    ("1’234’567", "1234567", ""),
    ("1_000_000", "1000000", ""),
    ("1 234 567", "1234567", "m"),
    ("10 000", "10000", "m"),
    ("1,23,456", "123456", "f"),
    ("1.234.567", "1234567", ""),
    ("1.234,56", "1234.56", ""),
    ("1.234,567", "1234.567", ""),
    ("1{,}5", "1.5", ""),
    ("1\u2009234\u200a567", "1234567", ""),
    ("１，２３４．５", "1234.5", ""),
    ("３／４", "0.75", ""),
    ("1,234", "1234", "mf"),
    ("#### 3,000", "3000", "msf"),
    ("12345678901234567890123456789012345", "12345678901234567890123456789012345", "mf"),
    # Anything else with commas is a list, whose last number counts.
    ("1, 2, 3", "3", "mf"),
    ("1,2,3", "3", ""),
    ("(1,2)", "2", ""),
    ("1,234,56", "56", ""),
    ("x = 5, y = -3", "-3", "mf"),
    ("(2, -3)", "-3", "mf"),
    ("buy 3 200 g packs", "200", "f"),
    # A dash between two numbers is a range or a subtraction, and no sign.
    ("between 10-12", "12", ""),
    ("10–12", "12", "f"),
    ("10—12", "12", "f"),
    ("10 to 12", "12", "mf"),
    ("10 - 12", "12", "f"),
    ("5 -3", "3", ""),
    ("10%-12%", "12", ""),
    ("$10-$12", "12", ""),
    ("$10 - $12", "12", "mf"),
    ("10°-12°", "12", ""),
    ("2--5", "5", ""),
    # Nor is one after a letter, one that begins a list's item, or one that parts a sentence.
    ("x-5", "5", ""),
    ("COVID-19", "19", ""),
    ("up 5-fold", "5", "mf"),
    ("- 5 apples", "5", "mf"),
    ("the answer is—5", "5", "f"),
    # Every minus before a number alone is a sign, before its currency or behind it.
    ("−5", "-5", ""),
    ("-$5", "-5", "f"),
    ("$-5", "-5", "mf"),
    ("−$5.50", "-5.5", ""),
    ("a profit of –5", "-5", ""),
    ("is -3", "-3", "mf"),
    ("x = -3", "-3", "mf"),
    ("x=-3", "-3", "mf"),
    ("x = - 3", "-3", ""),
    ("(-3)", "-3", "f"),
    ("2 * -5", "-5", "f"),
    ("2 \\times -5", "-5", "mf"),
    ("**-42**", "-42", "mf"),
    ("\\(-5\\)", "-5", "mf"),
    ("$-5$", "-5", "mf"),
    ("-5°C", "-5", "mf"),
    ("-0", "0", "m"),
    # The last number counts, also after an equation.
    ("so 3 + 4 = 7 eggs", "7", "mf"),
    ("5 - 3 = 2", "2", "mf"),
    ("1/2 of 10 = 5", "5", "mf"),
    ("<<3+4=7>>7", "7", "mf"),
    ("she has 3 (three)", "3", "mf"),
    ("none", None, "m"),
    # A fraction is its quotient, a mixed number its sum.
    ("3/4", "0.75", "m"),
    ("-3/4", "-0.75", "m"),
    ("\\frac{3}{4}", "0.75", "m"),
    ("-\\frac{3}{4}", "-0.75", "m"),
    ("\\dfrac{-3}{4}", "-0.75", ""),
    ("\\frac34", "0.75", ""),
    ("2\\frac{1}{2}", "2.5", ""),
    ("2\\tfrac12", "2.5", ""),
    ("2 1/2", "2.5", ""),
    ("2 and 1/2", "2.5", ""),
    ("-2 1/2", "-2.5", ""),
    ("2½", "2.5", ""),
    ("½", "0.5", ""),
    ("¾ cup", "0.75", ""),
    ("180 / 4", "45", "m"),
    ("1/0", None, ""),
    # A point may lead, and one that ends a sentence is none of the number's.
    (".5", "0.5", "m"),
    (".5.", "0.5", "m"),
    ("$.50", "0.5", "m"),
    ("5.", "5", "mf"),
    ("3.14.", "3.14", "mf"),
    ("The answer is 7.0", "7", "m"),
    ("wait...5", "5", ""),
    ("Rs.500", "500", ""),
    ("costs $1.50.", "1.5", "m"),
    # Powers and powers of ten are worked out, exponents and indices are no numbers.
    ("1e5", "100000", ""),
    ("1E-3", "0.001", ""),
    ("1.5\\times10^3", "1500", ""),
    ("1.5 × 10³", "1500", ""),
    ("1.5 \\times 10^{-3}", "0.0015", ""),
    ("1.5x10^3", "1500", ""),
    ("10^3", "1000", "m"),
    ("2^5", "32", "m"),
    ("10³", "1000", ""),
    ("1.2 * 10**4", "12000", ""),
    ("2**10", "1024", ""),
    ("**2** of **10**", "10", "mf"),
    ("\\sqrt{16}", "4", ""),  # math-verify reads roots between dollars alone
    ("$\\sqrt{16}$", "4", "m"),
    ("3\\sqrt{25}", "15", ""),  # math-verify reads roots between dollars alone
    ("$3\\sqrt{25}$", "15", "m"),
    ("√9 / √4", "1.5", ""),
    ("\\frac{\\sqrt{9}}{2}", "1.5", ""),  # math-verify reads roots between dollars alone
    ("$\\frac{\\sqrt{9}}{2}$", "1.5", "m"),
    ("x^2", None, "m"),
    ("5 m²", "5", "mf"),
    ("5 cm^2", "5", "m"),
    ("x_1 = 7 and x_2", "7", "m"),
    # Digits inside names are no numbers, digits before letters are.
    ("H2O", None, "m"),
    ("5 g of H2O", "5", "m"),
    ("CO2 and B12", None, "m"),
    ("version v1.2", None, "m"),
    ("2.5kg", "2.5", "mf"),
    ("3rd", "3", "mf"),
    ("3x5", "5", "f"),
    ("3x + 5", "5", "mf"),
    ("\\approx5", "5", "f"),
    ("5°C", "5", "mf"),
    # Dates, clock times, ratios and versions are no single number.
    ("12/25/2023", None, ""),
    ("5 apples on 12/25/2023", "5", ""),
    ("2023-12-25", None, ""),
    ("25-12-2023", None, ""),
    ("at 3:45 pm", None, ""),
    ("5 apples at 3:45", "5", ""),
    ("3:4", None, ""),
    ("1.2.3", None, ""),
    # A percentage is its number, and currencies are left out.
    ("50%", "50", "mf"),
    ("50\\%", "50", "mf"),
    ("0.5\\%", "0.5", "mf"),
    ("€5", "5", "mf"),
    ("£1,000", "1000", "mf"),
    ("US$5", "5", "f"),
    ("USD 5", "5", "mf"),
    # What is marked as the answer counts: after ####, else in a box.
    ("x #### 5 not 6", "5", "s"),
    ("#### -5", "-5", "msf"),
    ("#### $1,234", "1234", "mf"),
    ("####5", "5", "f"),
    ("#### 3/4", "0.75", "m"),
    ("3 ####", "3", "mf"),
    ("#### Conclusion\nThe answer is 5 of 6", "6", "f"),
    ("\\boxed{42}", "42", "mf"),
    ("\\boxed{42} at step 3", "42", "m"),
    ("\\boxed{\\frac{1}{2}} of 8", "0.5", "m"),
    ("\\boxed{-5}", "-5", "mf"),
    ("**42**", "42", "mf"),
    # Other scripts write numbers too.
    ("答案是5", "5", "f"),
    ("４２", "42", ""),
    ("007", "7", "m"),
]


@pytest.mark.parametrize(("text", "number", "others"), CASES)
def test_the_number_that_a_text_comes_to(text: str, number: str | None, others: str) -> None:
    found = last_number(text)
    assert (None if found is None else f"{found:f}") == number


STRICT = r"#### (\-?[0-9\.\,]+)"
FLEXIBLE = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
IGNORED = (",", r"\$", "(?s).*#### ", r"\.$")


def by_filter(expression: str, text: str, place: int) -> str | None:
    """What a filter of lm-evaluation-harness finds, with what its task leaves out of a comparison."""
    found = [match if isinstance(match, str) else "".join(match) for match in re.findall(expression, text)]
    if not found:
        return None
    for ignored in IGNORED:
        found[place] = re.sub(ignored, "", found[place])
    return found[place]


@pytest.mark.parametrize(("text", "number", "others"), [case for case in CASES if set(case[2]) & set("sf")])
def test_the_filters_of_the_harness_agree_where_they_are_right(text: str, number: str, others: str) -> None:
    if "s" in others:
        assert by_filter(STRICT, text, 0) == number
    if "f" in others:
        assert by_filter(FLEXIBLE, text, -1) == number


@pytest.mark.real
def test_these_are_the_filters_of_the_harness() -> None:
    harness = pytest.importorskip("lm_eval")
    task = (Path(harness.__file__).parent / "tasks/gsm8k/gsm8k.yaml").read_text()
    for expression in (STRICT, FLEXIBLE):
        assert expression.replace("\\", "\\\\") in task


@pytest.mark.real
@pytest.mark.parametrize(("text", "number", "others"), [case for case in CASES if "m" in case[2] and case[1]])
def test_math_verify_agrees_where_it_is_right(text: str, number: str, others: str) -> None:
    verifier = pytest.importorskip("math_verify")
    assert verifier.verify(verifier.parse(f"${number}$"), verifier.parse(text))


amounts = st.integers(-(10**9), 10**9) | st.decimals(-(10**6), 10**6, places=3)


@given(
    amounts, st.sampled_from(["{}", "#### {}", "so **{}**.", r"\boxed{{{}}}", "= {} apples", "it is {}", "$x = {}$"])
)
def test_a_number_is_read_back_from_whatever_surrounds_it(number: int | Decimal, around: str) -> None:
    grouped = f"{number:,}"
    for text in (
        f"{number}",
        grouped,
        grouped.replace(",", "{,}"),
        grouped.replace(",", r"\,"),
        f"{number}".replace("-", "−"),
    ):
        assert last_number(around.format(text)) == Decimal(number)


@given(st.text(alphabet="0123456789.,-/^{}\\fracboxed#$ %eE:x×\n½²", max_size=60))
def test_any_text_gives_a_number_or_none(text: str) -> None:
    found = last_number(text)
    assert found is None or found.is_finite()


@pytest.mark.parametrize("text", ["9" * 10**5, "1," * 10**4, "(" * 10**4, "1/" * 10**4, "1 " * 10**4, "\\frac" * 10**4])
def test_a_long_text_is_read_at_once(text: str) -> None:
    last_number(text)


def test_answers_of_other_forms_are_graded_as_the_same_number() -> None:
    (problem,) = gsm8k([{"question": "?", "answer": "so 1200 + 34\n#### 1,234"}]).problems
    for text in (
        " 1234",
        " #### 1,234",
        r" \$1{,}234.",
        " **1234.0**",
        r" \boxed{1\,234}",
        " 2468/2",
        " 1.234e3",
        r" \sqrt{1522756}",
    ):
        assert problem.grade(text) == "1234"
    for text in (" 234", " -1234", " 1.234", " 1234 to 1235", r" \sqrt{1234}", " none"):
        assert problem.grade(text) is None
