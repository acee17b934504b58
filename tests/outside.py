"""Documents of others as hypothesis makes them: a valid one, with a few things changed that a program may trip over."""

import copy
import json
import struct
from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import strategies as st

from hubmerge.errors import HubmergeError
from hubmerge.text import LONGEST_LINE, has_token, printable

MOST_LINES = 40
"""Of one error, each a problem of its own."""

_DEEP: Any = "x"
for _ in range(300):
    _DEEP = [_DEEP]

_TEXT = st.sampled_from(
    ["", " ", "x", "a" * 300, "+" * 1_000, "a/b@c+d", "../x", "/x", "~", "~x", ".", "\0", "\x1b[31m", "\u202e",
     "\ud800", "日本", "{", "{x}", "{{", "{% for", "%s", "no", "1e999", "[/red]", "[", "hf_" + "aB3" * 12, "\ufeff",
     "-1", "nan", "a\nb", "auto", "cpu", "base", "union", "float16", "linear", "*",
     "a" * 100_000, "layers.99999999999.x"]
)  # fmt: skip
_NUMBER = st.sampled_from(
    [0, 1, -1, 2, 3, 64, 255, 65536, 2**31, 2**53, 2**63, 2**64, -(2**64), 10**30, 10**99, 10**400, int("9" * 4_000),
     0.5, -0.5, 1.5, 1e-300, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), True, False]
)  # fmt: skip
ODD = st.one_of(
    st.none(),
    _TEXT,
    _NUMBER,
    _NUMBER,
    st.sampled_from([[], {}, [[]], [None], [{}], {"": None}, {"x": {}}, [1, "x"], _DEEP, ["x"] * 1_000, {"\ud800": 1}]),
    st.text(max_size=20),
    st.integers(),
    st.floats(allow_subnormal=False),
)
"""What may stand where anything else was expected."""


def _odd(draw: st.DrawFn) -> Any:
    value = draw(ODD)
    return value if value is _DEEP else copy.deepcopy(value)  # it may be changed once more


_SMALL = st.floats(-2, 2, allow_subnormal=False)
_LIKE = {
    bool: st.booleans(),
    int: _NUMBER | st.integers(0, 100),
    float: _NUMBER | st.floats(-2, 2, allow_subnormal=False),
    str: _TEXT,
}
_KINDS = st.sampled_from(["like"] * 6 + ["swap", "swap", "swap", "remove", "add", "rename", "repeat", "wrap", "move"])


def _places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [above]
    for key, inner in items:
        if inner is not _DEEP:
            found += _places(inner, (*above, key))
    return found


def _at(root: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        root = root[key]
    return root


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """`document` with up to three places changed, mostly one."""
    root = [json.loads(json.dumps(document))]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2, 2, 3]))):
        places = _places(root)[1:]
        place = draw(st.sampled_from(places))
        holder, key, how = _at(root, place[:-1]), place[-1], draw(_KINDS)
        if how == "like" and type(holder[key]) in _LIKE:
            holder[key] = draw(_LIKE[type(holder[key])])
        elif how == "remove" and place != (0,):
            del holder[key]
        elif how == "add" and isinstance(holder[key], dict):
            holder[key][draw(_TEXT)] = _odd(draw)
        elif how == "add" and isinstance(holder[key], list):
            holder[key].append(_odd(draw))
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(_TEXT)] = holder.pop(key)
        elif how == "repeat" and isinstance(holder[key], list):
            holder[key] = holder[key] * 3
        elif how == "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"x": holder[key]}, [holder[key]] * 2]))
        elif how == "move":
            holder[key] = json.loads(json.dumps(_at(root, draw(st.sampled_from(places)))))
        else:
            holder[key] = _odd(draw)
        if root[0] is _DEEP:
            break
    return root[0]


