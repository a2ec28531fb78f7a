"""How a run ends before its last step."""

from __future__ import annotations

from stillroom.types import UserError


class Interrupted(Exception):
    """The run was asked to stop; its state is saved."""


class DivergedError(UserError):
    """A loss or gradient that is not finite; the message names the step and its sequences, and the state is saved."""
