"""Finding models on the Hub by a few letters of their name."""

import difflib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import HubError, NetworkError
from .errors import hub_errors
from .session import ask, find_token


@dataclass(frozen=True)
class ModelSummary:
    """What the Hub says about a model in a list; None where it does not say."""

    repo_id: str
    downloads: int
    likes: int
    parameters: int | None
    architecture: str | None
    license: str | None
    private: bool
    gated: bool


def search_models(
    query: str, *, limit: int = 20, token: str | None = None, author: str | None = None
) -> list[ModelSummary]:
    """Up to `limit` models whose name contains `query`, the most downloaded first; the token's private ones too.

    Raises `HubError` where the Hub cannot be asked.
    """
    wanted = {
        "search": query.strip() or None,
        "author": author,
        "sort": "downloads",
        "limit": limit,
        "expand": ["downloads", "likes", "safetensors", "config", "cardData", "private", "gated"],
    }
    with hub_errors(f"searching the Hub for {query!r}"):
        answer = ask("api/models", wanted, find_token(token))
    if not isinstance(answer, list):
        raise NetworkError(
            f"Searching the Hub for {query!r} failed: it did not answer with a list; check HF_ENDPOINT and any proxy."
        )
    summaries = [_summary(model) for model in answer[:limit]]
    return [summary for summary in summaries if summary is not None]


def similar_models(repo_id: str, *, token: str | None = None) -> list[str]:
    """Up to three models that whoever typed `repo_id`, which is none, may have meant: of that owner or of that name.

    Empty where `repo_id` is a model after all, or where the Hub cannot be asked: it is a hint, no answer.
    """
    owner, _, name = repo_id.rpartition("/")
    asked: list[tuple[str, str | None]] = [("", owner), (name, None)] if owner else [(name, None)]
    known: list[str] = []
    for query, author in asked:
        with suppress(HubError):
            known += [model.repo_id for model in search_models(query, limit=100, token=token, author=author)]
    return [] if repo_id in known else difflib.get_close_matches(repo_id, dict.fromkeys(known), n=3, cutoff=0.75)


def _summary(model: Any) -> ModelSummary | None:
    """What is said about one model; None where not even its name is."""

    def mapping(value: Any, key: str) -> Mapping[str, Any]:
        inner = value.get(key)
        return inner if isinstance(inner, Mapping) else {}

    def number(value: Mapping[str, Any], key: str) -> int | None:
        found = value.get(key)
        return found if type(found) is int and 0 <= found < 2**63 else None

    if not isinstance(model, Mapping) or not isinstance(model.get("id"), str):
        return None
    architectures = mapping(model, "config").get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    licence = mapping(model, "cardData").get("license")
    return ModelSummary(
        repo_id=model["id"],
        downloads=number(model, "downloads") or 0,
        likes=number(model, "likes") or 0,
        parameters=number(mapping(model, "safetensors"), "total"),
        architecture=first if isinstance(first, str) else None,
        license=licence if isinstance(licence, str) else None,
        private=bool(model.get("private")),
        gated=bool(model.get("gated")),
    )
