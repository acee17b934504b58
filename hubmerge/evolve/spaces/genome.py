"""What every genome can do: turn vectors of numbers into candidates."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .candidate import Candidate


class Genome(Protocol):
    """Vectors of unbounded float64 numbers, and the candidates that they stand for.

    `start`: the vector a search begins at, shape (size,); `binary`: bool (size,), the genes that count only by their
    sign; `space`: "ps" or "dfs"; `sigma`: a good first step, in the vector's units; `learnt`: vectors of an earlier
    run, its winner first, then the best others; `finals`: vectors that are scored at the end, whatever the search makes
    of them. A genome may also have `seeds()`: vectors to begin an archive with, such as the models themselves.
    """

    @property
    def space(self) -> str: ...

    @property
    def sigma(self) -> float: ...

    @property
    def size(self) -> int:
        """How many numbers a vector has."""
        ...

    @property
    def start(self) -> np.ndarray:
        """Where the search begins, float64 (size,)."""
        ...

    @property
    def binary(self) -> np.ndarray:
        """Which genes count only by their sign, bool (size,)."""
        ...

    @property
    def learnt(self) -> Sequence[np.ndarray]:
        """What an earlier run found, best first, each of shape (size,); empty without one."""
        ...

    @property
    def finals(self) -> Sequence[np.ndarray]:
        """What may win though no searcher asks for it, each of shape (size,)."""
        ...

    def decode(self, vector: np.ndarray) -> Candidate:
        """The candidate of a vector: equal for vectors that mean the same."""
        ...

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """The vector of a candidate drawn uniformly from the whole space."""
        ...

    def grid(self, evaluations: int) -> list[np.ndarray]:
        """At most about `evaluations` vectors that a patient person would try by hand."""
        ...
