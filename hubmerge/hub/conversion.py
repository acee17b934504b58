"""The safetensors copy that the Hub's own bot offers, as a pull request, of a model that has only PyTorch files.

transformers reads it in place of the model's own files, and so does hubmerge: it can be read and checked in parts.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import HubError, SourceError
from ..reference import ModelRef
from . import cache
from .checkpoint import CONFIG, INDEX, TORCH, WEIGHTS, weight_files
from .errors import hub_errors
from .listing import Listing, list_files
from .session import ask
from .store import Repository

BOT = "SFconvertbot"
"""Whose pull requests are taken; nobody else can have this name on the Hub."""

PULL_REQUEST = re.compile(r"refs/pr/\d+")
_MOST_TRIED = 3


def find_conversion(listing: Listing) -> Listing | None:
    """The files of the copy that is offered of this model; None where there is none.

    It must stand beside the very files that the model has, so that it is a copy of these weights and not of earlier
    ones. Who names a revision means that one.
    """
    store, ref = listing.store, listing.ref
    if not isinstance(store, Repository) or ref.revision is not None or ref.inside:
        return None
    offered = _used_before(ref) if store.offline is not None else _offered(ref, store.token)
    for _, revision in zip(range(_MOST_TRIED), offered, strict=False):
        try:
            copy = list_files(replace(ref, revision=revision), store.token)
        except (HubError, SourceError):
            continue  # the model's own files are there in any case
        if _is_copy(copy, listing):
            cache.remember_copy(ref, revision)
            return copy
    return None


def _used_before(ref: ModelRef) -> Iterator[str]:
    """What the bot offered when the Hub was last asked, and nothing that anybody else did."""
    revision = cache.recall_copy(ref)
    if revision is not None and PULL_REQUEST.fullmatch(revision):
        yield revision


def _offered(ref: ModelRef, token: str | None) -> Iterator[str]:
    """The bot's open pull requests, the newest first; none where a Hub has no such thing or does not answer."""
    query = {"type": "pull_request", "status": "open", "author": BOT}
    try:
        with hub_errors(f"reading the pull requests of {ref}"):
            answer = ask(f"api/models/{ref.repo_id}/discussions", query, token)
    except HubError:
        return
    found = answer.get("discussions") if isinstance(answer, Mapping) else None
    numbers = {number for one in (found if isinstance(found, list) else []) if (number := _number(one)) is not None}
    for number in sorted(numbers, reverse=True):
        yield f"refs/pr/{number}"


def _number(discussion: Any) -> int | None:
    if not isinstance(discussion, Mapping) or discussion.get("isPullRequest") is not True:
        return None
    author, number = discussion.get("author"), discussion.get("num")
    by_bot = isinstance(author, Mapping) and author.get("name") == BOT
    return number if by_bot and type(number) is int and 0 < number < 10**9 else None


def _is_copy(copy: Listing, listing: Listing) -> bool:
    if WEIGHTS not in copy.files and INDEX not in copy.files:
        return False
    same = [CONFIG, *weight_files(listing.files, TORCH)]
    return all(name in copy.files and copy.files[name] == listing.files[name] for name in same)
