"""Model cards: the YAML on top of README.md, read safely and checked as the Hub checks it."""

import re
from typing import Any

import yaml

from ..names import check_name
from .jsonvalue import plain

LARGEST_METADATA = 256 << 10  # characters of YAML
RELATIONS = ("adapter", "finetune", "merge", "quantized")
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_TEXTS = ("license", "license_name", "license_link", "library_name", "pipeline_tag", "title", "sdk")
_TEXTS_OR_LISTS = ("base_model", "datasets", "language", "metrics", "tags")


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases, which could grow a small card into gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


def split_card(text: str) -> tuple[str | None, str]:
    """The YAML of a card (None where there is none) and the Markdown below it."""
    match = _FRONT.match(text)
    return (match.group(1), text[match.end() :]) if match else (None, text)


def read_metadata(text: str) -> dict[str, Any]:
    """A card's metadata; empty where it is missing or broken."""
    metadata, errors, _ = check_card(text)
    return {} if errors else metadata


def check_card(text: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """A card's metadata, the errors for which a commit is refused, and the warnings."""
    front, _ = split_card(text)
    if front is None:
        return {}, [], ["empty or missing yaml metadata in repo card"]
    if len(front) > LARGEST_METADATA:
        return {}, [f"the metadata has more than {LARGEST_METADATA} characters"], []
    try:
        value = yaml.load(front, Loader=_Loader)
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        return {}, [f"the metadata is not valid YAML: {' '.join(str(error).split())}"], []
    if value is None:
        return {}, [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(value, dict):
        return {}, ["the metadata must be a mapping of keys to values"], []
    try:
        metadata = plain(value)
    except ValueError as error:
        return {}, [f"the metadata is not valid: {error}"], []
    return metadata, _errors(metadata), []


def _errors(metadata: dict[str, Any]) -> list[str]:
    errors = [f'"{key}" must be a string' for key in _TEXTS if not isinstance(metadata.get(key, ""), str)]
    for key in _TEXTS_OR_LISTS:
        values = as_list(metadata.get(key))
        if not all(isinstance(item, str) for item in values):
            errors.append(f'"{key}" must be a string or a list of strings')
        elif key in ("base_model", "datasets"):
            errors += [
                f'"{key}" with value "{item}" is not valid. Use a repo id.' for item in values if not _is_id(item)
            ]
    relation = metadata.get("base_model_relation")
    if relation is not None and relation not in RELATIONS:
        errors.append(f'"base_model_relation" must be one of [{", ".join(RELATIONS)}]')
    index = metadata.get("model-index")
    if index is not None and not (isinstance(index, list) and all(isinstance(model, dict) for model in index)):
        errors.append('"model-index" must be a list of models')
    return errors


def as_list(value: Any) -> list[Any]:
    """A list as it is, nothing as an empty one, anything else as a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _is_id(text: str) -> bool:
    try:
        return 1 <= len([check_name(part) for part in text.split("/")]) <= 2
    except ValueError:
        return False
