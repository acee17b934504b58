"""Documents of others - YAML that people write, JSON that programs leave - turned into plain values, or one sentence.

Plain values are dicts with keys of text, lists, text, whole numbers, floats, true, false and None. How deep a document
is nested, how many values it expands to and how long its numbers are is bounded before anything is built of it, so
that what is read may be copied, walked and written again; no text in it holds half of a surrogate pair, which no file
can hold. Everything else raises the error class that the caller names.

    plain.py        what a plain value is, and how many there may be
    yaml_text.py    YAML into plain values
    json_text.py    JSON into plain values
    fields.py       plain values into fields with types, and "did you mean" for unknown ones: recipe, search and task
"""

from .fields import DocumentKind, Faults, refuse_unknown, unknown_key
from .json_text import LARGEST_JSON, MOST_DIGITS, parse_json, parse_object
from .plain import MAX_DEPTH, MOST_JSON_VALUES, check_plain, is_number, uncollected
from .yaml_text import MAX_CHARACTERS, MAX_NODES, load_mapping, load_mappings

__all__ = [
    "LARGEST_JSON",
    "MAX_CHARACTERS",
    "MAX_DEPTH",
    "MAX_NODES",
    "MOST_DIGITS",
    "MOST_JSON_VALUES",
    "DocumentKind",
    "Faults",
    "check_plain",
    "is_number",
    "load_mapping",
    "load_mappings",
    "parse_json",
    "parse_object",
    "refuse_unknown",
    "uncollected",
    "unknown_key",
]
