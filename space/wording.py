"""Numbers and names as a person reads them, and the only way text of others enters the page's HTML."""

from collections.abc import Sequence
from html import escape

from huggingface_hub import constants

from hubmerge.reference import ModelRef

__all__ = ["count", "duration", "escape", "hub_link", "short", "size"]


def size(nbytes: float) -> str:
    """Bytes in decimal units, as the Hub shows them: 1234567 -> "1.2 MB"."""
    shown, unit = _scaled(nbytes, ("B", "kB", "MB", "GB", "TB"))
    return f"{shown} {unit}"


def count(number: float) -> str:
    """A count in short: 838000 -> "838k", 7241732096 -> "7.2B"."""
    return "".join(_scaled(number, ("", "k", "M", "B", "T")))


def _scaled(number: float, units: Sequence[str]) -> tuple[str, str]:
    step = 0
    while abs(number) >= 999.5 and step < len(units) - 1:
        number, step = number / 1000, step + 1
    return (f"{number:.0f}" if step == 0 or number >= 100 else f"{number:.1f}"), units[step]


def duration(seconds: float) -> str:
    """A time span: "4 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short(name: str) -> str:
    """The part of a model's name that tells it from its siblings: no namespace, no revision."""
    return name.partition("@")[0].rstrip("/").rpartition("/")[2] or name


def hub_link(ref: ModelRef, text: str | None = None) -> str:
    """`text` (default: the name) as a link to the page of the model, or of its LoRA; a folder has none."""
    shown, ref = escape(text or str(ref)), ref.lora or ref
    if ref.is_folder:
        return shown
    url = f"{constants.ENDPOINT}/{ref.repo_id}" + (f"/tree/{ref.revision}" if ref.revision else "")
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">{shown}</a>'
