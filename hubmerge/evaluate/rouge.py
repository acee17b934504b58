"""ROUGE-L: how much of a reference an answer says in the same order (Lin 2004, https://aclanthology.org/W04-1013).

>>> rouge_l("the cat sat on the mat", "the cat lay on the mat")
0.8333333333333334
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..errors import TaskError

_KANA = re.compile("[\u3040-\u30ff]")
_WORD = re.compile(
    r"[\u3400-\u4dbf\u4e00-\u9fff]"  # a Chinese character is a word of its own
    r"|(?:(?![\u3400-\u4dbf\u4e00-\u9fff])\w)+"
)


def rouge_l(text: str, answer: str, *, japanese: bool | None = None) -> float:
    """The F-measure of the longest common subsequence of tokens, 0..1 (beta 1, no stemming, as rouge-score gives it).

    japanese: whether both are cut into words by MeCab; by default where the answer holds kana. Raises `TaskError`
    where that needs the extra `japanese`, which is not installed.
    """
    if japanese is None:
        japanese = bool(_KANA.search(answer))
    words, expected = tokens(text, japanese=japanese), tokens(answer, japanese=japanese)
    common = _longest_common(words, expected)
    return 2 * common / (len(words) + len(expected)) if common else 0.0


def tokens(text: str, *, japanese: bool) -> list[str]:
    """The words of `text`, lower case, of one width, without punctuation: MeCab's with UniDic, or runs of letters."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if not japanese:
        return _WORD.findall(text)
    return [word.surface for word in mecab()(text) if _WORD.search(word.surface)]


@lru_cache(maxsize=1)
def mecab() -> Any:
    """The MeCab tagger of fugashi with the dictionary of unidic-lite, both inside their packages."""
    try:
        import unidic_lite
        from fugashi import GenericTagger
    except ImportError:
        raise TaskError(
            "ROUGE-L of Japanese text needs a tokenizer that is not installed; run pip install 'hubmerge[japanese]'."
        ) from None
    return GenericTagger(f'-r /dev/null -d "{unidic_lite.DICDIR}"')


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, in memory of one row."""
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for index, other in enumerate(b, start=1):
            above = row[index]
            row[index] = diagonal + 1 if word == other else max(above, row[index - 1])
            diagonal = above
    return row[-1]
