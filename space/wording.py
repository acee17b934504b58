"""Numbers and names as a person reads them, and the only way text of others enters the page's HTML."""

from html import escape

from huggingface_hub import constants

from hubmerge.amounts import count, duration, size
from hubmerge.reference import ModelRef

__all__ = ["count", "duration", "escape", "hub_link", "short", "size"]


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
