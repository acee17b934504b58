"""The magnitude of a given rank in tensors too large to order: exactly, a block at a time, in bounded memory."""

import math

import numpy as np
from numpy.typing import NDArray

from .blocks import BLOCK

Magnitudes = NDArray[np.float32]
Masks = NDArray[np.bool_]

KEPT = 1 << 20
"""Magnitudes that all searches of one tensor keep at a time, at most."""

_MARGIN = 0.015


def new_masks(elements: int) -> Masks:
    """Memory for what is compared within one block of a tensor of so many elements."""
    return np.empty((4, min(BLOCK, elements)), dtype=bool)


class Search:
    """Finds the `rank`-th largest (1 is the largest) of `elements` magnitudes, by counting instead of ordering.

    `sample`: some of them, in ascending order; it tells between which two values the answer should lie. A pass over all
    magnitudes (`feed` each block, then `ends`) counts what is outside and keeps the few between. If the answer is
    elsewhere, or too many lie between, `ends` says False, and the next pass looks closer. `kept`: how many to keep;
    `masks`: from `new_masks`, which searches that are fed in turn may share.
    """

    def __init__(self, rank: int, elements: int, sample: Magnitudes, kept: int, masks: Masks) -> None:
        self.found = math.nan
        self._rank = rank
        self._kept = kept
        self._sample = sample
        # The answer lies between these two; so many magnitudes are above the lower, and at or above the upper one.
        self._lower, self._above_lower = np.float32(-1), elements
        self._upper, self._from_upper = np.float32(np.inf), 0
        self._masks = masks
        self._low, self._high = self._lower, self._upper
        self._counts = np.zeros(4, dtype=np.int64)
        self._between: list[Magnitudes] = []
        self._size, self._every = 0, 1
        self._begin()

    def feed(self, magnitudes: Magnitudes) -> None:
        """Takes the next block, at most BLOCK magnitudes."""
        over, from_high, above, from_low = (mask[: magnitudes.size] for mask in self._masks)
        np.greater(magnitudes, self._high, out=over)
        np.greater_equal(magnitudes, self._high, out=from_high)
        np.greater(magnitudes, self._low, out=above)
        np.greater_equal(magnitudes, self._low, out=from_low)
        self._counts += [np.count_nonzero(mask) for mask in (over, from_high, above, from_low)]
        between = magnitudes[np.greater(above, from_high, out=above)]
        self._between.append(between[:: self._every])
        self._size += self._between[-1].size
        while self._size > self._kept:
            # Too many for this pass, but a better sample for the next.
            self._between = [np.concatenate(self._between)[::2].copy()]
            self._size, self._every = self._between[0].size, self._every * 2

    def ends(self) -> bool:
        """Whether the pass, which is over, found the magnitude; if not, another one has to be made."""
        over, from_high, above, from_low = (int(count) for count in self._counts)
        if over < self._rank <= from_high:
            self.found = float(self._high)
        elif above < self._rank <= from_low:
            self.found = float(self._low)
        elif self._rank <= over:
            self._lower, self._above_lower = self._high, over
        elif self._rank > from_low:
            self._upper, self._from_upper = self._low, from_low
        else:
            # Weights in 16 bits differ by few distinct values, on which a sort is faster than numpy's partition.
            between = np.sort(np.concatenate(self._between))
            if self._every == 1:
                self.found = float(between[from_high - self._rank])
            else:
                self._sample = between
                self._lower, self._above_lower = self._low, above
                self._upper, self._from_upper = self._high, from_high
        self._begin()
        return not math.isnan(self.found)

    def _begin(self) -> None:
        first = np.searchsorted(self._sample, self._lower, side="right")
        last = np.searchsorted(self._sample, self._upper, side="left")
        inside = self._sample[first:last]
        share = (self._rank - self._from_upper) / (self._above_lower - self._from_upper)
        low, high = (round(inside.size * (1 - share + margin)) for margin in (-_MARGIN, _MARGIN))
        self._low = inside[low] if 0 <= low < inside.size else self._lower
        self._high = inside[high] if high < inside.size else self._upper
        self._counts[:] = 0
        self._between = []
        self._size, self._every = 0, 1
