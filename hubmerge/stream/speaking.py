"""How the result of a merge is spoken to, as its card tells it."""

from typing import Any

from ..hub.card import source_link
from .carried import Carried

_PROCESSORS = {"processor_config.json", "preprocessor_config.json"}


def spoken_to(carried: Carried) -> dict[str, Any]:
    """What a `Card` says of a result with these small files: `chat`, `tokenizer`, `processor` and `reads`."""
    return {
        "chat": carried.chat_template is not None,
        "tokenizer": carried.has_tokenizer,
        "processor": not _PROCESSORS.isdisjoint(carried.files()),
        "reads": _reads(carried),
    }


def _reads(carried: Carried) -> str:
    """Whose tokenizer and chat template the result has; nothing where it reads no text."""
    if not carried.has_tokenizer:
        return ""
    whose = f"that of {source_link(carried.source)}"
    told = f"Its tokenizer is {whose if carried.united is None else 'made of those of its parents'}"
    if carried.chat_template is None:
        return f"{told}, and it has no chat template."
    return f"{told}, and its chat template {whose if carried.template is None else 'what the recipe says'}."
