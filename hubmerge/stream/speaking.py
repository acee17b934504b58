"""How large the result of a merge is, and how it is spoken to, as its card tells it."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..amounts import count, size
from ..hub.summary import source_link
from .carried import Carried
from .manifest import MANIFEST

if TYPE_CHECKING:
    from .plan import Plan

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
    whose = source_link(carried.source)
    told = f"Its tokenizer is {f'that of {whose}' if carried.united is None else 'made of those of its parents'}"
    if carried.chat_template is None:
        return f"{told}, and it has no chat template."
    if carried.template is None and carried.united is None:
        return f"Its tokenizer and chat template are those of {whose}."
    template = "what the recipe says" if carried.template is not None else f"that of {whose}"
    return f"{told}, and its chat template {template}."


def made(plan: "Plan") -> str:
    """How large the result of a plan is, and what makes it."""
    files = f"{len(plan.shards)} files" if len(plan.shards) > 1 else "one file"
    return (
        f"That gives {len(plan.tensors):,} tensors, {count(plan.parameters)} parameters, {size(plan.output_bytes)} in "
        f"{files}, made by hubmerge {__version__} with torch {version('torch')} on {plan.device}; `{MANIFEST}` has the "
        "sha256 of each."
    )