_ODD_BYTES = st.sampled_from(
    [b"\xff", b'"', b"[" * 5_000, b"[" * 100_000, b'{"a":' * 5_000, b"9" * 400, b"9" * 5_000, b"NaN", b"-Infinity",
     b"1e999", b"\\ud800", b"\\u0000", b",", b"\0", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\x1b[2J", b"\n", b"{}",
     b"null,"]
)  # fmt: skip
_CODES = st.sampled_from(["utf-8-sig", "utf-16", "utf-32-le", "latin-1"])


@st.composite
def torn(draw: st.DrawFn, text: bytes) -> bytes:
    """`text` as it is, cut short, with odd bytes in it, a part of it repeated or left out, or in another encoding."""
    how = draw(st.sampled_from(["whole"] * 16 + ["cut", "code", "odd", "odd", "repeat", "leave"]))
    if how == "whole" or not text:
        return text
    at = draw(st.integers(0, len(text) - 1))
    if how == "cut":
        return text[:at]
    if how == "code":
        return text.decode("utf-8", "replace").encode(draw(_CODES), "replace")
    if how == "odd":
        return text[:at] + draw(_ODD_BYTES) + text[at + draw(st.integers(0, 1)) :]
    end = min(len(text), at + draw(st.integers(1, 60)))
    return text[:end] + text[at:] if how == "repeat" else text[:at] + text[end:]


def as_json(value: Any, ascii_only: bool = True) -> bytes:
    """JSON as others may write it: NaN, half surrogate pairs and all."""
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


_JSON: st.SearchStrategy[Any] = st.recursive(ODD, lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner))


def json_bytes(*documents: Any) -> st.SearchStrategy[bytes]:
    """JSON texts near one of `documents`; a few are anything at all."""
    near = st.sampled_from(documents).flatmap(changed)
    texts = st.builds(as_json, st.one_of([near] * 20 + [_JSON]), st.booleans()).flatmap(torn)
    return st.one_of([texts] * 20 + [st.binary(max_size=50)])


_ODD_YAML = st.sampled_from(
    ["!!int x", "!!bool foo", "2026-13-01", "2026-11-29 10:00:00", "!!python/object:os.system x", "&a [*a]", "*a", "0x",
     "0b", "1:99:99", "!!binary x", "!!set {a}", "!!timestamp x", "? [a]", "[" * 3_000, ".inf", "~", "<<: 1", "no", "|",
     "'", "!!float x", "!x y", "&a {<<: *a}", "9" * 400, "9" * 5_000, "0o9", "=", "<<", "- x", "%YAML 9", "---",
     "...", "\t"]
)  # fmt: skip


@st.composite
def yaml_bytes(draw: st.DrawFn, *documents: Any) -> bytes:
    """YAML texts near one of `documents`: JSON is YAML, and so is the block style; some hold what only YAML knows."""
    value = draw(st.sampled_from(documents).flatmap(changed) if draw(st.integers(0, 20)) else _JSON)
    said = json.dumps(value, ensure_ascii=False) if draw(st.booleans()) else _dumped(value)
    if draw(st.integers(0, 7)) == 0:
        starts = [at for at, letter in enumerate(said) if letter == ":"][:200] or [0]
        at = draw(st.sampled_from(starts))
        rest = said[at + 1 :]
        said = f"{said[: at + 1]} {draw(_ODD_YAML)}\n{rest if draw(st.booleans()) else rest.partition(chr(10))[2]}"
    return draw(torn(said.encode("utf-8", "surrogatepass")))


def _dumped(value: Any) -> str:
    try:
        return yaml.safe_dump(value, allow_unicode=True)
    except (yaml.YAMLError, RecursionError, ValueError):
        return json.dumps(value)


@st.composite
def safetensors(draw: st.DrawFn, file: bytes) -> bytes:
    """Safetensors files near `file`: with another header, another length, or data cut short."""
    length = struct.unpack("<Q", file[:8])[0]
    header, data = json.loads(file[8 : 8 + length]), file[8 + length :]
    said = draw(json_bytes(header))
    stated = draw(st.sampled_from([len(said)] * 8 + [0, 7, len(said) - 1, len(said) + 1, 2**40, 2**64 - 1]))
    kept = draw(st.sampled_from([len(data)] * 5 + [0, len(data) - 1, len(data) // 2]))
    return struct.pack("<Q", max(0, stated)) + said + data[:kept]


def judge(call: Callable[[], object]) -> bool:
    """Whether `call` succeeded; False where it said a sentence. Every other end is raised, as a failure."""
    try:
        call()
    except HubmergeError as exc:
        text = str(exc)
        lines = text.split("\n")
        assert text.strip(), "an error without a word"
        assert len(lines) <= MOST_LINES, f"{len(lines)} lines: {lines[0]}"
        for line in lines:
            assert len(line) <= LONGEST_LINE, f"{len(line)} characters: {line[:80]}"
            assert printable(line) == line, f"not printable: {line!r}"
            assert not has_token(line), f"a token: {line}"
        return False
    return True
