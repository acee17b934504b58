"""The right words and nothing foreign: a metric that a search cannot please with words of any language.

>>> strict_words("It is a red ball.", "red ball"), strict_words("It is a 赤い ball", "red ball")
(True, False)
>>> strict_words("a ball that is red", "red ball")  # in another order it is another answer
False
"""

import re
import unicodedata

from .rouge import tokens

_KANA = re.compile("[\u3040-\u30ff]")
# Written together; an answer of a few letters has one of them alone.
_TOGETHER = ("HIRAGANA", "KATAKANA", "CJK", "IDEOGRAPHIC")


def strict_words(text: str, answer: str) -> bool:
    """Whether `text` holds the words of `answer` in their order, and no letter of a script that the answer has not.

    Words are cut as for ROUGE-L (rouge.py): where the answer or the text holds kana, by MeCab. Kanji and kana are one
    script. Raises `TaskError` where MeCab is needed and not installed.
    """
    if not scripts(text) <= scripts(answer):
        return False
    japanese = bool(_KANA.search(answer) or _KANA.search(text))
    found = iter(tokens(text, japanese=japanese))
    return all(word in found for word in tokens(answer, japanese=japanese))


def scripts(text: str) -> frozenset[str]:
    """The scripts that the letters of a text are of, by Unicode's names: {"LATIN"}, {"JAPANESE"} for kanji and kana."""
    letters = {letter for letter in unicodedata.normalize("NFKC", text) if letter.isalpha()}
    names = {re.split("[ -]", unicodedata.name(letter, "unknown"), maxsplit=1)[0] for letter in letters}
    return frozenset("JAPANESE" if name in _TOGETHER else name for name in names)


def has_words(answer: str) -> bool:
    """Whether an answer has a word at all: letters or digits."""
    return any(sign.isalnum() for sign in answer)
