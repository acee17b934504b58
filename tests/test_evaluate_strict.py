"""The metric strict_words, which neither other languages nor other orders please."""

import pytest

from hubmerge.errors import TaskError
from hubmerge.evaluate.strict import scripts, strict_words
from hubmerge.evaluate.task import load_task


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("それは赤いリンゴです。", "赤いリンゴ", True),
        ("赤", "赤", True),
        ("赤と青です", "青", True),
        ("リンゴは赤い。", "赤いリンゴ", False),
        ("それは赤い apple です", "赤い", False),
        ("それは青いリンゴです。", "赤いリンゴ", False),
        ("赤いリンゴ красный", "赤いリンゴ", False),
        ("ＯＫ、赤いリンゴです", "赤いリンゴ", False),
        ("3個の赤いリンゴ", "3個", True),
        ("TVです", "TV", False),
        ("TV", "TV", True),
        ("それはTVです", "これはTV", False),
        ("A RED ball!", "red ball", True),
        ("", "red", False),
        ("redder balls", "red ball", False),
    ],
)
def test_the_right_words_and_nothing_foreign(text: str, answer: str, right: bool) -> None:
    if any("\u3040" <= sign <= "\u30ff" for sign in text + answer):
        pytest.importorskip("fugashi")
    assert strict_words(text, answer) is right


def test_kanji_and_kana_are_one_script() -> None:
    assert scripts("赤いリンゴ々ー 12!") == {"JAPANESE"} and scripts("été Жук ｱ") == {"LATIN", "CYRILLIC", "JAPANESE"}


def test_an_answer_without_words_is_none() -> None:
    rows = [{"question": "q", "answer": "..."}]
    with pytest.raises(TaskError, match="row 1 of the test rows holds no word"):
        load_task({"examples": {"test": rows}, "metric": "strict_words"})
