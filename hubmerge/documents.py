"""Documents of others - YAML that people write, JSON that programs leave - turned into plain values, or one sentence.

Plain values are dicts with keys of text, lists, text, whole numbers, floats, true, false and None. How deep a document
is nested, how many values it expands to and how long its numbers are is bounded before anything is built of it, so
that what is read may be copied, walked and written again; no text in it holds half of a surrogate pair, which no file
can hold. Everything else raises the error class that the caller names.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import yaml

from .errors import HubmergeError
from .guesses import missing_colon, nearest
from .text import has_token, shorten

MAX_CHARACTERS = 1_000_000
"""Characters of a YAML document."""
MAX_NODES = 100_000
"""Values in a YAML document, with its aliases written out."""
MAX_DEPTH = 100
"""Levels of lists and mappings, in YAML and in JSON."""

LARGEST_JSON = 64 * 2**20
"""Bytes of a JSON document."""
MOST_JSON_VALUES = 8_000_000
"""Values in a JSON document: a tokenizer of a million tokens has less than half of that."""
MOST_DIGITS = 100
"""Digits of a whole number in JSON; a tokenizer's "no limit" has 31."""

_LONGEST_NUMBER = 400
_WHOLE = range(-(2**63), 2**64)
# YAML 1.1 reads 1:30 as 90 and 010 as 8; nobody means that.
_OLD_NUMBER = re.compile(r"[-+]?(0[0-9_]+$|[0-9_]+:)")
_SURROGATE = re.compile("[\ud800-\udfff]")

# The parser of libyaml where it is there: it takes a thirtieth of the time. Both yield the same events.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = yaml.SafeLoader("")
_TAG = "tag:yaml.org,2002:"


def load_mapping(source: str | Path, what: str, error: type[HubmergeError], *, finite: bool = True) -> dict[str, Any]:
    """Reads one YAML mapping from text or from a file.

    `what` names the document in messages ("recipe"); `error` is the class to raise. Keys are text as they are written;
    a date is text too. Raises `error` for an unreadable file, bad YAML, a repeated key, a tag of a programming
    language, a whole number of more than 64 bits, infinity and NaN unless not `finite`, a document that is too large
    or too deep (aliases written out), or one that is not a mapping.
    """
    if isinstance(source, Path):
        try:
            with source.open(encoding="utf-8-sig") as file:
                text = file.read(MAX_CHARACTERS + 1)
        except FileNotFoundError:
            raise error(f"There is no {what} file at {source}; check the path.") from None
        except (OSError, ValueError) as exc:
            raise error(f"The {what} file {source} cannot be read: {exc}.") from None
        what = f"{what} {source}"
    else:
        text = source
    if len(text) > MAX_CHARACTERS:
        raise error(f"The {what} has more than the {MAX_CHARACTERS:,} characters that are read; shorten it.")
    document = _Yaml(what, error, finite).read(text)
    if not isinstance(document, dict):
        got = "nothing" if document is None else type(document).__name__
        raise error(f"The {what} must be a mapping of keys to values, but it holds {got}.")
    return document


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

    def read(self, text: str) -> Any:
        """The document's value; None where it is empty."""
        if _SURROGATE.search(text):
            self._refuse("it holds half of a surrogate pair, which is no character")
        documents = 0
        try:
            event: Any
            for event in yaml.parse(text, Loader=_PARSER):
                documents += isinstance(event, yaml.DocumentStartEvent)
                if documents > 1:
                    self._refuse("a second document begins; keep one", event.start_mark.line)
                self._take(event)
        except yaml.YAMLError as exc:
            mark = getattr(exc, "problem_mark", None)
            where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "unreadable"
            raise self._error(f"The {self._what} is not valid YAML{where}: {problem}.") from None
        return self._root

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
            if "\0" in text or _SURROGATE.search(text):
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
        if kind == "int" and value not in _WHOLE:
            self._refuse(f"the whole number {text[:60]} has more than 64 bits", line)
        if kind == "float" and self._finite and not math.isfinite(value):
            self._refuse(f"{text[:60]} is no finite number", line)
        return value, kind

    def _refuse(self, problem: str, line: int | None = None) -> NoReturn:
        where = "" if line is None else f" at line {line + 1}"
        raise self._error(f"The {self._what} cannot be read{where}: {problem}.")


def refuse_unknown(given: Mapping[str, Any], known: Iterable[str], where: str, error: type[HubmergeError]) -> None:
    """Raises `error` for the first key of `given` that is not in `known`, naming the nearest known one."""
    names = list(known)
    for key in given:
        if key not in names:
            near = nearest(str(key), names)
            hint = f"did you mean {near!r}?" if near else f"known keys: {', '.join(sorted(names))}."
            raise error(f"Unknown key {str(key)[:60]!r} in {where}: {missing_colon(key, given[key]) or hint}")


