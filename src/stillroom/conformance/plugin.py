"""The pytest plugin: ``pytest --distillation-adapter my_package:adapter`` adds a test for each property.

pytest loads this file in every run of an environment that has stillroom, so it imports nothing else until it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stillroom.conformance.adapter import Adapter

OPTION = "--distillation-adapter"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the option."""
    group = parser.getgroup("distillation", "distillation conformance (stillroom)")
    group.addoption(OPTION, metavar="MODULE:NAME", help="check that this adapter's loss or trainer distils rightly")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Adds the properties behind whatever tests were collected."""
    place = config.getoption(OPTION)
    if place is None:
        return
    from stillroom.conformance.adapter import load_adapter
    from stillroom.conformance.properties import PROPERTIES
    from stillroom.types import UserError

    try:
        adapter = load_adapter(place)
    except UserError as error:
        raise pytest.UsageError(str(error)) from error
    for name in PROPERTIES:
        items.append(PropertyItem.from_parent(session, name=name, nodeid=f"{place}::{name}", adapter=adapter))


class PropertyItem(pytest.Item):
    """One property of one adapter."""

    def __init__(self, *, adapter: Adapter, **of_item: object) -> None:
        super().__init__(**of_item)  # type: ignore[arg-type]
        self.adapter = adapter

    def runtest(self) -> None:
        """Passes where the property holds, and is skipped where it is not declared."""
        from stillroom.conformance.properties import prove
        from stillroom.conformance.told import NotDeclared

        try:
            prove(self.adapter, self.name)
        except NotDeclared as missing:
            pytest.skip(f"not declared: {missing}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The sentence alone, and why the property must hold."""
        from stillroom.conformance.properties import why
        from stillroom.conformance.told import Broken

        if isinstance(excinfo.value, Broken):
            return f"{excinfo.value}\n{why(self.name)}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[str, None, str]:
        """How the property is called in reports."""
        return self.adapter.place or "", None, f"distillation {self.name}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says what was not declared, so that silence does not pass for success."""
    skipped = [one for one in terminalreporter.stats.get("skipped", []) if "not declared: " in str(one.longrepr)]
    if config.getoption(OPTION) is None or not skipped:
        return
    terminalreporter.section("not declared by the adapter")
    for report in skipped:
        terminalreporter.line(
            f"{report.nodeid.rpartition('::')[2]}: {report.longrepr[2].partition('not declared: ')[2]}"
        )
