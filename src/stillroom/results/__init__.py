"""What the files of runs say, as typed numbers; imports no torch, and what only reads needs no numpy.

``stillroom.results.worth`` computes data multipliers.
"""

from stillroom.results.schema import Worth

__all__ = ["Worth"]
