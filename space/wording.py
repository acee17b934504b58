"""Numbers and names as a person reads them."""

from huggingface_hub import constants

from hubmerge.amounts import count, duration, size
from hubmerge.reference import ModelRef

__all__ = ["count", "duration", "hub_url", "short", "size"]


def short(name: str) -> str:
    """The part of a model's name that tells it from its siblings: no namespace, no revision."""
    return name.partition("@")[0].rstrip("/").rpartition("/")[2] or name


def hub_url(ref: ModelRef) -> str | None:
    """The page of the model, or of its LoRA, on the Hub; None for a folder and for a stage of a recipe."""
    ref = ref.lora or ref
    if ref.is_folder or ref.stage:
        return None
    return f"{constants.ENDPOINT}/{ref.repo_id}" + (f"/tree/{ref.revision}" if ref.revision else "")


def slug(title: str) -> str:
    """A job's title as the name of a repository or a folder, which may come out empty."""
    name = title.replace(" of ", "-").replace(" + ", "-")
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name).strip("-.")[:80]
