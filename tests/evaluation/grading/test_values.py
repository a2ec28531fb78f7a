"""Programs are judged as plain Python judges them, whatever kind of value they give, and lies are told apart."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.evaluation.grading.code import _served as _sandboxed
from stillroom.evaluation.grading.code.jail import why_not
from stillroom.evaluation.grading.code.judge import Setting, gives_every_value, parse_check, run_program
from stillroom.evaluation.grading.code.values import Symbol, read_value
from stillroom.evaluation.measuring.benchmarks import mbpp, passes_tests
from stillroom.types import UserError

needs_sandbox = pytest.mark.skipif(
    all(why_not(kind) for kind in ("bubblewrap", "namespaces")), reason="this machine has no sandbox"
)

GIVES = """
def f(*a):
    return {}
"""
VALUES = [
    # what a program gives, what the test asks for
    ("Counter([7, 7, 9])", "{7: 2, 9: 1}"),
    ("Counter([7, 7, 9])", "Counter({9: 1, 7: 2})"),
    ("Counter('aab')", "Counter('aba')"),
    ("Counter(a=1, b=0)", "Counter(a=1)"),
    ("Counter(a=1, b=0)", "{'a': 1}"),
    ("defaultdict(list, {'a': [1]})", "{'a': [1]}"),
    ("defaultdict(lambda: 0, b=2)", "dict(b=2)"),
    ("defaultdict(int, a=1)", "defaultdict(int, {'a': 1})"),
    ("OrderedDict([(1, 2), (3, 4)])", "{3: 4, 1: 2}"),
    ("OrderedDict([(1, 2), (3, 4)])", "OrderedDict([(3, 4), (1, 2)])"),
    ("OrderedDict([(1, 2), (3, 4)])", "OrderedDict([(1, 2), (3, 4)])"),
    ("Number.TWO", "2"),
    ("Number.TWO", "3"),
    ("Name.RED", "'red'"),
    ("Plain.A", "1"),
    ("Plain.A.value", "1"),
    ("Point(1, 2)", "(1, 2)"),
    ("[Point(1, 2)]", "[(1, 2)]"),
    ("Fraction(1, 2)", "0.5"),
    ("Fraction(4, 2)", "2"),
    ("Fraction(1, 3)", "Fraction(1, 3)"),
    ("Fraction(1, 3)", "Fraction('1/3')"),
    ("Fraction(1, 10)", "0.1"),
    ("Decimal('2.0')", "2"),
    ("Decimal('0.1')", "0.1"),
    ("Decimal('0.10')", "Decimal('0.1')"),
    ("{1: 2}.keys()", "{1}"),
    ("{1: 2}.keys()", "[1]"),
    ("{1: 2}.values()", "[2]"),
    ("{1: 2}.items()", "{(1, 2)}"),
    ("sorted({1: 2}.items())", "[(1, 2)]"),
    ("{1, 2}", "{2, 1}"),
    ("{1, 2}", "frozenset({1, 2})"),
    ("[frozenset({1}), set()]", "[{1}, set()]"),
    ("{frozenset({1}): set()}", "{frozenset([1]): set()}"),
    ("[1, 2]", "(1, 2)"),
    ("(x for x in [1])", "[1]"),
    ("map(int, '12')", "[1, 2]"),
    ("list(map(int, '12'))", "[1, 2]"),
    ("range(3)", "range(3)"),
    ("range(3)", "[0, 1, 2]"),
    ("range(3)", "list(range(3))"),
    ("deque([1, 2])", "deque([1, 2])"),
    ("deque([1, 2])", "[1, 2]"),
    ("complex(1, 2)", "1 + 2j"),
    ("complex(3, 0)", "3"),
    ("complex('inf')", "complex('inf')"),
    ("b'ab'", "b'ab'"),
    ("bytearray(b'ab')", "b'ab'"),
    ("memoryview(b'ab')", "b'ab'"),
    ("memoryview(array.array('i', [1]))", "array.array('i', [1])"),
    ("memoryview(array.array('i', [1]))", "b'\\x01\\0\\0\\0'"),
    ("slice(1, None, 2)", "slice(1, None, 2)"),
    ("[slice(1)]", "[slice(2)]"),
    ("'ab'", "b'ab'"),
    ("float('inf')", "float('inf')"),
    ("-float('inf')", "-math.inf"),
    ("float('nan')", "float('nan')"),
    ("math.nan", "math.nan"),
    ("[math.nan]", "[math.nan]"),
    ("[float('nan')]", "[math.nan]"),
    ("{1: (math.nan, -0.0)}", "{1: (math.nan, 0)}"),
    ("[1.5, -0.0]", "[1.5, 0]"),
    ("True", "1"),
    ("2 ** 70000", "2 ** 70000"),
    ("10 ** 20", "int('1' + '0' * 20)"),
    ("0.1 + 0.2", "0.1 + 0.2"),
    ("0.1 + 0.2", "0.3"),
    ("sys.getsizeof((1, 2))", "sys.getsizeof((3, 4))"),
    ("math.gcd(12, 18)", "math.gcd(6, 12)"),
    ("int", "int"),
    ("[int, str]", "[int, str]"),
    ("date(2024, 2, 29)", "date(2024, 2, 29)"),
    ("datetime(2024, 2, 29, 1)", "datetime(2024, 2, 29, 1)"),
    ("date(2024, 2, 29) - date(2024, 1, 1)", "timedelta(days=59)"),
    ("array.array('i', [1, 2])", "array.array('i', [1, 2])"),
    ("types.MappingProxyType({1: 2})", "{1: 2}"),
    ("UserDict(a=1)", "{'a': 1}"),
    ("UserList([1])", "[1]"),
    ("UserString('a')", "'a'"),
    ("ChainMap({'a': 1}, {'b': 2})", "{'a': 1, 'b': 2}"),
    ("ChainMap({'a': 1})", "ChainMap({'a': 1})"),
    ("UserDict(a=1)", "UserDict(a=2)"),
    ("Small(3)", "3"),
    ("Words('ab')", "'ab'"),
    ("Pile([1])", "[1]"),
    ("...", "..."),
    ("None", "None"),
    ("print", "None"),
    ("object()", "None"),
    ("'\\n\\t\\x00é😀'", "'\\n\\t\\x00é😀'"),
    ("[[[[1]]]] * 2", "[[[[1]]], [[[1]]]]"),
    ("sum(i for i in range(5))", "sum(i for i in range(5))"),
]
IMPORTS = """
import array, math, sys, types
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque, namedtuple
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
Point = namedtuple('Point', 'x y')
class Number(IntEnum): TWO = 2
class Name(str, Enum): RED = 'red'
class Plain(Enum): A = 1
class Small(int): pass
class Words(str): pass
class Pile(list): pass
"""


def plain(program: str, test: str, setup: str = "") -> bool:
    """What Python itself says of a program of ours and a test."""
    names: dict[str, object] = {}
    try:
        exec(f"{program}\n{setup}\n{test}", names)
    except Exception:
        return False
    return True


def judged(program: str, test: str, setup: str = "") -> bool:
    return passes_tests({"test_list": [test], "test_setup_code": setup})(program) is not None


@needs_sandbox
@pytest.mark.parametrize(("gives", "asked"), VALUES)
def test_a_value_is_judged_as_plain_python_judges_it(gives: str, asked: str) -> None:
    program = IMPORTS + GIVES.format(gives)
    for test in (f"assert f() == {asked}", f"assert {asked} == f()"):
        assert judged(program, test) == plain(program, test)


@needs_sandbox
@pytest.mark.parametrize("gives", ["None", "True", "1", "0", "[]", "''", "math.nan", "float('nan')"])
@pytest.mark.parametrize("asked", ["None", "True", "False", "math.nan"])
def test_identity_is_more_than_equality(gives: str, asked: str) -> None:
    program, test = f"import math\n{GIVES.format(gives)}", f"assert f() is {asked}"
    assert judged(program, test) == plain(program, test)


@needs_sandbox
@pytest.mark.parametrize(
    ("gives", "asked", "options"),
    [
        ("Fraction(3, 2)", "1.5", ""),
        ("Decimal('1.51')", "1.5", ", rel_tol=0.01"),
        ("1.6", "1.5", ", rel_tol=0.01"),
        ("'1.5'", "1.5", ""),
        ("float('inf')", "math.inf", ""),
        ("3.14159", "math.pi", ", abs_tol=1e-4"),
    ],
)
def test_closeness_is_of_any_real_numbers(gives: str, asked: str, options: str) -> None:
    program, test = IMPORTS + GIVES.format(gives), f"assert math.isclose(f(), {asked}{options})"
    assert judged(program, test) == plain(program, test)


LEAF = "class Leaf:\n    def __init__(self, v):\n        self.v = v\ndef f(t):\n    return t.v\n"
SETUPS = [
    # program, set-up code, test, right
    (LEAF, "tree = Leaf(4)", "assert f(tree) == 4", True),
    (LEAF, "tree = Leaf(4)", "assert f(tree) == 5", False),
    ("def f(x): return x + K", "K = 2", "assert f(1) == 3", True),
    ("LIMIT = K * 2\ndef f(x): return x + LIMIT", "K = 2", "assert f(1) == 5", True),
    ("@twice\ndef f(x): return x", "def twice(g): return lambda x: 2 * g(x)", "assert f(3) == 6", True),
    ("class B(A): n = 3\ndef f(): return B().m()", "class A:\n    def m(s): return s.n", "assert f() == 3", True),
    ("ROOT = math.sqrt(4)\n" + LEAF, "import math\ntree = Leaf(4)", "assert f(tree) == 4", True),
    ("def f(x): return x", "def f(x): pass", "assert f(3) == 3", True),
    ("def f(x): return x", "import math", "assert f(math.pi) == math.pi", True),
    ("def f(x): return x", "broken =", "assert f(3) == 3", False),
    ("def f(x): return x", "raise ValueError", "assert f(3) == 3", False),
    ("def f(p): return p", "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int",
     "assert f(P(1)) == P(1)", True),
    ("def f(p): return P(2)", "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int",
     "assert f(0) == P(1)", False),
    ("def f(): return Color.RED", "from enum import Enum\nclass Color(Enum):\n    RED = 1\n    BLUE = 2",
     "assert f() == Color.RED", True),
    ("def f(): return Color.RED", "from enum import Enum\nclass Color(Enum):\n    RED = 1\n    BLUE = 2",
     "assert f() == Color.BLUE", False),
    ("from __future__ import annotations\ndef f(x: Nothing): return x", "y = 3", "assert f(y) == 3", True),
]  # fmt: skip


@needs_sandbox
@pytest.mark.parametrize(("program", "setup", "test", "right"), SETUPS)
def test_set_up_code_may_need_the_program_and_the_program_may_need_it(
    program: str, setup: str, test: str, right: bool
) -> None:
    assert judged(program, test, setup) == right


@needs_sandbox
@pytest.mark.parametrize(("test", "right"), [
    ("assert f(1) == 1\nassert f(2) == 2", True),
    ("assert f(1) == 1; assert f(2) == 3", False),
    ("# twice\nassert f(1) == 1\n\nassert not f(0)", True),
])  # fmt: skip
def test_a_test_may_be_several_asserts(test: str, right: bool) -> None:
    assert judged("def f(x): return x", test) == right


@needs_sandbox
def test_imports_of_a_test_come_before_everything() -> None:
    record = {"test_list": ["assert f(4) == math.sqrt(4)"], "test_imports": ["import math"]}
    assert passes_tests(record)("ROOT = math.sqrt(16)\ndef f(x): return ROOT / 2") is not None


@pytest.mark.parametrize(
    "test",
    [
        "assert f() == g()",
        "assert f() == Unknown(1)",
        "assert f(tree) == tree",
        "assert f() == [g() for _ in range(2)]",
        "assert f() != 3",
        "assert f() < 3",
        "assert math.isclose(f(), g())",
        "assert math.isclose(f(), 1, slack=2)",
        "assert f() == 1 == 1",
        "assert (",
        "assert " + "(" * 300 + "f()" + ")" * 300,
    ],
)
def test_what_only_the_program_could_tell_is_refused(test: str) -> None:
    with pytest.raises(UserError, match="test "):
        parse_check(test, Setting(after="tree = f(1)"))


@needs_sandbox
def test_an_expected_value_that_needs_the_program_is_refused_and_counted() -> None:
    cheat = {"text": "t", "test_list": ["assert f() == tree"], "test_setup_code": "tree = g()"}
    honest = {"text": "t", "test_list": ["assert f() == 1"]}
    assert mbpp([cheat, honest]).skipped == 1


LIES = {
    "equals everything": "class A:\n    def __eq__(self, o): return True\n    __hash__ = None\ndef f(): return A()",
    "number that equals": "class A(int):\n    __eq__ = lambda s, o: True\n    __hash__ = None\ndef f(): return A(1)",
    "text that says": "class A(str):\n    def __repr__(self): return '6765'\ndef f(): return A('x')",
    "number that says": "class A(int):\n    __repr__ = lambda s: '6765'\n    __index__ = __int__ = lambda s: 6765\n"
    "def f(): return A(1)",
    "float that says": "class A(float):\n    def __repr__(self): return '6765.0'\ndef f(): return A(1)",
    "list that equals": "class A(list):\n    __eq__ = lambda s, o: True\n    __repr__ = lambda s: '6765'\n"
    "def f(): return A()",
    "class that claims to be int": "class A:\n    __class__ = int\n    def __repr__(self): return '6765'\n"
    "def f(): return A()",
    "class whose class lies": "class M(type):\n    def __subclasscheck__(c, o): return True\n"
    "    def __instancecheck__(c, o): return True\n    __eq__ = lambda s, o: True\n    __hash__ = type.__hash__\n"
    "class A(metaclass=M): pass\ndef f(): return A()",
    "fraction that equals": "from fractions import Fraction\nclass A(Fraction):\n    __eq__ = lambda s, o: True\n"
    "    __hash__ = None\ndef f(): return A(1, 3)",
    "decimal that equals": "from decimal import Decimal\nclass A(Decimal):\n    __eq__ = lambda s, o: True\n"
    "    __hash__ = None\n    __str__ = lambda s: '6764'\ndef f(): return A(1)",
    "signalling nan": "from decimal import Decimal\ndef f(): return Decimal('sNaN')",
    "member that equals": "from enum import Enum\nclass A(Enum):\n    X = 1\n    __eq__ = lambda s, o: True\n"
    "    __hash__ = None\ndef f(): return A.X",
    "generator of answers": "def f(): yield from range(7000)",
    "range of answers": "def f(): return range(7000)",
    "counter that equals": "from collections import Counter\nclass A(Counter):\n    __eq__ = lambda s, o: True\n"
    "    __hash__ = None\ndef f(): return A()",
    "without an end": "x = []\nx.append(x)\ndef f(): return x",
    "nested too deep": "x = []\nfor _ in range(10 ** 5): x = [x]\ndef f(): return x",
    "patched bool": "import builtins\nbuiltins.bool = bool = lambda x: 6765\ndef f(): return 0",
    "set-up that asserts": "raise SystemExit",
}


@needs_sandbox
@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("asked", ["6765", "[6765]", "{6765: 1}", "6765.5"])
def test_a_value_is_what_it_holds_and_not_what_its_class_says(name: str, asked: str) -> None:
    assert not judged(LIES[name], f"assert f() == {asked}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "print(6765)",
        "__import__('os').getpid()",
        "list(range(10 ** 12))",
        "tuple(range(1000000000000))",
        "Counter(range(1000000000000))",
        "deque(range(1000000000000))",
        "bytearray(1000000000000)",
        "bytes(1000000000000)",
        "Fraction('1e999999999')",
        "Fraction(1, 0)",
        "timedelta(days=1000000000000)",
        "'a' * 1000000000000",
        "2 ** 1000000000000",
        "{[]: 1}",
        "{**{1: 2}}",
        "list(*[[1]])",
        "dict(**{'a': 1})",
        "set([[]])",
        "datetime.os.getpid()",
        "(1).__class__",
        "f'{1}'",
        "lambda: 1",
        "-'a'",
        "1 + 1",
        "1j + 1",
        "(" * 50000,
        "-" * 60000 + "1",
        "[" * 90 + "]" * 90 + "]",
        "9" * 5000,
    ],
)
def test_a_text_that_tells_no_value_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError):
        read_value(text)


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.lists(st.integers()).map(deque)
    | st.text().map(Counter)
    | st.frozensets(st.integers() | st.text() | st.frozensets(st.integers())),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)


@given(plain_values)
@settings(max_examples=150, deadline=None)
def test_what_is_written_in_the_jail_is_read_outside(value: object) -> None:
    assert read_value(_sandboxed._text(value)) == value


def test_kinds_survive_the_journey() -> None:
    for value in (
        OrderedDict(a=1),
        Counter(a=0),
        deque([1]),
        Fraction(1, 3),
        Decimal("1.50"),
        range(2),
        bytearray(b"x"),
    ):
        assert type(read_value(_sandboxed._text(value))) is type(value)
    assert read_value(_sandboxed._text(int)) == Symbol("type", "builtins", "int")
    assert math.isnan(read_value(_sandboxed._text(math.nan)))


@needs_sandbox
def test_every_value_is_judged_and_the_program_keeps_its_state_between_tests() -> None:
    checks = [parse_check(f"assert f() == {n}") for n in (1, 2, 3)]
    program = "n = 0\ndef f():\n    global n\n    n += 1\n    return n"
    assert gives_every_value(run_program(program, [check.expression for check in checks]), checks)
