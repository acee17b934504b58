"""What others write becomes plain values or one sentence, and no sentence leaks or steers a terminal."""

import pickle
from typing import Any

import pytest

from hubmerge.documents import MAX_DEPTH, MAX_NODES, load_mapping, parse_json, parse_object
from hubmerge.errors import HubmergeError, RecipeError, SourceError
from hubmerge.text import has_token, hide_tokens, printable, shorten

LONG = "hf_" + "Abc123" * 6


def doubled(first: str, then: str) -> str:
    """Twenty lines of YAML, each of which holds the one before twice."""
    return f"a0: &a0 {first}\n" + "".join(f"a{n}: &a{n} {then.format(f'a{n - 1}')}\n" for n in range(1, 20))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x: [", "not valid YAML at line 2"),
        ("```yaml\nx: 1\n```\n", "keep what lies between the two lines of ```"),
        ("x:\n\ty: 1\n", "begin lines with spaces"),
        ("x: !!int y", "at line 1: 'y' is no int"),
        ("x: !!bool foo", "'foo' is no bool"),
        ("x: !!float foo", "'foo' is no float"),
        ("x: !!int ''", "'' is no int"),
        ("x: !!binary aGk=", "tag .*binary is not read"),
        ("x: !!python/object:os.system y", "tag .* is not read"),
        ("x: !!set {a, b}", "tag .* is not read"),
        (f"x: {10**399}", "more than 64 bits"),
        (f"x: {'9' * 5000}", "is no int"),
        (f"x: 0x{'f' * 200_000}", "is no int"),
        (f"x: {2**64}", "more than 64 bits"),
        ("x: 1.0e+999", "no finite number"),
        ("x: .nan", "no finite number"),
        ("x: .inf", "no finite number"),
        ('x: "\\ud800"', "surrogate|invalid Unicode"),
        ("x: \ud800", "surrogate"),
        ('x: "\\0"', "NUL"),
        ("x: \x07", "not valid YAML"),
        ("x: 1\nx: 2", "given twice .line 2"),
        ("x: 1\n'x': 2", "given twice"),
        ("? [a]\n: 1", "a key must be text"),
        ("? {a: b}\n: 1", "a key must be text"),
        ("a: &a 1\n*a : 2", "a key must be text"),
        ("x: &a [*a]", "holds itself"),
        ("x: &a {y: *a}", "holds itself"),
        ("x: *nothing", "nothing is called|undefined alias"),
        ("<<: 1", "merge key << takes a mapping"),
        ("x: 1\n---\ny: 2", "a second document"),
        (f"x: {'[' * 100_000}", "levels deep|nesting depth"),
        (f"x: {'{a: ' * 5_000}", "levels deep|nesting depth"),
        (f"x: {'[' * 100}1{']' * 100}", "levels deep"),
        (doubled("[x, x]", "[*{0}, *{0}]"), "expands to more"),
        (doubled("{x: 1}", "{{<<: [*{0}, *{0}]}}"), "expands to more"),
        (f"x: [{'1, ' * MAX_NODES}]", "expands to more"),
        ("x" * 1_000_001, "characters"),
        ("[1]", "must be a mapping"),
        ("", "it holds nothing"),
        ("---\n", "it holds NoneType|it holds nothing"),
    ],
)  # fmt: skip
def test_yaml_is_refused_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        load_mapping(text, "recipe", RecipeError)
    assert len(str(caught.value)) <= 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x: 2026-13-01", {"x": "2026-13-01"}),
        ("x: 2026-11-29 10:00:00", {"x": "2026-11-29 10:00:00"}),
        ("1: a\nno: b\n~: c\n2026-01-01: d", {"1": "a", "no": "b", "~": "c", "2026-01-01": "d"}),
        ("x: [1, 0x1f, 1_000, -7, 18446744073709551615]", {"x": [1, 31, 1000, -7, 2**64 - 1]}),
        ("x: [1:30, 010, -1:2.5, 0, 0.5, !!int 010]", {"x": ["1:30", "010", "-1:2.5", 0, 0.5, 8]}),
        ("x: [1.5, -2.0e+3, yes, off, ~, null, '1', ! 1]", {"x": [1.5, -2000.0, True, False, None, None, "1", "1"]}),
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
        ("a: {<<: [{x: 1}, {x: 2, z: 3}]}", {"a": {"x": 1, "z": 3}}),
        ("a: &a [1]\nb: *a", {"a": [1], "b": [1]}),
        ("a: &k text\n*k : 1", {"a": "text", "text": 1}),
        ("\ufeffx: !!str 1", {"x": "1"}),
        ("x: |\n  a\n  b\n", {"x": "a\nb\n"}),
    ],
)
def test_yaml_becomes_plain_values(text: str, value: dict[str, Any]) -> None:
    assert load_mapping(text, "recipe", RecipeError) == value


