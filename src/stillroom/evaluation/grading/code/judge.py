"""Runs model-written Python where it can harm nothing, and judges it where it can touch nothing.

The program runs in a jail (``jail``): no network, no process but its own, no file of the machine but a read-only
Python, no environment, one small scratch folder, limits on memory, processor time, files and output, and a wall clock.
The judge is another process: the jail is given expressions, never the right answers, and sends back texts that are read
as literals and compared outside. So a program cannot pass by leaving early, by printing what success looks like, by
patching the checker or by a value whose class says that it equals everything: it passes by giving the right values.
"""

from __future__ import annotations

import ast
import builtins
import functools
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from stillroom.cores import num_cores
from stillroom.evaluation.grading.code.jail import Isolation, Limits, Outcome, close_jails, require_sandbox, run_program
from stillroom.evaluation.grading.code.values import is_close, parse_python, read_value, value_of
from stillroom.types import UserError

__all__ = [
    "Check",
    "Isolation",
    "Limits",
    "Outcome",
    "close_jails",
    "gives_every_value",
    "parse_check",
    "passes_checks",
    "passes_each",
    "require_sandbox",
    "run_program",
]

_HOMES = {
    "collections": ("ChainMap", "Counter", "OrderedDict", "defaultdict", "deque", "UserDict", "UserList", "UserString"),
    "datetime": ("date", "datetime", "time", "timedelta"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "math": ("e", "inf", "nan", "pi", "sqrt"),
}
"""Names that tests use without importing them, since the programs that they test do."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_BUILTINS = frozenset(vars(builtins))


@dataclass(frozen=True)
class Check:
    """An expression over the names that a program defines, and the value that it must have.

    ``tolerance`` is (relative, absolute) for numbers that need only be close; ``identical`` asks for the same type too.
    """

    expression: str
    expected: Any
    tolerance: tuple[float, float] | None = None
    identical: bool = False

    def accepts(self, found: Any) -> bool:
        """Whether a value is right; values of the judge's own types only."""
        if self.tolerance is not None:
            return is_close(found, self.expected, *self.tolerance)
        if self.identical and found is self.expected:
            return True
        return bool(found == self.expected) and (not self.identical or type(found) is type(self.expected))


@dataclass(frozen=True)
class Setting:
    """What a test's author gives beside the program: code that comes before it, and code that comes after."""

    before: str = ""
    after: str = ""

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """What the code binds at its own level."""
        return frozenset(name for statement in self._body for name in _defined(statement)) | self.variables

    @functools.cached_property
    def variables(self) -> frozenset[str]:
        """Those of the names that are assigned, so that a program which is given their value may change it."""
        stored = (
            one.id
            for statement in self._body
            if not _defined(statement)
            for one in ast.walk(statement)
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        )
        return frozenset(stored)

    @functools.cached_property
    def _body(self) -> list[ast.stmt]:
        try:
            return [*parse_python(self.before).body, *parse_python(self.after).body]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []


def parse_check(assertion: str, setting: Setting | None = None) -> Check:
    """A check from an assert statement: ``f(..) == value``, ``is``, bare or ``not``, or ``math.isclose``.

    The value is a literal, or what a known call or any expression gives that needs no name of the program's: it is
    found without the program, in a jail of its own where it is no literal. Anything else is refused: a test whose
    expected value only the program's own process could tell might be told a lie.
    """
    setting = setting or Setting()
    try:
        (statement,) = parse_python(assertion.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(f"test {assertion!r}: is not one Python statement, expected an assert.") from None
    if not isinstance(statement, ast.Assert):
        raise UserError(f"test {assertion!r}: expected an assert statement.")
    check = _of_test(statement.test, setting)
    if check is None:
        raise UserError(f"test {assertion!r}: expected an assert that compares a call with a literal value.")
    return check


def _of_test(test: ast.expr, setting: Setting) -> Check | None:
    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is() as how], comparators=[right]):
            for said, known in _sides(left, right):
                if (expected := _expected(known, setting, ast.unparse(said))) is not None:
                    return Check(ast.unparse(said), expected[0], identical=isinstance(how, ast.Is))
        case ast.Call(func=function, args=[left, right], keywords=options) if _is_closeness(function):
            tolerance = _tolerance(options)
            for said, known in _sides(left, right):
                expected = _expected(known, setting, ast.unparse(said))
                if expected is not None and tolerance is not None:
                    return Check(ast.unparse(said), expected[0], tolerance)
        case ast.Call() if _is_closeness(test.func):
            return None
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return Check(f"bool({ast.unparse(operand)})", False)
        case ast.Call() | ast.Name():
            return Check(f"bool({ast.unparse(test)})", True)
    return None


