"""Racing: a candidate that is clearly worse than another on the same examples is asked no further.

Both are asked in one order. After each block of examples a paired test compares them (exact McNemar where the values
are 0 or 1, else sign flips; `evaluate.statistics.paired_p`), one-sided. The rival is the best of several on these very
examples, so it owes some of its lead to luck with them, the more the more it was chosen among: compared with it as
with any one model, its equals would be stopped up to five times too often. So the level is divided by the number of
looks and by the number of those that could have become the rival: whatever looks and candidates have to do with each
other, a candidate as good as its rival is stopped no more often than the level says (Bonferroni). While the last
answers of a block are being written the next block begins, so that small blocks cost no time; what was written of it
when the race is lost is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...evaluate.statistics import difference_p


@dataclass(frozen=True)
class Race:
    """A race over n examples against `rival`, the other's value on each, shape (n,), in the order asked.

    `weights`: what each example counts, shape (n,). `ends`: after how many examples a block ends, rising, the last n.
    `level`: how often, at most, a candidate as good as the rival is stopped; `among`: how many candidates the rival is
    the best of, itself included.
    """

    rival: tuple[float, ...]
    weights: tuple[float, ...]
    ends: tuple[int, ...]
    level: float
    among: int

    def lost(self, values: Sequence[float]) -> bool:
        """Whether a candidate with these first values, shape (k,) with k < n, is clearly worse; never at the end."""
        looks = len(self.ends) - 1
        if len(values) >= len(self.rival) or self._ahead(values) >= 0:
            return False
        weights = self.weights if len(set(self.weights)) > 1 else (1.0,) * len(values)
        differences = [w * (own - other) for w, own, other in zip(weights, values, self.rival, strict=False)]
        # The candidate is behind, so half of the two-sided p-value is that of the side asked about.
        return difference_p(differences) / 2 <= self.level / (looks * self.among)

    def estimate(self, values: Sequence[float]) -> float:
        """The score, 0..1, that a candidate with these first values, shape (k,), would have on all n examples.

        The rival's score moved by what the candidate is ahead (or behind) where both were asked. A plain mean would
        favour those stopped early wherever the first examples happen to be the easy ones.
        """
        return min(1.0, max(0.0, mean(self.rival, self.weights) + self._ahead(values)))

    def _ahead(self, values: Sequence[float]) -> float:
        return mean(values, self.weights) - mean(self.rival[: len(values)], self.weights)


def mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted mean of the first values, shape (k,); `weights` may go on, shape (n,)."""
    weights = weights[: len(values)]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def block_ends(n: int, blocks: int) -> tuple[int, ...]:
    """Where each of `blocks` nearly equal blocks of n examples ends; fewer where there are fewer examples."""
    return tuple(sorted({max(1, round(n * (block + 1) / blocks)) for block in range(blocks)}))
