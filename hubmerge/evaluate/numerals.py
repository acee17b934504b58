"""Numbers in text of any script.

>>> numbers("合計は1,234円、お釣りは二十三円です。")
[Decimal('1234'), Decimal('23')]
"""

import re
import unicodedata
from decimal import Decimal

_DIGITS = {"〇": 0, "零": 0, "一": 1, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_SMALL_UNITS = {"十": 10, "百": 100, "千": 1000}
_BIG_UNITS = {"万": 10**4, "億": 10**8, "兆": 10**12}

# Full-width forms become ASCII one by one: NFKC as a whole would also turn "m²" into "m2".
_PLAIN: dict[int, int | str] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_PLAIN |= dict.fromkeys(map(ord, "−–‒﹣"), "-")
_PLAIN |= dict.fromkeys(map(ord, "٬\u00a0\u202f\u2009"), ",")  # thousands separators in Arabic and French
_PLAIN[ord("٫")] = "."

_KANJI = "".join([*_DIGITS, *_SMALL_UNITS, *_BIG_UNITS])
_UNITS = "".join([*_SMALL_UNITS, *_BIG_UNITS])
_ARABIC = r"\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+"
# A minus is a sign unless something that can be subtracted from stands right before it: "13-7", "GPT-4", "9円-5円"
_MINUEND = r"\dA-Za-z)\]%円個本枚冊人匹台回歳年月日時分秒"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![{_MINUEND}])(?:-|マイナス)[¥$€£]?)?"
    rf"(?P<body>(?:(?:{_ARABIC}|[{''.join(_DIGITS)}]+)?[{_UNITS}])*(?:{_ARABIC}|[{''.join(_DIGITS)}]+)?)"
)
_TOKEN = re.compile(rf"(?P<arabic>{_ARABIC})|(?P<kanji>[{''.join(_DIGITS)}]+)|(?P<unit>[{_UNITS}])")

# A single kanji is often part of a word (一緒, 唯一, 千葉): it is a number where a counter or the clause's end follows.
_COUNTER = re.compile(
    r"\s*(?:[個本枚冊人円つ匹頭台回度歳才年月日週時分秒階杯足着件名倍割箱袋組羽粒束玉軒通点問題]"
    r"|ドル|ユーロ|セント|ポンド|元|キロ|メートル|センチ|グラム|リットル|パーセント|セット|ページ|[%A-Za-z]|か所|ヶ月|か月)"
)
_CLAUSE_END = re.compile(r"\s*(?:です|でし|だ|である|とな|にな|[。、.,!?)）」]|$)")
_VAGUE = tuple("数何幾")
_WORDS = ("十分", "万一", "万が一", "八百屋", "千万に")


def numbers(text: str) -> list[Decimal]:
    """Every number in `text`, left to right.

    Reads any script's decimal digits, full-width forms, thousands separators ("1,234"), decimals, signs, and Japanese
    and Chinese numerals, pure (二十三, 二〇二四) or mixed (1万2千, 3.5億). "13-7" holds 13 and 7, not -7. A point is
    the decimal mark and a comma the thousands separator; a fraction "1/2" is two numbers.
    """
    text = text.translate(_PLAIN).replace("{,}", ",")  # LaTeX writes 1{,}234
    found: list[Decimal] = []
    for match in _NUMBER.finditer(text):
        body = match["body"]
        if not body or not _is_number(text, match.start("body"), match.end("body")):
            continue
        value = _value(body)
        if value is not None:
            found.append(value.copy_negate() if match["sign"] else value)
    return found


def _is_number(text: str, start: int, stop: int) -> bool:
    body = text[start:stop]
    if any(char not in _KANJI for char in body):
        return True
    before, after = text[max(0, start - 2) : start], text[stop:]
    if before.endswith(_VAGUE) or any(word in before + body + after[:2] for word in _WORDS):
        return False
    if len(body) > 1 or _COUNTER.match(after):
        return True
    follows_kanji = bool(before) and unicodedata.name(before[-1], "").startswith("CJK UNIFIED")
    return not follows_kanji and bool(_CLAUSE_END.match(after))


def _value(body: str) -> Decimal | None:
    """The value of "1,234", "二十三", "1万2千"; None for units that nothing multiplies (万, 億)."""
    total = section = Decimal(0)
    current: Decimal | None = None
    for token in _TOKEN.finditer(body):
        if token["arabic"]:
            current = Decimal(token["arabic"].replace(",", ""))
        elif token["kanji"]:
            current = Decimal("".join(str(_DIGITS[char]) for char in token["kanji"]))
        elif token["unit"] in _SMALL_UNITS:
            section += (Decimal(1) if current is None else current) * _SMALL_UNITS[token["unit"]]
            current = None
        else:
            if current is None and not section:
                return None
            total += (section + (current or 0)) * _BIG_UNITS[token["unit"]]
            section, current = Decimal(0), None
    # Decimal rounds sums, not what is read: an id of 40 digits stays itself.
    return current if current is not None and not (total or section) else total + section + (current or 0)
