"""The small files of a model without the places that programs wrote into them on some machine.

transformers and others note where a model was loaded from (`_name_or_path`, `tokenizer_file`, ...). That helps nobody
who reads it elsewhere, and tells how a machine is laid out. A name that may be of the Hub stays.
"""

import json
import re
from typing import Any

from ..documents import parse_json
from ..errors import SourceError

_FILES = re.compile(r"(.*/)?([\w.\-]*config|special_tokens_map)\.json")
_KEYS = re.compile(r"(.*_)?(path|file|dir|folder)")
_PLACE = re.compile(r"[/~\\]|\.{1,2}/|[A-Za-z]:[/\\]|file:|[^/]+/[^/]+/.|.*\\")


def without_places(name: str, content: bytes) -> bytes:
    """The content of a model's file `name` for others; unchanged where it tells no place, or is no JSON."""
    if not _FILES.fullmatch(name):
        return content
    try:
        document = parse_json(content, name, SourceError, finite=False)
    except SourceError:
        return content
    left = _without(document)
    return content if left == document else (json.dumps(left, indent=2, ensure_ascii=False) + "\n").encode()


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if not _tells(key, item)}
    return [_without(item) for item in value] if isinstance(value, list) else value


def _tells(key: str, value: Any) -> bool:
    return isinstance(value, str) and _KEYS.fullmatch(key) is not None and _PLACE.match(value) is not None