def test_not_a_number_only_where_it_may_stand() -> None:
    assert load_mapping("x: .inf", "card", SourceError, finite=False) == {"x": float("inf")}
    assert parse_json("[Infinity, 1e999]", "it", SourceError, finite=False) == [float("inf")] * 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON at line 1"),
        ('{"x": }', "column 7"),
        ("[" * 100_000, f"more than {MAX_DEPTH} levels"),
        ('{"a":' * 100_000, "levels"),
        (f'{{"x": {"7" * 400}}}', "400 digits"),
        ("9" * 5_000, "5,000 digits"),
        *((number, "no finite number") for number in ("1e999", "[12E0999]", "-1.0E+309", "9" * 400 + ".5")),
        ("NaN", "NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        (r'"\ud800"', "surrogate"),
        (r'"\\\ud800"', "surrogate"),
        (r'"\ud83d\\\ude00"', "surrogate"),
        ('"\ud800"', "not UTF-8"),
        (b'"\xff"', "not UTF-8"),
        ("[" + "[]," * 5_000_000 + "1]", "values"),
        ('{"x": "a\nb"}', "not valid JSON"),
    ],
)
def test_json_is_refused_in_one_sentence(text: str | bytes, says: str) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        parse_json(text, "config.json of org/name", SourceError, hint="fetch it again")
    assert str(caught.value).endswith("; fetch it again.")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"\xef\xbb\xbf[1]", [1]),
        (r'"\ud83d\ude00"', "😀"),
        (r'"\\ud800 [[["', "\\ud800 [[["),
        (r'{"a\"[": "]]\\", "b": [{}]}', {'a"[': "]]\\", "b": [{}]}),
        (f"[{10**30}]", [10**30]),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, None),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_json_becomes_plain_values(text: str | bytes, value: Any) -> None:
    document = parse_json(text, "it", SourceError)
    assert value is None or document == value


def test_json_objects() -> None:
    with pytest.raises(SourceError, match="not a JSON object; save it again"):
        parse_object("[1]", "it", SourceError, hint="save it again")
    with pytest.raises(SourceError, match="names 'a' twice"):
        parse_object('{"a": 1, "a": 2}', "it", SourceError, unique=True)


@pytest.mark.parametrize(
    "token",
    [
        LONG,
        "hf_oauth_" + "aB3" * 10,
        "hf_jwt_eyJhbGciOi.eyJzdWIiOi.abc-_",
        "api_org_" + "x1Y" * 12,
        "Bearer " + "a1.b2_" * 6,
        "bearer " + "A" * 20 + "==",
        "sk-proj-" + "aB3_" * 10,
        "ghp_" + "a" * 36,
        "github_pat_11AB" + "c" * 30,
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    ],
)
def test_tokens_are_seen_and_hidden(token: str) -> None:
    for text in (token, f"x={token}&y", f"https://user:{token}@host/", f"/models/{token}", f'"{token}"'):
        assert has_token(text)
        hidden = hide_tokens(text)
        assert token not in hidden
        assert token[-12:] not in hidden
        assert hide_tokens(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    ["org/hf_bert", "./hf_models/x", "org/sk-learn-models-for-everything", "Bearer of news", "the hub", "a" * 300],
)
def test_names_are_no_tokens(text: str) -> None:
    assert not has_token(text)
    assert "/" not in text or hide_tokens(text) == text


def test_short_tokens_of_a_local_hub_are_hidden_in_errors() -> None:
    assert str(HubmergeError("sent hf_alice and Bearer hf_bob")) == "sent hf_*** and Bearer ***"


def test_errors_are_printable_and_short() -> None:
    error = HubmergeError("bad name 'a\x1b[31m\u202e\ud800\r' in it; " + "x" * 10_000 + "; do that.\nsecond\x07 line")
    first, second = str(error).split("\n")
    assert first.startswith(r"bad name 'a\x1b[31m\u202e\ud800\r' in it; ")
    assert first.endswith("x; do that.")
    assert len(first) == 500
    assert second == r"second\x07 line"
    str(error).encode()
    for kept in (error, RecipeError(f"{LONG} " * 300)):
        again = pickle.loads(pickle.dumps(kept))
        assert type(again) is type(kept)
        assert str(again) == str(kept)
        assert "Abc123" not in str(kept)


def test_hostile_text_is_cleaned_at_once() -> None:
    for part in ("eyJ", "hf_", "sk-", "Bearer ", "hf_oauth_-", "eyJaaaaaaaaa.", " "):
        str(HubmergeError(part * (2_000_000 // len(part))))
        has_token(part * (200_000 // len(part)))


def test_text_helpers() -> None:
    assert printable("ä 日本 👩\u200d👩 a\tb\n") == "ä 日本 👩\u200d👩 a\\tb\\n"
    assert shorten("abc", 3) == "abc"
    assert len(shorten("a" * 999, 100)) == 100
