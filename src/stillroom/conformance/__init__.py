"""Proves that a loss or a trainer distils rightly: ``pytest --distillation-adapter my_package:adapter``.

An ``Adapter`` says what somebody's code can do and how it is called; a property is one thing that must then hold. What
an adapter does not declare is told as not declared, and never as held.

    from stillroom.conformance import prove

    prove("my_package:adapter", "temperature")  # raises Broken, with one sentence
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.on_demand import names_of

if TYPE_CHECKING:
    from stillroom.conformance.adapter import Adapter, LossCase, TrainingTask, load_adapter
    from stillroom.conformance.properties import PROPERTIES, Verdict, all_verdicts, prove, verdict
    from stillroom.conformance.told import Broken, NotDeclared

__all__ = [
    "PROPERTIES",
    "Adapter",
    "Broken",
    "LossCase",
    "NotDeclared",
    "TrainingTask",
    "Verdict",
    "all_verdicts",
    "load_adapter",
    "prove",
    "verdict",
]

__getattr__ = names_of(__name__)
