"""Which models of the Hub may be the parent of one that names none, and which others were tuned from a base."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..errors import HubError
from ..hub.errors import hub_errors
from ..hub.session import ask
from ..reference import repository_of

LISTED = 1000
"""Models that are asked for, in one request."""
SPREAD = 0.2
"""How far the number of parameters may be from the model's own: vocabularies differ."""


class Kin:
    """Models of one kind and size as the Hub lists them, asked for once."""

    def __init__(self, token: str | None = None) -> None:
        self._token = token
        self._listed: dict[tuple[str, int], list[Mapping[str, Any]]] = {}

    def tuned_from(self, base: str, parameters: int) -> list[str]:
        """The names of the models of that size that name `base` as theirs, the most downloaded first. Empty where the
        Hub cannot say."""
        listed = self._ask(f"base_model:{base}", parameters)
        return [str(one["id"]) for one in sorted(listed, key=_rank) if repository_of(one["id"]) is not None]

    def older(self, name: str, kind: str | None, parameters: int) -> list[str]:
        """The names of older models of this kind and size than the model `name`: those that name no parent before those
        that do, then those that are downloaded most, then the oldest. Empty where the Hub cannot say."""
        if kind is None:
            return []
        listed = self._of(kind, parameters)
        born = next((str(one.get("createdAt")) for one in listed if one.get("id") == name), None)
        before = [one for one in listed if one.get("id") != name and (born is None or str(one.get("createdAt")) < born)]
        return [str(one["id"]) for one in sorted(before, key=_rank)]

    def _of(self, kind: str, parameters: int) -> list[Mapping[str, Any]]:
        size = round(parameters, 1 - len(str(parameters)))  # models of one size are asked for once
        if (kind, size) not in self._listed:
            self._listed[kind, size] = self._ask(kind, size)
        return self._listed[kind, size]

    def _ask(self, tag: str, size: int) -> list[Mapping[str, Any]]:
        """The models with a tag that have about so many parameters."""
        answer: Any = None
        wanted = {
            "filter": tag,
            "num_parameters": f"min:{int(size * (1 - SPREAD))},max:{int(size * (1 + SPREAD))}",
            "sort": "downloads",
            "limit": LISTED,
            "expand": ["createdAt", "downloads", "cardData"],
        }
        with suppress(HubError), hub_errors(f"listing models with the tag {tag}"):
            answer = ask("api/models", wanted, self._token)
        found = answer if isinstance(answer, list) else []
        return [one for one in found if isinstance(one, Mapping) and isinstance(one.get("id"), str)]


def _rank(one: Mapping[str, Any]) -> tuple[bool, int, str]:
    card, downloads = one.get("cardData"), one.get("downloads")
    claims = isinstance(card, Mapping) and bool(card.get("base_model"))
    return claims, -downloads if isinstance(downloads, int) else 0, str(one.get("createdAt"))
