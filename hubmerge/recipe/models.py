"""How a recipe names a model: as text, or in the mappings that mergekit takes too.

>>> str(read_model({"model": {"path": "org/name", "revision": "v1"}, "lora": "org/lora"}, "models"))
'org/name@v1+org/lora'
"""

from collections.abc import Mapping
from typing import Any

from ..errors import RecipeError
from ..reference import ModelRef
from ..text import brief


def read_model(value: Any, where: str) -> ModelRef:
    """A model as mergekit writes it: text, `{path, revision}`, or `{model: ..., lora: ...}` of one of these each."""
    if isinstance(value, Mapping):
        inner, lora = value.get("model", value), value.get("lora")
        texts = [_path(one) for one in (inner, *([] if lora is None else [lora]))]
        if all(texts):
            return ModelRef.parse("+".join(map(str, texts)))
    if not isinstance(value, str):
        raise RecipeError(f"{where}: expected a model as text (org/name@revision), got {brief(value)}.")
    return ModelRef.parse(value)


def _path(value: Any) -> str | None:
    """A model without its LoRA as text; None where it says none."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("path"), str):
        return None
    revision = value.get("revision")
    return value["path"] + (f"@{revision}" if revision is not None else "")
