"""What the small files beside a model say: the numbers of its tokens, its chat template, how it ends answers.

They are strangers' files, and the result carries them. One that is not what transformers reads there is refused here,
before a weight moves.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..documents import is_number, parse_json, parse_object
from ..errors import SourceError
from ..hub.checkpoint import check_name
from ..hub.fields import SPECIAL_TOKENS, Kind, check_fields
from ..hub.listing import Listing
from ..text import sentences

TEMPLATE_FILE = "chat_template.jinja"
GENERATION_FILE = "generation_config.json"
VOCABULARY_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")

_AGAIN = "fetch or save the tokenizer again"
_MOST_TOKENS = 2**32
"""Numbers of tokens are below it, as in the library that reads them."""

_SETTINGS: Mapping[str, Kind] = {
    # Several templates by their names are a list, as transformers once wrote them.
    "chat_template": Kind("text, or a list of templates", lambda value: isinstance(value, (str, list, dict))),
}

_NAMES_OF_CLASSES = re.compile(r"_.*|auto_map|chat_template|(\w+_)?(processor|extractor|tokenizer)_(class|type)")
"""What says nothing of how pictures are read."""

_checked: set[tuple[str, str, str]] = set()
_REMEMBERED = 4096


def settings(listing: Listing) -> dict[str, Any]:
    """tokenizer_config.json; empty where there is none. Raises `SourceError` where it cannot be read."""
    found = _object(listing, SETTINGS_FILE)
    _check_names(found, _what(listing, SETTINGS_FILE))
    check_fields(found, _SETTINGS, _what(listing, SETTINGS_FILE), _AGAIN)
    return found


def template(listing: Listing) -> str | None:
    """The chat template of a tokenizer; None where it has none."""
    if TEMPLATE_FILE in listing.files:
        return listing.read_text(TEMPLATE_FILE)
    found = settings(listing).get("chat_template")
    return found if isinstance(found, str) else None


def generation(listing: Listing) -> dict[str, Any]:
    """generation_config.json; empty where there is none."""
    found = _object(listing, GENERATION_FILE)
    check_fields(found, SPECIAL_TOKENS, _what(listing, GENERATION_FILE), _AGAIN)
    return found


def processor(listing: Listing) -> dict[str, Any]:
    """How pictures are read, nested settings by dotted names; empty where nothing says it. Raises `SourceError`."""
    found: dict[str, Any] = {}
    for name in PROCESSOR_FILES:  # the first that says something counts, as in transformers
        found = {**_settings(_object(listing, name)), **found}
    return found


def _settings(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in document.items():
        if _NAMES_OF_CLASSES.fullmatch(name):
            continue
        if isinstance(value, Mapping):
            # What reads pictures stood in a file of its own, and now stands in that of the processor.
            found |= _settings(value, "" if name == "image_processor" else f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def vocabulary(text: str | None, where: str) -> dict[str, int]:
    """The number of each token by the text of tokenizer.json of the model `where`; empty where there is none."""
    if text is None:
        return {}
    what = f"{VOCABULARY_FILE} of {where}"
    document = parse_object(text, what, SourceError, finite=False, hint=_AGAIN)
    model, added = document.get("model"), document.get("added_tokens")
    numbers = _numbers(model.get("vocab") if isinstance(model, dict) else None)
    if numbers is None:
        raise SourceError(f"{what} cannot be read: it has no vocabulary of texts and numbers; {_AGAIN}.")
    added = [] if added is None else added
    if not isinstance(added, list) or not all(map(_is_added, added)):
        raise SourceError(f"{what} cannot be read: added_tokens should be a list of texts with numbers; {_AGAIN}.")
    return numbers | {token["content"]: token["id"] for token in added}


def _require_tokenizer(text: str | None, where: str) -> None:
    """Raises `SourceError` where the library that reads a tokenizer.json would refuse it.

    It is given the file without its expressions, which it would compile at whatever cost.
    """
    if text is None or not vocabulary(text, where):
        return
    from tokenizers import Tokenizer

    def plain(part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "Regex": "."} if isinstance(part.get("Regex"), str) else part

    if '"Regex"' in text:
        text = json.dumps(json.loads(text, object_hook=plain))
    try:
        Tokenizer.from_str(text)
    except Exception as exc:  # it raises no class of its own
        raise SourceError(f"{VOCABULARY_FILE} of {where} cannot be read: {exc}; {_AGAIN}.") from None


def check_files(listing: Listing, names: Iterable[str]) -> None:
    """Whether the result can carry these files of a model; raises `SourceError` for the first that is broken."""
    for name in names:
        key = listing.name, listing.identity, name
        if key in _checked:  # a search plans every candidate
            continue
        check_name(name, listing.name)
        if name.endswith(".jinja"):
            listing.read_text(name)
        elif name == SETTINGS_FILE:
            settings(listing)
        elif name == GENERATION_FILE:
            generation(listing)
        elif name == VOCABULARY_FILE:
            _require_tokenizer(listing.read_text(name), listing.name)
        elif name.endswith(".json"):
            what = _what(listing, name)
            found = parse_json(listing.read_text(name) or "", what, SourceError, finite=False, hint=_AGAIN)
            if name == SPECIAL_FILE:
                _check_names(found, what)
        if len(_checked) >= _REMEMBERED:
            _checked.clear()
        _checked.add(key)


def _object(listing: Listing, name: str) -> dict[str, Any]:
    text = listing.read_text(name)
    if text is None:
        return {}
    return parse_object(text, _what(listing, name), SourceError, finite=False, hint=_AGAIN)


def _check_names(document: Any, what: str) -> None:
    """Raises `SourceError` for a name that would steer a terminal: tokenizers prints those it does not know as they
    are, by itself, where no log and no stream of ours sees them."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for name in value:
                if sentences(name) != name or "\n" in name:
                    raise SourceError(f"{what} cannot be read: {name[:80]!r} is no name of a setting; {_AGAIN}.")
        if isinstance(value, (dict, list)):
            waiting += value.values() if isinstance(value, dict) else value


def _what(listing: Listing, name: str) -> str:
    return f"{name} of {listing.name}"


def _numbers(found: Any) -> dict[str, int] | None:
    # Unigram models store a list of [piece, score] in the order of numbers, the others token -> number.
    if isinstance(found, dict):
        return found if _are_numbers(found.values()) else None
    if isinstance(found, list) and all(map(_is_piece, found)):
        return {piece[0]: number for number, piece in enumerate(found)}
    return None


def _are_numbers(values: Collection[Any]) -> bool:
    return not values or (set(map(type, values)) == {int} and min(values) >= 0 and max(values) < _MOST_TOKENS)


def _is_piece(piece: Any) -> bool:
    return isinstance(piece, list) and len(piece) == 2 and isinstance(piece[0], str) and is_number(piece[1])


def _is_added(token: Any) -> bool:
    return isinstance(token, dict) and isinstance(token.get("content"), str) and _are_numbers([token.get("id")])
