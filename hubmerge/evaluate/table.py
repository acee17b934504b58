"""The score table: a line for each model, with intervals and, where one is compared with the others, the odds."""

from collections.abc import Sequence
from dataclasses import dataclass

from .measurement import Measurement
from .statistics import Marks, interval, marks_of, paired_interval, paired_p


@dataclass(frozen=True)
class Row:
    """One line of the final table.

    `value` is the plain score, 0..1, with its 95% interval; `metric` and `language` are its two parts, and `values`
    the score on each of `problems`, packed. `p_value` compares with the evolved model on the same problems (exact
    McNemar where all values are 0 or 1), `gain` is the 95% paired bootstrap interval of evolved minus this; both are
    None for the evolved model itself. `note` says how the model was chosen, where that was among several.
    """

    model: str
    value: float
    low: float
    high: float
    n: int
    metric: float
    language: float
    p_value: float | None
    gain: tuple[float, float] | None
    values: str | list[float]
    problems: tuple[str, ...]
    note: str = ""

    @classmethod
    def of(cls, model: str, measured: Measurement, evolved: Measurement | None, note: str = "") -> "Row":
        """The row of what was `measured`; `evolved` is that of the evolved model, None where this is it."""
        low, high = interval(measured.values)
        return cls(
            model=model,
            value=measured.score,
            low=low,
            high=high,
            n=measured.n,
            metric=measured.metric,
            language=measured.language,
            p_value=None if evolved is None else paired_p(evolved.marks, measured.marks),
            gain=None if evolved is None else paired_interval(evolved.marks, measured.marks),
            values=pack(measured.values),
            problems=measured.problems,
            note=note,
        )

    @property
    def marks(self) -> Marks:
        """The score on each problem, by its name."""
        return marks_of(self.problems, unpack(self.values))


_MARKS = {"0": 0.0, "1": 1.0}


def pack(values: Sequence[float]) -> str | list[float]:
    """One score per example in little room: "0110" where all are 0 or 1, else a list."""
    if set(values) <= {0.0, 1.0}:
        return "".join("1" if value else "0" for value in values)
    return list(values)  # to the last digit: a resumed searcher must be told what the first one was


def unpack(packed: str | Sequence[float]) -> tuple[float, ...]:
    """The values that `pack` was given."""
    if isinstance(packed, str) and not packed.strip("01"):
        return tuple(map(_MARKS.__getitem__, packed))  # quicker than `float`: a journal has millions
    return tuple(map(float, packed))
