"""Amounts as a person reads them, everywhere the same: three digits at most, in decimal units as the Hub counts."""

import re
from collections.abc import Sequence

from .errors import HubmergeError

_PREFIXES = "kmgt"


def size(nbytes: float) -> str:
    """Bytes.

    >>> size(999), size(1_234_567), size(141_000_000_000), size(5 * 10**9)
    ('999 B', '1.23 MB', '141 GB', '5 GB')
    """
    return " ".join(_scaled(nbytes, ("B", "kB", "MB", "GB", "TB")))


def parse_size(text: str) -> int:
    """Bytes as a person writes them: a number with a unit, decimal (MB) or binary (MiB). Raises `HubmergeError`.

    >>> parse_size("200MB"), parse_size("2 GiB"), parse_size("1.5gb"), parse_size("4096 B")
    (200000000, 2147483648, 1500000000, 4096)
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?(?:([kmgt])(i?)b?|b)", text.strip().lower(), re.ASCII)
    number, prefix, binary = found.groups() if found else ("0", None, None)
    power = _PREFIXES.index(prefix) + 1 if prefix else 0
    if not (nbytes := round(float(number) * (1024 if binary else 1000) ** power)):
        raise HubmergeError(f"A size is a number with a unit, such as 200MB or 2GiB, got {text[:60]!r}.")
    return nbytes


def count(number: float) -> str:
    """A number of things.

    >>> count(838_000), count(7_241_732_096)
    ('838k', '7.24B')
    """
    return "".join(_scaled(number, ("", "k", "M", "B", "T")))


def duration(seconds: float) -> str:
    """A span of time; what took any is a second at least.

    >>> duration(0), duration(0.2), duration(75), duration(9000)
    ('0 s', '1 s', '1 min 15 s', '2 h 30 min')
    """
    whole = max(1, round(seconds)) if seconds > 0 else 0
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{whole} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _scaled(number: float, units: Sequence[str]) -> tuple[str, str]:
    step = 0
    while abs(number) >= 999.5 and step < len(units) - 1:
        number, step = number / 1000, step + 1
    digits = 0 if step == 0 or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    text = f"{number:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text), units[step]


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
