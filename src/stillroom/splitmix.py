"""SplitMix64 (Steele, Lea and Flood 2014): numbers that look random, each a function of its place alone.

Imports numpy only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEP = np.uint64(0x9E3779B97F4A7C15)
"""What lies between the states of one number and the next."""


def scattered(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser: a bijection of 64 bits that scatters nearby values; wraps, as a hash may."""
    bits = bits ^ (bits >> np.uint64(30))
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits
