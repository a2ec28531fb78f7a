"""The base of what the report reads from JSON."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from stillroom import types


def _with_nan(value: Any) -> Any:
    """A JSON object whose nulls are numbers again: nan, which figures and tables show as missing."""
    if not isinstance(value, dict):
        return value
    return {name: math.nan if number is None else number for name, number in value.items()}


Estimate = Annotated[types.Estimate, BeforeValidator(_with_nan)]
"""An estimate as JSON holds it: null where there is no number."""


class Record(BaseModel):
    """A frozen part of a JSON file; keys that the report does not show are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")