def check_plain(document: Any, what: str, error: type[HubmergeError]) -> None:
    """Raises `error` where the values that a program or a form gives are none that a document could hold.

    `what` names them in messages ("recipe"). The bounds are those of YAML, but for the number of values.
    """
    waiting, values = [(document, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if depth > MAX_DEPTH or values > MOST_JSON_VALUES:
            raise error(f"The {what} is nested more than {MAX_DEPTH} levels deep, or has too many values.")
        if isinstance(value, Mapping):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str) and ("\0" in value or _SURROGATE.search(value)):
            raise error(f"The {what} cannot be read: text holds a NUL or half of a surrogate pair.")
        elif isinstance(value, str) and has_token(value):
            raise error(f"The {what} holds what looks like an access token, and the result would tell it; take it out.")
        elif isinstance(value, int) and value not in _WHOLE:
            raise error(f"The {what} cannot be read: a whole number has more than 64 bits.")


def expand(path: str | Path, error: type[HubmergeError]) -> Path:
    """`path` with the home folder in place of ~; raises `error` for one that this system cannot have or not look at."""
    with _path_errors(path, "is no path here", error):
        found = Path(path).expanduser()
    require_path(found, error)
    return found


def require_path(path: Path, error: type[HubmergeError]) -> None:
    """Raises `error` where this system cannot have a path, or not look at it; nothing need be there."""
    with _path_errors(path, "is no path here", error), suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)


def make_folder(path: Path, error: type[HubmergeError]) -> None:
    """Makes a folder, where it is not there yet; raises `error` where that cannot be."""
    with _path_errors(path, "cannot be made a folder", error):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def _path_errors(path: str | Path, what: str, error: type[HubmergeError]) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as exc:
        why = str(getattr(exc, "strerror", None) or exc).rstrip(".")
        raise error(f"{shorten(str(path), 100)!r} {what}: {why}.") from None


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none, nor is an integer that no float can hold."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def parse_json(
    source: str | bytes,
    what: str,
    error: type[HubmergeError],
    *,
    finite: bool = True,
    unique: bool = False,
    mend: bool = False,
    largest: int = LARGEST_JSON,
    hint: str = "",
) -> Any:
    """The value of a JSON text.

    `what` names it in messages ("config.json of org/name"), `hint` says what to do ("fetch it again"). Without `finite`
    the Infinity and NaN that Python writes are read; with `unique` a key given twice is refused, where others keep the
    last; with `mend` half of a surrogate pair becomes a question mark, so that one stranger's text among many does not
    spoil the rest. Raises `error` for everything that is not JSON, is too large, too deep, has a whole number of more
    than `MOST_DIGITS` digits or half of a surrogate pair.
    """

    def refuse(problem: str) -> NoReturn:
        raise error(f"{what} cannot be read: {problem}{f'; {hint}' if hint else ''}.")

    try:
        data = source.encode() if isinstance(source, str) else bytes(source)
        if len(data) > largest:
            refuse(f"it has {len(data):,} bytes, and at most {largest:,} are read")
        text = data.decode("utf-8-sig")
    except UnicodeError:
        refuse("it is not UTF-8 text")
    if mend and b"\\u" in data:
        data = _ESCAPES.sub(lambda match: match[0] if match["whole"] else b"?", data)
        text = data.decode("utf-8-sig")
    if problem := _excess(data):
        refuse(problem)
    try:
        return json.loads(
            text,
            parse_int=_whole,
            parse_float=_finite if finite else None,
            parse_constant=_no_constant if finite else None,
            object_pairs_hook=_unique if unique else None,
        )
    except _Unfit as exc:
        refuse(str(exc))
    except json.JSONDecodeError as exc:
        refuse(f"not valid JSON at line {exc.lineno}, column {exc.colno} ({exc.msg})")
    except (ValueError, RecursionError):
        refuse("it is not valid JSON")


def parse_object(source: str | bytes, what: str, error: type[HubmergeError], **options: Any) -> dict[str, Any]:
    """The JSON object in a text; raises `error` for any other value too. Options as of `parse_json`."""
    document = parse_json(source, what, error, **options)
    if not isinstance(document, dict):
        hint = f"; {options['hint']}" if options.get("hint") else ""
        raise error(f"{what} cannot be read: it is not a JSON object{hint}.")
    return document


_KEPT = b'"\\[]{},'
_DROPPED = bytes(set(range(256)) - set(_KEPT))
_STRING = re.compile(rb'"[^"]*"')
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_ESCAPES = re.compile(rb"(?P<whole>\\\\|" + _PAIR.pattern + rb")|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def _excess(data: bytes) -> str | None:
    """What of a JSON text is too much, seen from its brackets and commas alone: no value is built of it yet."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"  ")
        if _HALF.search(data) and _HALF.search(_PAIR.sub(b"", data)):
            return "it holds half of a surrogate pair, which is no character"
        data = data.replace(b'\\"', b"")
    frame = _STRING.sub(b"", data.translate(None, _DROPPED))
    values = frame.count(b",") + frame.count(b"[") + frame.count(b"{")
    if values > MOST_JSON_VALUES:
        return f"it has more than {MOST_JSON_VALUES:,} values"
    depth = max(accumulate(map(_STEP.__getitem__, frame.translate(None, b',"\\'))), default=0)
    return f"it is nested more than {MAX_DEPTH} levels deep" if depth > MAX_DEPTH else None


class _Unfit(Exception):
    pass


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _Unfit(f"it has a whole number of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise _Unfit(f"{digits[:60]} is no finite number")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _Unfit(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Unfit(f"it names {name!r} twice")
            seen.add(name)
    return document
