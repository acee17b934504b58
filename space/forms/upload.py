"""A small text file that a visitor sent."""

from pathlib import Path

from hubmerge.errors import HubmergeError


def read_upload(path: Path, most: int, error: type[HubmergeError]) -> str:
    """Its text. Raises `error` where it has more than `most` bytes or is not UTF-8."""
    if path.stat().st_size > most:
        raise error(f"{path.name} is larger than {most / 1e6:g} MB; give a smaller file.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{path.name} is not UTF-8 text; save it as UTF-8.") from None
