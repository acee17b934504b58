"""From a number on the whole real line to a value in a range, and back.

A smooth, strictly rising map with slope 1 in the middle of the range. Values are not folded or clipped: both would
give a searcher two directions that look alike.
"""

import math

EDGE = 0.005
DIGITS = 6
"""Decimals of a value, so that the YAML says exactly what was merged."""


def squash(position: float, low: float, high: float) -> float:
    """The value in (low, high) at a position on the real line; slope (high - low) at 0.5, the middle."""
    return low + (high - low) * (0.5 + 0.5 * math.tanh(2 * (position - 0.5)))


def unsquash(value: float, low: float, high: float) -> float:
    """The position of a value: the inverse of `squash`. An edge, which lies at infinity, is taken .5% inside."""
    share = min(max((value - low) / (high - low), EDGE), 1 - EDGE)
    return 0.5 + 0.5 * math.atanh(2 * share - 1)
