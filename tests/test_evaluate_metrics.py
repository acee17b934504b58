"""Numbers in any script, languages, and intervals against published values."""

from decimal import Decimal
from math import comb

import pytest

from hubmerge.evaluate.language import probability
from hubmerge.evaluate.metrics import exact_match, exact_number
from hubmerge.evaluate.numerals import numbers
from hubmerge.evaluate.statistics import paired_interval, paired_p, wilson


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,234円", ["1234"]),
        ("1,234,567.89", ["1234567.89"]),
        ("1,23,456 रुपये", ["123456"]),
        ("3, 4 and 12,34", ["3", "4", "12", "34"]),
        ("1,2,3", ["1", "2", "3"]),
        ("1\u202f234 euros", ["1234"]),
        ("20.トムは", ["20"]),
        ("0.5 or .5", ["0.5", "0.5"]),
        ("13-7=6.", ["13", "7", "6"]),
        ("10 - 20", ["10", "20"]),
        ("答えは-5です", ["-5"]),
        ("−5", ["-5"]),
        ("－５．５", ["-5.5"]),
        ("-$1,200", ["-1200"]),
        ("GPT-4 と３個", ["4", "3"]),
        ("9円-5円=4円", ["9", "5", "4"]),
        ("気温はマイナス5度", ["-5"]),
        ("10マイナス3は7", ["10", "3", "7"]),
        ("x = −１，２３４．５", ["-1234.5"]),
        ("$1{,}234$", ["1234"]),
        ("x²は4", ["4"]),
        ("١٢٣ و 4", ["123", "4"]),
        ("二十三個", ["23"]),
        ("百五", ["105"]),
        ("一万二千三百", ["12300"]),
        ("二〇二四年", ["2024"]),
        ("1万2千円", ["12000"]),
        ("3.5億", ["350000000"]),
        ("2千円と五円", ["2000", "5"]),
        ("答えは八です。", ["8"]),
        ("りんごを三つ", ["3"]),
        ("二十三", ["23"]),
        # kanji that are part of a word are no numbers
        ("一緒に、唯一の千葉で、万一", []),
        ("もう十分です。数十個と何千人", []),
        ("答えは20です。一番です", ["20"]),
        ("", []),
    ],
)
def test_numbers(text: str, expected: list[str]) -> None:
    assert numbers(text) == [Decimal(number) for number in expected]


def test_numbers_survives_long_digit_runs() -> None:
    assert numbers("九" * 10_000) == [Decimal("9" * 10_000)]
    assert len(numbers("1,2," * 20_000)) == 40_000


def test_exact_number_takes_the_last_of_both() -> None:
    assert exact_number("13+7=20. トムは今リンゴを20個持っています。", "20")
    assert exact_number("二十個", "20.0")
    assert exact_number("#### 18", "so 9 * 2 = 18\n#### 18")
    assert not exact_number("20個ではなく21個", "20")
    assert not exact_number("わかりません", "20")


def test_exact_match_ignores_case_width_and_spaces() -> None:
    assert exact_match("  ＹＥＳ\n", "yes")
    assert not exact_match("yes!", "yes")


@pytest.mark.parametrize(
    ("text", "japanese"),
    [
        ("13+7=20. トムは今リンゴを20個持っています。", True),
        ("7*6=42. 切手は全部で42枚あります。", True),
        ("13+7=20. Tom has 20 apples now.", False),
        ("There are 42 stamps in all.", False),
        ("13+7=20.", False),
        ("", False),
    ],
)
def test_language(text: str, japanese: bool) -> None:
    assert (probability(text, "ja") > 0.5) is japanese


def test_language_knows_others_and_refuses_unknown_codes() -> None:
    assert probability("আমার কাছে ২০টি আপেল আছে।", "bn") > 0.5
    assert probability("20", "en") == 0
    with pytest.raises(KeyError):
        probability("text", "xx")


def test_interval_has_wilsons_known_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    for (successes, n), bounds in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(successes, n) == pytest.approx(bounds, abs=5e-5)
    assert wilson(20, 20)[1] == 1.0


def test_paired_p_is_the_binomial_test_on_discordant_pairs() -> None:
    a = dict(enumerate([True] * 9 + [False] * 1 + [True] * 50))
    b = dict(enumerate([False] * 9 + [True] * 1 + [True] * 50))
    assert paired_p(a, b) == pytest.approx(2 * (comb(10, 0) + comb(10, 1)) / 2**10)
    assert paired_p(a, b) == paired_p(b, a)
    assert paired_p(a, a) == 1.0


def test_paired_interval_covers_the_difference() -> None:
    a, b = dict(enumerate([True] * 60 + [False] * 40)), dict(enumerate([True] * 30 + [False] * 70))
    low, high = paired_interval(a, b, seed=1)
    assert 0.19 < low < 0.3 < high < 0.41  # normal approximation: .3 +- 1.96 * sqrt(.21 / 100)
    assert paired_interval(a, b, seed=1) == (low, high)
    assert paired_interval(a, a) == (0.0, 0.0)
