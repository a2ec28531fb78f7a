"""What the files of runs say, as typed numbers; imports no torch."""

from stillroom.results.worth import Formation, Measured, Worth, formation, worth

__all__ = ["Formation", "Measured", "Worth", "formation", "worth"]