def _is_closeness(function: ast.expr) -> bool:
    return ast.unparse(function) in ("math.isclose", "isclose")


def _sides(left: ast.expr, right: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """(what the program gives, what is known) as it may be: a literal is known before anything else is."""
    pairs = [(left, right), (right, left)]
    return sorted(pairs, key=lambda pair: _literal(pair[1]) is None)


def _tolerance(options: Sequence[ast.keyword]) -> tuple[float, float] | None:
    given = {option.arg: _literal(option.value) for option in options}
    if not given.keys() <= {"rel_tol", "abs_tol"} or None in given.values():
        return None
    closeness = {name: value[0] for name, value in given.items() if value is not None}
    return closeness.get("rel_tol", 1e-9), closeness.get("abs_tol", 0.0)


def _literal(node: ast.expr) -> tuple[Any] | None:
    """The value of a literal or known call in a one-tuple, or None where the expression is neither."""
    try:
        return (value_of(node),)
    except (ValueError, TypeError, MemoryError, RecursionError, ArithmeticError):
        return None


def _expected(node: ast.expr, setting: Setting, said: str) -> tuple[Any] | None:
    """The value of an expression that needs nothing of the program's, in a one-tuple; None where it needs some."""
    if (literal := _literal(node)) is not None:
        return literal
    names = _free(node)
    own = names & setting.names
    known = _BUILTINS | sys.stdlib_module_names | _HOME_OF.keys()
    if not names <= known | setting.names or own & setting.variables & _free(parse_python(said, "eval").body):
        return None
    imports = "\n".join(_import_of(name) for name in sorted(names - setting.names - _BUILTINS))
    outcome = run_program(
        "", [ast.unparse(node)], before=f"{imports}\n{setting.before}", after=setting.after if own else ""
    )
    try:
        return (read_value(outcome.values[0]),) if outcome.status == "ran" else None
    except ValueError:
        return None


def _import_of(name: str) -> str:
    return f"from {_HOME_OF[name]} import {name}" if name in _HOME_OF else f"import {name}"


def _free(node: ast.AST) -> set[str]:
    """Names that an expression reads and does not bind itself."""
    names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
    bound = {one.id for one in names if not isinstance(one.ctx, ast.Load)}
    bound |= {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
    return {one.id for one in names} - bound


def _defined(statement: ast.stmt) -> list[str]:
    """What a statement imports or defines."""
    match statement:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [(one.asname or one.name).partition(".")[0] for one in names]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
    return []


def passes_checks(
    program: str, checks: Sequence[Check], limits: Limits | None = None, *, settings: Sequence[Setting] = (Setting(),)
) -> bool:
    """Whether a program gives the right value to every check; False for whatever else it does.

    One of ``settings`` is enough: each is a run of its own.
    """
    asked = [check.expression for check in checks]
    return any(
        gives_every_value(run_program(program, asked, limits, before=one.before, after=one.after), checks)
        for one in settings
    )


def gives_every_value(outcome: Outcome, checks: Sequence[Check]) -> bool:
    """Whether a program ran to its end and gave the right value to every check; False where there is no check."""
    if not checks or outcome.status != "ran" or len(outcome.values) != len(checks):
        return False
    return all(_accepts(check, text) for check, text in zip(checks, outcome.values, strict=True))


def _accepts(check: Check, text: str) -> bool:
    try:
        return check.accepts(read_value(text))
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return False


def passes_each(
    programs: Iterable[tuple[str, Sequence[Check]]], limits: Limits | None = None, *, workers: int | None = None
) -> list[bool]:
    """``passes`` of many programs, several at a time, in order."""
    require_sandbox()
    with ThreadPoolExecutor(workers or num_cores()) as pool:
        return list(pool.map(lambda one: passes_checks(one[0], one[1], limits), programs))
