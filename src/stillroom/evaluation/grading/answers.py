"""The number that a text comes to: what a reader of English prose, LaTeX and Markdown would take for its last one.

Imports nothing of stillroom.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext

_CURRENCY = "$€£¥₹￡￥"
_SIGNS = str.maketrans(
    {
        **{chr(0xFF01 + place): chr(0x21 + place) for place in range(94)},  # the wide forms of ASCII
        **dict.fromkeys("\u2212\ufe63\u2010\u2011\u2012\u2013", "-"),  # minus signs, hyphens, the en dash
        **dict.fromkeys("\u2014\u2015", ","),  # the em dash parts sentences
        **dict.fromkeys("\u2044\u2215", "/"),
        **dict.fromkeys("\u00d7\u22c5\u00b7", "×"),
        "\u221a": "\\sqrt ",
    }
)
_SPACES = "\u2004-\u200a\u202f\u205f\u00a0"
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_GROUPS = re.compile(rf"(?<![\d.,])\d{{1,3}}(?:(?:\{{,\}}|\{{\\,\}}|,?\\[,!;: ]|~|[{_SPACES}'\u2019_])\d{{3}})+(?!\d)")
_SPACED = re.compile(r"(?<![\d.,/] )(?<![\d.,/])[1-9]\d{0,2}(?: \d{3})+(?! ?[\d/])")
_LATEX = (
    (re.compile(r"\{\.\}|(?<=\d)\{,\}(?=\d)"), "."),
    (re.compile(r"(?<=\d) ?\*\* ?(?=-?\d+(?![\d*]))"), "^"),
    (re.compile(r"\\sqrt\s*(?:\{\s*(\d+(?:\.\d+)?)\s*\}|(\d+(?:\.\d+)?))"), r"√\1\2"),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "×"),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"(\d)\s*\\[dtc]?frac\s*(?=[\d{])"), r"\1 \\frac"),
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r"\1/\2"),
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*(\d)"), r"\1/\2"),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\(?:[A-Za-z]+|.)"), " "),
)
_AMOUNT = (
    r"(?:\d{1,3}(?:,\d{3})+(?!,?\d)(?:\.\d+)?"  # 1,234.5
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?!,?\d)(?:\.\d+)?"  # 12,34,567
    r"|\d{1,3}(?:\.\d{3})+,\d{1,3}(?![.,]?\d)"  # 1.234,56
    r"|\d{1,3}(?:\.\d{3}){2,}(?![.,]?\d)"  # 1.234.567
    r"|√?\d+(?:\.\d+)?"
    r"|(?<![\d.A-Za-z])\.\d+)"
)
_POWER = r"\^\{?(?P<power>-?\d{1,3})(?!\d)\}?"
_TENS = _POWER.replace("power", "tens")
_TOKEN = re.compile(
    r"(?P<other>\d{1,2}/\d{1,2}/\d{2,4}(?!\d)|\d{4}[/-]\d{1,2}[/-]\d{1,2}(?!\d)"  # dates
    r"|\d{1,2}-\d{1,2}-(?:19|20)\d\d(?!\d)|\d+(?:\s?:\d+)+"  # dates, ratios
    r"|(?<![A-Za-z0-9])[A-Za-z]+\d[A-Za-z0-9]*(?:\.\d+)*|(?:[A-Za-z0-9)}]_|\^)\{?-?\d+)"  # names, indices and exponents
    rf"|(?P<whole>(?<![\d.,])\d{{1,3}})(?:\s+|\s+and\s+)(?P<part>\d+/[1-9]\d*)(?![\d/])"
    rf"|(?P<top>{_AMOUNT})\s*/\s*(?P<bottom>-?{_AMOUNT})(?!/\d)"
    rf"|(?P<mantissa>{_AMOUNT})(?:\s*[×xX*]\s*10{_TENS}|[eE](?P<shift>[+-]?\d{{1,3}})(?![A-Za-z\d]))"
    r"|(?P<factor>\d+(?:\.\d+)?)\s*(?P<root>√\d+(?:\.\d+)?)"
    rf"|(?P<base>{_AMOUNT}){_POWER}"
    r"|(?P<version>(?!\d{1,3}(?:\.\d{3}){2,}(?![.,]?\d))\d+(?:\.\d+){2,})"
    rf"|(?P<plain>{_AMOUNT})"
)
_GROUPED_BY_POINTS = re.compile(r"\d{1,3}(?:\.\d{3})+,\d{1,3}|\d{1,3}(?:\.\d{3}){2,}")
_MOST_DIGITS = 1000
_BEFORE = 40
"""Characters that may lie between a number, its sign and what stands before the sign."""


def last_number(text: str) -> Decimal | None:
    r"""The number right after the last ``####``, else that of the last ``\boxed``, else the last one of the text.

    None where there is none. Thousands may be grouped, fractions and mixed numbers are their quotient, a percentage is
    its number, and a dash between two numbers is no sign. Dates, clock times, ratios, versions, indices, exponents and
    digits inside names are no numbers.
    """
    plain = _plain(text)
    for place in reversed([found.end() for found in re.finditer("####", plain)]):
        if (found := next(_numbers(plain[place:]), None)) and not re.search("[A-Za-z]", plain[place:][: found[0]]):
            return found[1]
    for boxed in reversed(plain.split("\0")[1:]):
        if found := list(_numbers(_balanced(boxed))):
            return found[-1][1]
    found = list(_numbers(plain))
    return found[-1][1] if found else None


def _plain(text: str) -> str:
    """The text with one spelling for every sign, group, power and fraction; a box begins with a zero byte."""
    text = text.replace("\0", " ").translate(_SIGNS)
    text = re.sub(r"\\(?:boxed|fbox)\s*(?=\{)", "\0", text)
    text = re.sub("[⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: f"^{{{found[0].translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub("[\u00bc-\u00be\u2150-\u215e]", _spelt_fraction, text)
    text = _GROUPS.sub(lambda found: re.sub(r"\D", "", found[0]), text)
    text = _SPACED.sub(_joined, text)
    for looked_for, instead in _LATEX:
        text = looked_for.sub(instead, text)
    return text


def _spelt_fraction(found: re.Match[str]) -> str:
    spelt = unicodedata.normalize("NFKC", found[0]).translate(_SIGNS)
    return f" {spelt}" if found.start() and found.string[found.start() - 1].isdigit() else spelt


def _joined(found: re.Match[str]) -> str:
    """``10 000`` and ``1 234 567`` are one number; ``2 100`` may be two."""
    groups = found[0].split(" ")
    return "".join(groups) if len(groups) > 2 or groups[1].startswith("0") else found[0]


def _balanced(text: str) -> str:
    """What the braces hold with which a text begins."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if not depth:
            return text[1:place]
    return text[1:]


