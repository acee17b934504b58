"""Amounts read the same everywhere: three digits at most, and never a unit that the next one should have taken."""

import re

import pytest

from hubmerge.amounts import count, duration, size


@pytest.mark.parametrize(
    ("nbytes", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.4, "999 B"),
        (999.6, "1 kB"),
        (1_000, "1 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_501, "1 MB"),
        (1_234_567, "1.23 MB"),
        (141_000_000_000, "141 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes(nbytes: float, said: str) -> None:
    assert size(nbytes) == said


def test_three_digits_whatever_the_number() -> None:
    for exponent in range(3, 15):
        for first in (1, 1.004, 1.005, 2.5, 9.994, 9.996, 9.9996):
            digits = re.sub(r"\D", "", size(first * 10**exponent))
            assert len(digits.rstrip("0") or "0") <= 3, (first, exponent)
            shown, unit = size(first * 10**exponent).split()
            assert float(shown) * {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit] == pytest.approx(
                first * 10**exponent, rel=0.006
            )


def test_counts_and_times() -> None:
    assert [count(number) for number in (12, 838_000, 7_241_732_096)] == ["12", "838k", "7.24B"]
    assert [duration(seconds) for seconds in (0, 0.2, 4, 59.6, 200, 7500)] == [
        "0 s",
        "1 s",
        "4 s",
        "1 min 0 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
