"""Where a tensor's largest magnitudes end, in tensors too large to order: exactly, by block, in bounded memory."""

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .method import KEPT as KEPT

Magnitudes = NDArray[np.float32]
Masks = NDArray[np.bool_]

_MARGIN = 0.015


@dataclass(frozen=True)
class Cut:
    """What is among the largest magnitudes of a tensor: those above `threshold`, and the first of those equal to it.

    Of the equal ones all that lie before block `block` are, the first `ties` within it, and none behind.
    """

    threshold: float
    block: int = 0
    ties: int = 0


NOTHING = Cut(math.inf)
"""None of the magnitudes."""

EVERYTHING = Cut(0.0, sys.maxsize)
"""All of them."""


def new_masks(size: int) -> Masks:
    """Memory for what is compared within one block of so many elements."""
    return np.empty((2, size), dtype=bool)


class Search:
    """Finds where the `rank` largest of `elements` magnitudes end, by counting instead of ordering.

    `sample`: some of them, in ascending order; it tells between which two values the answer should lie. A pass over all
    magnitudes (`feed` each block, then `ends`) counts what is outside and keeps the few from the one to the other. If
    the answer is elsewhere, or there are too many, `ends` says False, and the next pass looks closer. `kept`: how many
    to keep; `masks`: from `new_masks`, which searches that are fed in turn may share. NaN counts as below everything.
    """

    def __init__(self, rank: int, elements: int, sample: Magnitudes, kept: int, masks: Masks) -> None:
        self.found: Cut | None = None
        self._rank = rank
        self._kept = kept
        self._sample = sample
        # The answer is neither below the one nor above the other; so many are at or above the one, above the other.
        self._lower, self._from_lower = np.float32(-1), elements
        self._upper, self._over_upper = np.float32(np.inf), 0
        self._masks = masks
        self._low, self._high, self._sampled = self._lower, self._upper, False
        # Of each block fed: how many are above `high`, and at least `low`; what lies between, or every so many of it.
        self._counts: list[tuple[int, int]] = []
        self._between: list[Magnitudes] = []
        self._size, self._every = 0, 1
        self._begin(_MARGIN)

    def feed(self, magnitudes: Magnitudes) -> None:
        """Takes the next block, at most as many magnitudes as the masks have."""
        over, from_low = (mask[: magnitudes.size] for mask in self._masks)
        np.greater(magnitudes, self._high, out=over)
        np.greater_equal(magnitudes, self._low, out=from_low)
        self._counts.append((int(np.count_nonzero(over)), int(np.count_nonzero(from_low))))
        if self._low == self._high:
            return  # what lies between is all the same
        between = magnitudes[np.greater(from_low, over, out=from_low)]
        self._between.append(between[:: self._every])
        self._size += self._between[-1].size
        while self._size > self._kept:
            # Too many for this pass, but a better sample for the next.
            self._between = [np.concatenate(self._between)[::2].copy()]
            self._size, self._every = self._between[0].size, self._every * 2

    def ends(self) -> bool:
        """Whether the pass, which is over, found the cut; if not, another one has to be made."""
        over, from_low = (int(count) for count in np.sum(self._counts, axis=0))
        margin = _MARGIN
        if self._rank <= over:
            self._lower, self._from_lower = np.nextafter(self._high, np.float32(np.inf)), over
        elif self._rank > from_low:
            if self._low == self._lower:
                self.found = EVERYTHING  # what is missing are NaN
            self._upper, self._over_upper = np.nextafter(self._low, np.float32(-np.inf)), from_low
        elif self._low == self._high:
            self._cut(self._low, over, [at_least - more for more, at_least in self._counts])
        else:
            # Weights in 16 bits differ by few distinct values, on which a sort is faster than numpy's partition.
            between = np.sort(np.concatenate(self._between))
            if self._every == 1:
                threshold = between[over - self._rank]
                larger = between.size - int(np.searchsorted(between, threshold, side="right"))
                equal = [int(np.count_nonzero(block == threshold)) for block in self._between]
                self._cut(threshold, over + larger, equal)
            else:
                if self._low == self._lower and self._high == self._upper and self._sampled:
                    margin = 0.0  # two values that nearly all have: one of them alone is looked at
                self._sample = between
                self._lower, self._from_lower = self._low, from_low
                self._upper, self._over_upper = self._high, over
        self._begin(margin)
        return self.found is not None

    def _cut(self, threshold: np.float32, larger: int, equal: list[int]) -> None:
        """Finds the end among the magnitudes at `threshold`: `larger` are above it, `equal` of each block are at it."""
        up_to = np.cumsum(equal)
        ties = self._rank - larger
        block = int(np.searchsorted(up_to, ties))
        full = int(ties == up_to[block])
        before = int(up_to[block] - equal[block])
        self.found = Cut(float(threshold), block + full, 0 if full else ties - before)

    def _begin(self, margin: float) -> None:
        """Looks, in the next pass, from the value that lies by the share `margin` below the answer to that above it."""
        first = np.searchsorted(self._sample, self._lower, side="left")
        last = np.searchsorted(self._sample, self._upper, side="right")
        inside = self._sample[first:last]
        self._sampled = inside.size > 0
        share = (self._rank - self._over_upper) / (self._from_lower - self._over_upper)
        low, high = (round(inside.size * (1 - share + aside)) for aside in (-margin, margin))
        if not margin:
            low = high = min(max(low, 0), inside.size - 1)
        self._low = inside[low] if 0 <= low < inside.size else self._lower
        self._high = inside[high] if high < inside.size else self._upper
        self._counts = []
        self._between = []
        self._size, self._every = 0, 1