def _numbers(text: str) -> Iterator[tuple[int, Decimal]]:
    """Every number of a plain text, in order, and where it begins."""
    for found in _TOKEN.finditer(text):
        if (value := _value(found)) is not None:
            yield found.start(), (-value if _is_negative(text, found.start()) else value)


def _value(found: re.Match[str]) -> Decimal | None:
    if found["other"] or found["version"] or len(found[0]) > _MOST_DIGITS:
        return None
    with localcontext(Context(prec=_MOST_DIGITS + 100, Emax=10**6, Emin=-(10**6))):
        try:
            return _computed(found)
        except (InvalidOperation, DivisionByZero, Overflow):
            return None


def _computed(found: re.Match[str]) -> Decimal:
    if found["whole"]:
        return _plainly(Decimal(found["whole"]) + _quotient(*found["part"].split("/")))
    if found["top"]:
        return _plainly(_quotient(found["top"], found["bottom"]))
    if found["mantissa"]:
        return _plainly(_decimal(found["mantissa"]).scaleb(int(found["tens"] or found["shift"])))
    if found["factor"]:
        return _plainly(_decimal(found["factor"]) * _decimal(found["root"]))
    if found["base"]:
        return _plainly(_decimal(found["base"]) ** int(found["power"]))
    return _plainly(_decimal(found["plain"]))


def _plainly(number: Decimal) -> Decimal:
    """The number without trailing zeros behind its point, and without an exponent."""
    short = number.normalize()
    return short.quantize(Decimal(1)) if short == short.to_integral_value() else short


def _quotient(top: str, bottom: str) -> Decimal:
    return Context(prec=28).divide(_decimal(top), _decimal(bottom))


def _decimal(text: str) -> Decimal:
    if text.startswith("√"):
        return Context(prec=28).sqrt(Decimal(text[1:]))
    if _GROUPED_BY_POINTS.fullmatch(text):
        return Decimal(text.replace(".", "").replace(",", "."))
    return Decimal(text.replace(",", ""))


def _is_negative(text: str, start: int) -> bool:
    """Whether a minus stands before the number that begins at ``start``, and nothing that it would be taken from."""
    before = text[max(0, start - _BEFORE) : start].rstrip(_CURRENCY)
    spaced = re.search(r"[=({\[,:×*/<>≈]\s*-\s+$", before)
    if not before.endswith("-"):
        return spaced is not None
    head = before[:-1]
    if re.search(r"[\w%°)\]}-]$", head):
        return False
    return re.search(r"[\d%°](?:[ \t$`]|\*\*)*$", head) is None
