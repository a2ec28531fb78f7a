"""Packages whose names are imported on demand: every listed name is there, and none is hidden by a module."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook

from stillroom.on_demand import names_of

PACKAGES = [
    f"stillroom.{room}"
    for room in ("conformance", "corpora", "evaluation", "labels", "models", "objectives", "training")
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_none_is_that_of_a_module(package: str) -> None:
    module = importlib.import_module(package)
    modules = {info.name for info in pkgutil.iter_modules(module.__path__)}
    assert not modules & set(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_names_are_found_through_the_loader_of_packages_that_bring_a_plugin_of_pytest(monkeypatch) -> None:
    module = importlib.import_module("stillroom.conformance")
    loader = AssertionRewritingHook.__new__(AssertionRewritingHook)
    spec = ModuleSpec(module.__name__, loader, origin=module.__file__)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert names_of("stillroom.conformance")("Adapter") is module.Adapter


def test_configurations_are_read_without_torch() -> None:
    code = "import stillroom.config, sys; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
