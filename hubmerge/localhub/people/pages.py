"""Pages for people: what is on this Hub, what a repository's card says, which files it has."""

import hashlib
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..api.contents import entries_below
from ..api.discussions import all_discussions
from ..api.listing import visible
from ..names import REPO_TYPES
from ..serving.wire import (
    TYPE_PREFIXES,
    Refusal,
    caller,
    find_commit,
    find_repository,
    known_caller,
    parameter,
    site,
    with_form,
)
from ..store.cards import split_card
from ..store.commits import Commit
from ..store.repository import Repository
from .layout import page, render
from .markdown import render_markdown

SHOWN = 200  # repositories on one page


def _list_page(type: str) -> Any:
    def handler(request: Request) -> Response:
        author = parameter(request, "namespace") if "namespace" in request.path_params else None
        words = request.query_params.get("search", "").lower().split()
        found = [
            row
            for row in visible(request, type)
            if author in (None, row[0].namespace) and all(word in row[0].id.lower() for word in words)
        ]
        accounts = site(request).accounts
        if author is not None and not found and author not in {*accounts.users, *accounts.organizations}:
            raise Refusal(404, f"There is nobody called {author} on this Hub.")
        found.sort(key=lambda row: row[1].date, reverse=True)
        return page(
            request,
            "list",
            f"{author}'s {type}s" if author else f"{type.title()}s",
            kind=type,
            search=request.query_params.get("search", ""),
            found=found[:SHOWN],
            more=len(found) - SHOWN,
        )

    return handler


def _home(repository: Repository) -> str:
    return f"/{repository.prefix}{repository.id}"


def card_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}: the README as a page."""
    repository = find_repository(request)
    commit = find_commit(repository, "main")
    facts = site(request).facts.of(repository.type, commit)
    gated = not site(request).accounts.may_read(caller(request), repository)
    text = None if gated else site(request).facts.text(commit, "README.md")
    home = _home(repository)
    card = None if text is None else Markup(render_markdown(split_card(text)[1], f"{home}/resolve/{commit.id}"))
    told: dict[str, Any] = {"repository": repository, "home": home, "commit": commit, "facts": facts}
    return page(request, "card", repository.id, gated=gated, card=card, **told)


def ask_access(request: Request, form: dict[str, list[str]]) -> Response:
    """POST /[datasets/|spaces/]{namespace}/{name}/ask-access: through an automatic gate at once, else onto its list."""
    repository, user = find_repository(request), known_caller(request).user
    with repository.lock:
        settings = repository.settings
        kind = "granted" if settings.gated == "auto" else "requested"
        repository.change_settings(**{kind: tuple(sorted({*getattr(settings, kind), user}))})
    return RedirectResponse(_home(repository), 303)


def files_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}/tree/{revision}[/{path}]"""
    repository, revision = find_repository(request), parameter(request, "revision")
    commit = find_commit(repository, revision)
    folder = parameter(request, "path").strip("/") if "path" in request.path_params else ""
    entries = entries_below(commit, folder, recursive=False)
    if folder and not entries:
        raise Refusal(404, f"There is no folder {folder}.", "EntryNotFound")
    home, at = _home(repository), quote(revision, safe="")
    return page(
        request,
        "files",
        f"{repository.id} files",
        repository=repository,
        home=home,
        revision=revision,
        folder=folder,
        commit=commit,
        rows=[_file_row(repository, commit, entry, f"{home}/{{}}/{at}/{quote(entry['path'])}") for entry in entries],
    )


def _file_row(repository: Repository, commit: Commit, entry: dict[str, Any], url: str) -> dict[str, Any]:
    """A file or folder; a file has the commit that last changed it."""
    name = entry["path"].rpartition("/")[2]
    if entry["type"] == "directory":
        return {"name": name, "url": url.format("tree"), "last": None}
    last = repository.commit(commit.files[entry["path"]].commit)
    return {"name": name, "url": url.format("resolve"), "last": last, "size": entry["size"], "lfs": "lfs" in entry}


def commit_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}/commit/{revision}: the files at that commit."""
    repository = find_repository(request)
    return RedirectResponse(f"{_home(repository)}/tree/{quote(parameter(request, 'revision'), safe='')}", 303)


def blob_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}/{blob, raw}/{revision}/{path}: the file itself."""
    repository = find_repository(request)
    rest = f"{request.path_params['revision']}/{request.path_params['path']}"
    return RedirectResponse(f"{_home(repository)}/resolve/{rest}", 303)


def discussions_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}/discussions[/{number}]"""
    repository = find_repository(request)
    wanted = parameter(request, "number") if "number" in request.path_params else None
    shown = [one for one in all_discussions(repository) if wanted in (None, str(one["num"]))]
    told: dict[str, Any] = {
        "repository": repository,
        "home": _home(repository),
        "discussions": shown,
        "whole": wanted is not None,
    }
    return page(request, "discussions", f"{repository.id} discussions", **told)


def avatar_image(request: Request) -> Response:
    """GET /avatars/{name}.svg: a coloured letter."""
    name = parameter(request, "name")
    hue = int(hashlib.sha256(name.encode()).hexdigest()[:4], 16) % 360
    image = render("avatar", hue=hue, letter=name[:1].upper())
    return Response(image, media_type="image/svg+xml", headers={"Content-Security-Policy": "default-src 'none'"})


def _repository_routes(prefix: str) -> list[Route]:
    home = f"{prefix}/{{namespace}}/{{name}}"
    return [
        Route(home, card_page),
        Route(f"{home}/ask-access", with_form(ask_access), methods=["POST"]),
        Route(f"{home}/tree/{{revision}}", files_page),
        Route(f"{home}/tree/{{revision}}/{{path:path}}", files_page),
        Route(f"{home}/commit/{{revision}}", commit_page),
        Route(f"{home}/blob/{{revision}}/{{path:path}}", blob_page),
        Route(f"{home}/raw/{{revision}}/{{path:path}}", blob_page),
        Route(f"{home}/discussions", discussions_page),
        Route(f"{home}/discussions/{{number}}", discussions_page),
    ]


routes = [
    Route("/", _list_page("model")),
    *(Route(f"/{type}s", _list_page(type)) for type in REPO_TYPES),
    Route("/avatars/{name}.svg", avatar_image),
    *(route for prefix in TYPE_PREFIXES for route in _repository_routes(prefix)),
    Route("/{namespace}", _list_page("model")),
]
