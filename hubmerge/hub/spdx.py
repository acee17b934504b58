"""Licences as SPDX writes them, in the Hub's words: https://spdx.org/licenses, one or an expression of several.

>>> alternatives("MIT OR (Apache-2.0 AND GPL-3.0-or-later)")
(('mit',), ('apache-2.0', 'gpl-3.0'))
>>> alternatives("llama3.1")
(('llama3.1',),)
"""

import re

_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_MOST = 16
"""Alternatives that are told apart; nobody writes more."""

_HUB = {
    "bsd-2-clause-patent": "bsd-2-clause",
    "gpl-1.0+": "gpl",
    "gpl-2.0+": "gpl-2.0",
    "gpl-3.0+": "gpl-3.0",
    "lgpl-2.1+": "lgpl-2.1",
    "lgpl-3.0+": "lgpl-3.0",
    "agpl-3.0+": "agpl-3.0",
    "apache 2.0": "apache-2.0",
    "apache2.0": "apache-2.0",
    "apache-2": "apache-2.0",
    "gpl3": "gpl-3.0",
    "gplv3": "gpl-3.0",
}
"""Other spellings of the Hub's identifiers."""

Alternatives = tuple[tuple[str, ...], ...]


def is_expression(text: str) -> bool:
    """Whether a text names several licences, or one with an exception."""
    return re.search(r"\s(?:OR|AND|WITH)\s", text) is not None


def identifier(text: str) -> str:
    """One licence in the Hub's words: small letters, without `-only` and `-or-later`."""
    name = re.sub(r"-(?:only|or-later)$", "", text.strip().lower())
    return _HUB.get(name, name)


def alternatives(text: str) -> Alternatives:
    """The licences of an expression: of one of the tuples all hold. What is no expression stands for itself."""
    if not is_expression(text):
        return ((identifier(text),),)
    reader = _Reader(_TOKEN.findall(text))
    found = reader.either()
    return found[:_MOST] if found and not reader.left else ((identifier(text),),)


class _Reader:
    """Reads an expression: OR binds least, then AND; an exception (WITH) changes no licence's name."""

    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens[::-1]

    def either(self) -> Alternatives:
        found = self._both()
        while self._takes("OR"):
            found += self._both()
        return found

    def _both(self) -> Alternatives:
        found = self._one()
        while self._takes("AND"):
            others = self._one()
            joined = [tuple(dict.fromkeys(a + b)) for a in found[:_MOST] for b in others[:_MOST]]
            found = tuple(dict.fromkeys(joined))
        return found

    def _one(self) -> Alternatives:
        if self._takes("("):
            found = self.either()
            return found if self._takes(")") else ()
        if not self.left or self.left[-1] in ("OR", "AND", "WITH", ")"):
            return ()
        name = identifier(self.left.pop())
        if self._takes("WITH") and self.left:
            self.left.pop()
        return ((name,),)

    def _takes(self, token: str) -> bool:
        if self.left and self.left[-1] == token:
            self.left.pop()
            return True
        return False
