"""What makes two examples the same whatever their spelling: width, case, spaces and punctuation do not count.

>>> fingerprint("Ｗhat is 1,200 + 3?") == fingerprint("what  is 1200 +3")
True
>>> fingerprint("What is 3-2?") == fingerprint("What is 32?")
False
"""

import re
import unicodedata

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Between digits, and for a sign, these carry meaning: 1.5, 3-2, 12:30, 3 2. Elsewhere they are punctuation.
_MEANT = re.compile(r"(?<=\d)\s*([-./:*%])\s*(?=\d)|(?<!\w)(-)(?=\d)|(?<=\d)(\s)\s*(?=\d)")
_DASHES = dict.fromkeys(map(ord, "−–‒﹣－"), "-")


def fingerprint(text: str) -> str:
    """`text` reduced by NFKC and casefold, without white space and punctuation except where digits give it meaning."""
    plain = unicodedata.normalize("NFKC", text.translate(_DASHES)).casefold()
    plain = _THOUSANDS.sub("", plain)
    kept, at = [], 0
    for match in _MEANT.finditer(plain):
        kept += [_letters(plain[at : match.start()]), match[1] or match[2] or " "]
        at = match.end()
    found = "".join([*kept, _letters(plain[at:])])
    return found or " ".join(plain.split())


class _Kept(dict[int, int | None]):
    """What becomes of each character, asked once: itself, or nothing."""

    def __missing__(self, code: int) -> int | None:
        char = chr(code)
        self[code] = None if char.isspace() or unicodedata.category(char)[0] in "PC" else code
        return self[code]


_KEPT = _Kept()


def _letters(text: str) -> str:
    return text.translate(_KEPT)
