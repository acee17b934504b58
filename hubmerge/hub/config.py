"""What a model's config.json says of its language model, wherever its family keeps it."""

from collections.abc import Mapping
from typing import Any


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model: itself, or a multi-modal model's inner one."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def setting(config: Mapping[str, Any], key: str) -> Any:
    """A language model's setting; None where it is not given."""
    value = text_config(config).get(key)
    return config.get(key) if value is None else value
