"""The base of what the report reads from JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen part of a JSON file; keys that the report does not show are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")
