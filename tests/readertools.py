"""Documents that no reader may trip over, and models that have them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hubmerge.errors import HubmergeError
from hubmerge.recipe import Recipe

DIGITS = "9" * 5_000


NOT_JSON = {
    "empty": b"",
    "torn": b'{"a": [1, 2',
    "no object": b"[]",
    "null": b"null",
    "a number": b"7",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "digits": b'{"a": ' + DIGITS.encode() + b"}",
    "half a character": rb'{"a": "\ud800"}',
    "half a key": rb'{"\udfff": 1}',
    "not text": b'\xff\xfe{"a": 1}',
    "nul": b"\0" * 20,
}


Model = Callable[..., Path]


def changing(siblings: Mapping[str, Path], tmp_path: Path) -> Model:
    """A function `(changes, name="model")` that gives a copy of a tiny model with files changed.

    A change is bytes, a mapping whose values replace those of the file's JSON object, or None to take the file away.
    """

    def build(changes: dict[str, Any], name: str = "model", like: str = "math") -> Path:
        folder = tmp_path / name
        shutil.copytree(siblings[like], folder)
        for file, change in changes.items():
            if change is None:
                (folder / file).unlink()
            elif isinstance(change, bytes):
                (folder / file).write_bytes(change)
            else:
                before = json.loads((folder / file).read_bytes()) if (folder / file).exists() else {}
                (folder / file).write_text(json.dumps(before | change))
        return folder

    return build


def linear(*folders: Path | str, **settings: Any) -> Recipe:
    models = [{"model": str(folder), "parameters": {"weight": 1.0}} for folder in folders]
    return Recipe.from_dict({"merge_method": "linear", "models": models, **settings})


def refused(call: Callable[[], Any], *, said: str = "", error: type[HubmergeError] = HubmergeError) -> None:
    """`call` ends in an error that is made of sentences."""
    with pytest.raises(error) as caught:
        call()
    lines = str(caught.value).split("\n")
    assert said in str(caught.value)
    assert all(0 < len(line) <= 500 and line.isprintable() for line in lines), lines
