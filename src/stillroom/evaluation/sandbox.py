"""Runs model-written Python where it can harm nothing, and judges it where it can touch nothing.

The program runs in a jail (``jail``): no network, no process but its own, no file of the machine but a read-only
Python, no environment, one small scratch folder, limits on memory, processor time, files and output, and a wall clock.
The judge is another process: the jail is given expressions, never the right answers, and sends back texts that are read
as literals and compared outside. So a program cannot pass by leaving early, by printing what success looks like, or by
patching the checker: it passes by giving the right values.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from stillroom.evaluation.jail import Isolation, Limits, Outcome, close_jails, require_sandbox, run_program
from stillroom.types import UserError

__all__ = [
    "Check",
    "Isolation",
    "Limits",
    "Outcome",
    "close_jails",
    "is_right",
    "parse_check",
    "passes",
    "passes_each",
    "require_sandbox",
    "run_program",
]

_CONTAINERS = {"set": set, "frozenset": frozenset, "tuple": tuple, "list": list, "dict": dict}


@dataclass(frozen=True)
class Check:
    """An expression over the names that a program defines, and the value that it must have.

    ``tolerance`` is (relative, absolute) for numbers that need only be close.
    """

    expression: str
    expected: Any
    tolerance: tuple[float, float] | None = None

    def accepts(self, found: Any) -> bool:
        """Whether a value is right; values of the judge's own built-in types only."""
        if self.tolerance is None:
            return bool(found == self.expected)
        if not isinstance(found, int | float):
            return False
        return math.isclose(found, self.expected, rel_tol=self.tolerance[0], abs_tol=self.tolerance[1])


def parse_check(assertion: str) -> Check:
    """A check from an assert statement: ``f(..) == literal``, ``is``, bare or ``not``, or ``math.isclose``.

    The right side must be a literal, or a set, tuple, list, frozenset or dict call of one. Anything else is refused:
    a test whose expected value only the program's own process could tell might be told a lie.
    """
    try:
        (statement,) = ast.parse(assertion.strip()).body
    except (SyntaxError, ValueError):
        raise UserError(f"test {assertion!r}: is not one Python statement, expected an assert.") from None
    if not isinstance(statement, ast.Assert):
        raise UserError(f"test {assertion!r}: expected an assert statement.")
    test = statement.test
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
        for said, known in ((test.left, test.comparators[0]), (test.comparators[0], test.left)):
            if (expected := _literal(known)) is not None:
                return Check(ast.unparse(said), expected[0])
    elif isinstance(test, ast.Call) and ast.unparse(test.func) in ("math.isclose", "isclose"):
        options = {keyword.arg: _literal(keyword.value) for keyword in test.keywords}
        expected = _literal(test.args[1]) if len(test.args) == 2 else None
        if expected is not None and all(value is not None for value in options.values()):
            closeness = {name: value[0] for name, value in options.items() if value is not None}
            tolerance = (closeness.get("rel_tol", 1e-9), closeness.get("abs_tol", 0.0))
            return Check(ast.unparse(test.args[0]), expected[0], tolerance)
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return Check(f"bool({ast.unparse(test.operand)})", False)
    elif isinstance(test, ast.Call | ast.Name):
        return Check(f"bool({ast.unparse(test)})", True)
    raise UserError(f"test {assertion!r}: expected an assert that compares a call with a literal value.")


def _literal(node: ast.expr) -> tuple[Any] | None:
    """The value of a literal in a one-tuple, or None where the expression is no literal."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        kind = _CONTAINERS.get(node.func.id)
        inner = [_literal(argument) for argument in node.args]
        if kind is None or len(inner) > 1 or None in inner:
            return None
        try:
            return (kind(*(value[0] for value in inner if value is not None)),)
        except (TypeError, ValueError):
            return None
    try:
        return (ast.literal_eval(node),)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return None


def passes(program: str, checks: Sequence[Check], limits: Limits | None = None) -> bool:
    """Whether a program gives the right value to every check; False for whatever else it does."""
    return is_right(run_program(program, [check.expression for check in checks], limits), checks)


def is_right(outcome: Outcome, checks: Sequence[Check]) -> bool:
    """Whether a program ran to its end and gave the right value to every check; False where there is no check."""
    if not checks or outcome.status != "ran" or len(outcome.values) != len(checks):
        return False
    return all(_accepts(check, text) for check, text in zip(checks, outcome.values, strict=True))


def _accepts(check: Check, text: str) -> bool:
    try:
        found = _literal(ast.parse(text, mode="eval").body)
        return found is not None and check.accepts(found[0])
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError, OverflowError):
        return False


def passes_each(
    programs: Iterable[tuple[str, Sequence[Check]]], limits: Limits | None = None, *, workers: int | None = None
) -> list[bool]:
    """``passes`` of many programs, several at a time, in order."""
    require_sandbox()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(lambda one: passes(one[0], one[1], limits), programs))
