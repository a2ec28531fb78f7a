"""Parts that are chosen by name: one file each, here or in another package.

A part of this package is found by its file's name (``facts_world.py`` is the world ``facts``), so that names are known
without importing anything; another package gives one by an entry point, and a script by ``register``.
"""

from __future__ import annotations

import importlib
import sys
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from stillroom.types import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """Things of one kind by name.

    The file ``NAME_SUFFIX.py`` of a package holds the one called ``NAME`` (hyphens for underscores) as its ``SUFFIX``.
    """

    def __init__(self, package: str, folder: Path, suffix: str, group: str) -> None:
        self._package, self._folder, self._suffix, self._group = package, folder, suffix, group
        self._registered: dict[str, T] = {}

    def register(self, name: str, thing: T) -> None:
        """Lets configurations choose ``thing`` by ``name``, in this process."""
        self._registered[name] = thing

    def names(self) -> list[str]:
        """Every name that ``find`` knows, sorted."""
        return sorted({*self._registered, *self._own, *self._entries()})

    def checked(self, name: str) -> str:
        """The name itself; a ``ValueError`` where it is none, for a field of a configuration."""
        if name not in self.names():
            raise ValueError(f"expected one of {', '.join(self.names())}")
        return name

    def find(self, name: str) -> T:
        """The thing of a name, imported when first asked for; a ``UserError`` lists the names that there are."""
        if name not in self._registered:
            own = self._own
            if name in own:
                self._registered[name] = getattr(importlib.import_module(own[name]), self._suffix.upper())
            elif entry := self._entries().get(name):
                self._registered[name] = load_entry(entry)
            else:
                raise UserError(f"{self._suffix} {name!r}: is not one; expected one of {', '.join(self.names())}.")
        return self._registered[name]

    @cached_property
    def _own(self) -> dict[str, str]:
        """The module of every part of this package."""
        ending = f"_{self._suffix}"
        stems = [file.stem for file in self._folder.glob(f"[a-z]*{ending}.py")]
        return {stem.removesuffix(ending).replace("_", "-"): f"{self._package}.{stem}" for stem in stems}

    def _entries(self) -> dict[str, EntryPoint]:
        return entries_of(self._group)


def entries_of(group: str) -> dict[str, EntryPoint]:
    """What other packages name under an entry point, by name, sorted; nothing of it is imported."""
    return _entry_points(group, tuple(sys.path))


@lru_cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Those of the packages on the path: reading every package's list is slow, so it is done once."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


def load_entry(entry: EntryPoint) -> Any:
    """What another package names; whatever its code raises becomes a ``UserError`` that names it."""
    try:
        return entry.load()
    except Exception as error:
        raise UserError(
            f"{entry.group}: {entry.name!r} ({entry.value}) could not be loaded ({type(error).__name__}: {error}); "
            "mend or remove the package that names it."
        ) from error
