"""YAML that people write, read into plain values without recursion, bounded before anything is built of it."""

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ..errors import HubmergeError
from ..files import expand
from .plain import MAX_DEPTH, SURROGATE, WHOLE

MAX_CHARACTERS = 1_000_000
"""Characters of a YAML document."""
MAX_NODES = 100_000
"""Values in a YAML document, with its aliases written out."""
MOST_DOCUMENTS = 100
"""Documents in one file."""

_LONGEST_NUMBER = 400
# YAML 1.1 reads 1:30 as 90 and 010 as 8; nobody means that.
_OLD_NUMBER = re.compile(r"[-+]?(0[0-9_]+$|[0-9_]+:)")

# What a file begins with says how its characters are written; Windows writes UTF-16.
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_LARGEST_FILE = 4 * MAX_CHARACTERS + 2
_FENCE, _TAB = re.compile(r"^[ >]*```", re.MULTILINE), re.compile(r"^ *\t", re.MULTILINE)
_FILE_NAME = re.compile(r"\.ya?ml\s*$", re.IGNORECASE)

# The parser of libyaml where it is there: it takes a thirtieth of the time. Both yield the same events.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = yaml.SafeLoader("")
_TAG = "tag:yaml.org,2002:"


def load_mapping(source: str | Path, what: str, error: type[HubmergeError], *, finite: bool = True) -> dict[str, Any]:
    """Reads one YAML mapping from text or from a file.

    `what` names the document in messages ("recipe"); `error` is the class to raise. Keys are text as they are written;
    a date is text too. Raises `error` for an unreadable file, bad YAML, a repeated key, a tag of a programming
    language, a whole number of more than 64 bits, infinity and NaN unless not `finite`, a document that is too large
    or too deep (aliases written out), one that is not a mapping, or a second one.
    """
    text, what = _text(source, what, error)
    (document,) = _Yaml(what, error, finite).read(text, most=1)
    return _mapping(document, what, error)


def load_mappings(source: str | Path, what: str, error: type[HubmergeError]) -> list[dict[str, Any]]:
    """Reads all the documents of a text or file, each a mapping as `load_mapping` reads it; empty ones are left out."""
    text, what = _text(source, what, error)
    found = _Yaml(what, error, True).read(text, most=MOST_DOCUMENTS)
    return [_mapping(one, what, error) for one in [one for one in found if one is not None] or [None]]


def named_file(source: object, what: str, error: type[HubmergeError]) -> str | Path:
    """What a program gives as a document: text of one line that can be no mapping, or ends as a YAML file's name does,
    is a path. `what` and `error` as of `load_mapping`; raises `error` for what is neither text nor a path.

    >>> named_file("recipes/ties.yaml", "recipe", HubmergeError).name
    'ties.yaml'
    >>> named_file("merge_method: linear", "recipe", HubmergeError)
    'merge_method: linear'
    """
    if isinstance(source, str):
        line = source.strip()
        is_path = "\n" not in line and (_FILE_NAME.search(line) or not any(char in line for char in ":{"))
        return expand(line, error) if line and is_path else source
    if isinstance(source, os.PathLike) and isinstance(path := os.fspath(source), str):
        return expand(path, error)
    instead = "; `from_dict` takes plain values" if isinstance(source, dict) else ""
    raise error(f"A {what} is read from YAML text or the path of a file, got {type(source).__name__}{instead}.")


