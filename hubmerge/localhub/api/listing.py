"""GET /api/models, /api/datasets, /api/spaces and the information about one repository."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..names import REPO_TYPES
from ..serving.wire import (
    Refusal,
    answer,
    caller,
    find_commit,
    find_repository,
    flag,
    page_of,
    parameter,
    site,
)
from ..store.commits import Commit
from ..store.facts import Facts
from ..store.gitids import lfs_pointer
from ..store.objects import Objects
from ..store.repository import MAIN, Repository

LARGEST_PAGE = 1000
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_ALWAYS = ("_id", "id", "modelId")
_SHORT = (
    *_ALWAYS,
    "likes",
    "downloads",
    "trendingScore",
    "private",
    "tags",
    "pipeline_tag",
    "library_name",
    "createdAt",
)
_FULL = (*_SHORT, "author", "sha", "lastModified", "gated", "disabled", "siblings", "sdk", "description")


def describe(request: Request, repository: Repository, commit: Commit, facts: Facts) -> dict[str, Any]:
    """Every property of a repository at a commit that the API can give, by the Hub's names."""
    settings = repository.settings
    described: dict[str, Any] = {
        "_id": commit.id[:24],
        "id": repository.id,
        "author": repository.namespace,
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": settings.created,
        "private": settings.private,
        "gated": settings.gated,
        "disabled": False,
        "downloads": site(request).downloads.get((repository.type, repository.id), 0),
        "likes": 0,
        "trendingScore": 0,
        "tags": list(facts.tags),
        "cardData": facts.card,
        "siblings": [{"rfilename": path} for path in commit.files],
        "usedStorage": sum(entry.size for entry in commit.files.values()),
    }
    if repository.type == "model":
        described |= {
            "modelId": repository.id,
            "config": facts.config,
            "library_name": facts.library,
            "pipeline_tag": facts.task,
            "spaces": [],
            "widgetData": facts.card.get("widget"),
        }
        if facts.safetensors:
            described["safetensors"] = facts.safetensors
        if index := facts.card.get("model-index"):
            described["model-index"] = index
        if facts.config.get("architectures"):
            described["transformersInfo"] = {"auto_model": "AutoModel", "pipeline_tag": facts.task}
    elif repository.type == "space":
        described |= {"sdk": settings.sdk, "subdomain": repository.id.replace("/", "-").lower()}
    else:
        described["description"] = facts.card.get("pretty_name")
    return described


def repository_info(request: Request) -> Response:
    """GET /api/{kind}/{namespace}/{name}[/revision/{revision}]"""
    repository = find_repository(request)
    revision = parameter(request, "revision") if "revision" in request.path_params else "main"
    commit = find_commit(repository, revision)
    described = describe(request, repository, commit, site(request).facts.of(repository.type, commit))
    if flag(request, "blobs"):
        objects = site(request).store.objects
        described["siblings"] = [_sibling(path, commit, objects) for path in commit.files]
    if flag(request, "securityStatus"):
        described["securityRepoStatus"] = {"scansDone": False, "filesWithIssues": []}
    if wanted := request.query_params.getlist("expand"):
        described = _only(described, {*_ALWAYS, *wanted})
    return answer(described)


def _sibling(path: str, commit: Commit, objects: Objects) -> dict[str, Any]:
    entry = commit.files[path]
    sibling: dict[str, Any] = {"rfilename": path, "size": entry.size, "blobId": entry.oid}
    if entry.lfs:
        pointer = len(lfs_pointer(entry.sha256, entry.size))
        sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": pointer}
        if objects.is_generated(entry.sha256):
            sibling["lfs"]["generated"] = True  # no field of the Hub's: that is a name, and no hash of the content
    return sibling


def _only(described: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    wanted = set(names)
    return {name: value for name, value in described.items() if name in wanted}


def visible(request: Request, type: str) -> list[tuple[Repository, Commit, Facts]]:
    """Every repository of a type that the caller may see, at its main branch."""
    here, identity = site(request), caller(request)
    found = []
    for repository in here.store.all(type):
        with suppress(FileNotFoundError):  # deleted meanwhile
            head = repository.reference(MAIN)
            if head is not None and here.accounts.may_see(identity, repository):
                commit = repository.commit(head)
                found.append((repository, commit, site(request).facts.of(type, commit)))
    return found


def _list(type: str) -> Any:
    def list_repositories(request: Request) -> Response:
        query = request.query_params
        wanted = _matching(request, type)
        described = []
        for found in visible(request, type):
            with suppress(FileNotFoundError):
                described.append(describe(request, *found))
        described = [item for item in described if wanted(item)]
        key = query.get("sort", "lastModified")
        if key not in ("createdAt", "downloads", "lastModified", "likes", "trendingScore", "id"):
            raise Refusal(400, f"Cannot sort by {key!r}")
        described.sort(key=lambda item: item["lastModified"], reverse=True)
        described.sort(key=lambda item: item[key], reverse=key != "id" and query.get("direction", "-1") != "1")
        limit = query.get("limit", "")
        size = min(int(limit), LARGEST_PAGE) if limit.isdecimal() and len(limit) < 10 else LARGEST_PAGE
        page, headers = page_of(request, [_only(item, _properties(request)) for item in described], max(size, 1))
        return answer(page, headers=headers)

    return list_repositories


def _properties(request: Request) -> set[str]:
    query = request.query_params
    if expand := query.getlist("expand"):
        return {*_ALWAYS, *expand}
    names = set(_FULL if flag(request, "full") else _SHORT)
    return names | {name for name in ("config", "cardData") if flag(request, name)}


def _matching(request: Request, type: str) -> Any:
    """The predicate that the query asks for, over described repositories."""
    query = request.query_params
    words = query.get("search", "").lower().split()
    author, task = query.get("author"), query.get("pipeline_tag")
    gated = flag(request, "gated") if "gated" in query else None
    tags = [tag for value in query.getlist("filter") for tag in value.split(",") if tag]
    least, most = _parameter_bounds(query.get("num_parameters", ""))

    def wanted(item: dict[str, Any]) -> bool:
        total = (item.get("safetensors") or {}).get("total")
        return (
            all(word in item["id"].lower() for word in words)
            and author in (None, item["author"])
            and (task is None or item.get("pipeline_tag") == task)
            and (gated is None or bool(item["gated"]) == gated)
            and all(tag in item["tags"] for tag in tags)
            and (least is None or (total is not None and total >= least))
            and (most is None or (total is not None and total <= most))
        )

    return wanted


def _parameter_bounds(text: str) -> tuple[float | None, float | None]:
    """'min:6B,max:128B' -> (6e9, 128e9); a missing bound is None."""
    bounds: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(min|max):(\d+(?:\.\d+)?)([KMBT]?)", part.strip())
        if not match:
            raise Refusal(400, f"Invalid num_parameters {text!r}: expected for example 'min:6B,max:128B'")
        bounds[match.group(1)] = float(match.group(2)) * _UNITS[match.group(3)]
    return bounds.get("min"), bounds.get("max")


routes = [
    *(Route(f"/api/{type}s", _list(type)) for type in REPO_TYPES),
    Route("/api/{kind}/{namespace}/{name}", repository_info),
    Route("/api/{kind}/{namespace}/{name}/revision/{revision}", repository_info),
]
