"""The fields of others' JSON that hubmerge computes with, and what each may hold: looked at once, when it is read.

Null stands for a field that is not given. What is in no table here is only compared, copied or left to transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..documents import is_number
from ..errors import SourceError


@dataclass(frozen=True)
class Kind:
    """What a field may hold: in `words`, and as a test."""

    words: str
    fits: Callable[[Any], bool]


def _whole(most: int, least: int = 0) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_number, value.values()))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _ids(value: Any) -> bool:
    fits = _whole(2**63 - 1, -(2**63))
    return all(map(fits, value)) if isinstance(value, list) else fits(value)


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("text", lambda value: isinstance(value, str))
TEXTS = Kind("a list of text", _texts)
SIZE = Kind("a whole number", _whole(2**53))
LAYERS = Kind("a number of layers", _whole(99_999))
NUMBER = Kind("a number", is_number)
NUMBERS = Kind("numbers by names", _numbers)
TOKENS = Kind("the number of a token, or a list of them", _ids)
PART = Kind("an object", lambda value: isinstance(value, dict))

SPECIAL_TOKENS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), TOKENS)

CONFIG: Mapping[str, Kind] = {
    "model_type": TEXT,
    "architectures": TEXTS,
    "text_config": PART,
    "vocab_size": SIZE,
    "tie_word_embeddings": FLAG,
    "use_sliding_window": FLAG,
    "max_window_layers": SIZE,
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers"), LAYERS
    ),
    **SPECIAL_TOKENS,
}
"""config.json; the same fields of its text_config."""

ADAPTER: Mapping[str, Kind] = {
    "peft_type": TEXT,
    "base_model_name_or_path": TEXT,
    "r": SIZE,
    "lora_alpha": NUMBER,
    "rank_pattern": NUMBERS,
    "alpha_pattern": NUMBERS,
    "use_rslora": FLAG,
    "fan_in_fan_out": FLAG,
}
"""adapter_config.json."""


def check_fields(document: Mapping[str, Any], fields: Mapping[str, Kind], what: str, hint: str) -> None:
    """Raises `SourceError` for the first of the `fields` that holds something else than it may.

    `what` names the document in messages ("config.json of org/name"), `hint` says what to do.
    """
    for name, kind in fields.items():
        value = document.get(name)
        if value is not None and not kind.fits(value):
            raise SourceError(
                f"{what} cannot be read: {name} should be {kind.words}, and is {str(value)[:60]!r}; {hint}."
            )