def _text(source: str | Path, what: str, error: type[HubmergeError]) -> tuple[str, str]:
    """The text, and how messages call it."""
    if isinstance(source, str):
        text = source
    else:
        try:
            with source.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
            if len(content) > _LARGEST_FILE:
                raise _too_long(what, error)
            text = content.decode(next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8"))
        except FileNotFoundError:
            raise error(f"There is no {what} file at {source}; check the path.") from None
        except (OSError, ValueError) as exc:
            raise error(f"The {what} file {source} cannot be read: {exc}.") from None
        what = f"{what} {source}"
    if len(text) > MAX_CHARACTERS:
        raise _too_long(what, error)
    return text, what


def _too_long(what: str, error: type[HubmergeError]) -> HubmergeError:
    return error(f"The {what} has more than the {MAX_CHARACTERS:,} characters that are read; shorten it.")


def _mapping(document: Any, what: str, error: type[HubmergeError]) -> dict[str, Any]:
    if not isinstance(document, dict):
        got = "nothing" if document is None else type(document).__name__
        raise error(f"The {what} must be a mapping of keys to values, but it holds {got}.")
    return document


def _hint(text: str) -> str:
    """What a page or an editor left in a text that is no YAML, and what to do."""
    if _FENCE.search(text):
        return "; keep what lies between the two lines of ``` alone, which are Markdown"
    return "; begin lines with spaces, for YAML takes no tabs there" if _TAB.search(text) else ""


@dataclass
class _Open:
    """A list or mapping whose end is still to come: `values` so far, a mapping's `key` that waits for its value."""

    values: Any
    line: int
    anchor: str | None
    key: str | None = None
    has_key: bool = False
    depth: int = 1
    nodes: int = 1
    merged: dict[str, Any] = field(default_factory=dict)


class _Yaml:
    """One document, built from the parser's events without recursion, so that nothing in it can exhaust anything."""

    def __init__(self, what: str, error: type[HubmergeError], finite: bool) -> None:
        self._what, self._error, self._finite = what, error, finite
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        self._open: list[_Open] = []
        self._nodes = 0
        self._root: Any = None

    def read(self, text: str, most: int) -> list[Any]:
        """The documents' values, one at least; None for one that is empty."""
        if SURROGATE.search(text):
            self._refuse("it holds half of a surrogate pair, which is no character")
        found: list[Any] = []
        try:
            event: Any
            for event in yaml.parse(text, Loader=_PARSER):
                if isinstance(event, yaml.DocumentStartEvent):
                    if len(found) == most:
                        line = getattr(event.start_mark, "line", None)
                        self._refuse("a second document begins; keep one" if most == 1 else "too many documents", line)
                    self._root, self._anchors = None, {}
                self._take(event)
                if isinstance(event, yaml.DocumentEndEvent):
                    found.append(self._root)
        except yaml.YAMLError as exc:
            mark = getattr(exc, "problem_mark", None)
            where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "unreadable"
            raise self._error(f"The {self._what} is not valid YAML{where}: {problem}{_hint(text)}.") from None
        return found or [None]

    def _take(self, event: Any) -> None:
        line: int = event.start_mark.line
        if isinstance(event, yaml.ScalarEvent):
            value, tag = self._scalar(event)
            if event.anchor:
                self._anchors[event.anchor] = value, 0, 1
            self._add(value, 0, 1, event, tag)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            is_list = isinstance(event, yaml.SequenceStartEvent)
            if event.tag not in (None, "!", _TAG + ("seq" if is_list else "map")):
                self._refuse(f"the tag {event.tag} is not read here", line)
            if event.anchor:
                self._anchors[event.anchor] = None
            self._open.append(_Open([] if is_list else {}, line, event.anchor))
            self._bound(len(self._open), 0, event)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            done = self._open.pop()
            if isinstance(done.values, dict):
                done.values = {**done.merged, **done.values}
            if done.anchor:
                self._anchors[done.anchor] = done.values, done.depth, done.nodes
            self._nodes -= done.nodes - 1  # it is counted again as a part of what it stands in
            self._add(done.values, done.depth, done.nodes, event, None)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                self._refuse(f"nothing is called &{event.anchor} before *{event.anchor}", line)
            known = self._anchors[event.anchor]
            if known is None:
                self._refuse(f"&{event.anchor} holds itself", line)
            self._add(*known, event, None)

    def _add(self, value: Any, depth: int, nodes: int, event: Any, tag: str | None) -> None:
        self._bound(len(self._open) + depth, nodes, event)
        if not self._open:
            self._root = value
            return
        into, line = self._open[-1], event.start_mark.line
        if isinstance(into.values, list):
            into.values.append(value)
        elif not into.has_key:
            is_key = isinstance(event, yaml.ScalarEvent)
            if not is_key and not isinstance(value, str):
                self._refuse("a key must be text", line)
            # As it is written: a key that YAML would read as a number or as "no" is a name here.
            key = event.value if is_key else value
            if key in into.values or (tag == "merge" and into.merged):
                self._refuse(f"the key {key!r} is given twice (line {line + 1})", line)
            into.key, into.has_key = None if tag == "merge" else key, True
        elif into.key is None:
            self._merge(into, value, line)
            into.has_key = False
        else:
            into.values[into.key] = value
            into.key, into.has_key = None, False
        into.depth, into.nodes = max(into.depth, depth + 1), into.nodes + nodes

    def _merge(self, into: _Open, value: Any, line: int) -> None:
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            self._refuse("the merge key << takes a mapping, or a list of them", line)
        for part in reversed(parts):
            into.merged |= part

    def _bound(self, depth: int, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if depth > MAX_DEPTH:
            self._refuse(f"it is nested more than {MAX_DEPTH} levels deep", event.start_mark.line)
        if self._nodes > MAX_NODES:
            raise self._error(
                f"The {self._what} expands to more than {MAX_NODES:,} values; write it shorter, or without aliases."
            )

    def _scalar(self, event: Any) -> tuple[Any, str]:
        text, line = event.value, event.start_mark.line
        tag = event.tag
        if tag in (None, "!"):
            tag = _RESOLVER.resolve(yaml.ScalarNode, text, event.implicit if tag is None else (False, True))
        kind = tag.removeprefix(_TAG)
        if kind in ("int", "float") and event.tag is None and _OLD_NUMBER.match(text):
            return text, "str"
        if kind in ("str", "timestamp", "merge", "value"):
            if "\0" in text or SURROGATE.search(text):
                self._refuse("text holds a NUL or half of a surrogate pair", line)
            return text, kind
        if kind not in ("null", "bool", "int", "float"):
            self._refuse(f"the tag {tag} is not read here", line)
        if kind == "null":
            return None, kind
        try:
            if len(text) > _LONGEST_NUMBER:
                raise ValueError
            make = {"bool": "construct_yaml_bool", "int": "construct_yaml_int", "float": "construct_yaml_float"}[kind]
            value = getattr(_RESOLVER, make)(yaml.ScalarNode(tag, text))
        except (ValueError, KeyError, IndexError, OverflowError):
            self._refuse(f"{text[:60]!r} is no {kind}", line)
        if kind == "int" and value not in WHOLE:
            self._refuse(f"the whole number {text[:60]} has more than 64 bits", line)
        if kind == "float" and self._finite and not math.isfinite(value):
            self._refuse(f"{text[:60]} is no finite number", line)
        return value, kind

    def _refuse(self, problem: str, line: int | None = None) -> NoReturn:
        where = "" if line is None else f" at line {line + 1}"
        raise self._error(f"The {self._what} cannot be read{where}: {problem}.")
