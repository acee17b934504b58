"""Pages for people: what is on this Hub, what a repository's card says, which files it has."""

import hashlib
from html import escape
from typing import Any
from urllib.parse import quote

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
from ..store.repository import Repository, Settings
from .layout import page
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
        rows = "".join(
            f"<tr><td><a href='/{repository.prefix}{repository.id}'>{escape(repository.id)}</a>"
            f" {_badges(repository.settings)}</td><td>{escape(facts.task or '')}</td>"
            f"<td>{_count((facts.safetensors or {}).get('total'))}</td><td class='faint'>{_when(commit.date)}</td></tr>"
            for repository, commit, facts in found[:SHOWN]
        )
        search = escape(request.query_params.get("search", ""))
        form = (
            f"<form><input name='search' placeholder='Search {type}s' value='{search}'> <button>Search</button></form>"
        )
        more = f"<p class='faint'>{len(found) - SHOWN} more: search to narrow down.</p>" if len(found) > SHOWN else ""
        nothing = "" if found else f"<p>No {type}s here that you may see.</p>"
        title = f"{author}'s {type}s" if author else f"{type.title()}s"
        return page(request, title, f"<h1>{escape(title)}</h1>{form}<table>{rows}</table>{more}{nothing}")

    return handler


def _badges(settings: Settings) -> str:
    names = (["private"] if settings.private else []) + (["gated"] if settings.gated else [])
    return "".join(f"<span class='tag'>{name}</span>" for name in names)


def _count(number: int | None) -> str:
    """1234567 -> '1.23M'."""
    if number is None:
        return ""
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)


def _size(number: int) -> str:
    """Bytes -> '1.5 MB'."""
    for limit, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number} bytes"


def _when(date: str) -> str:
    return escape(date[:16].replace("T", " "))


def _home(repository: Repository) -> str:
    return f"/{repository.prefix}{repository.id}"


def _heading(repository: Repository) -> str:
    home = _home(repository)
    links = [(home, "Card"), (f"{home}/tree/main", "Files"), (f"{home}/discussions", "Discussions")]
    return (
        f"<h1>{escape(repository.id)} {_badges(repository.settings)}</h1><p>"
        + " · ".join(f"<a href='{url}'>{name}</a>" for url, name in links)
        + "</p>"
    )


def card_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}: the README as a page."""
    repository = find_repository(request)
    commit = find_commit(repository, "main")
    facts = site(request).facts.of(repository.type, commit)
    files = f"{_home(repository)}/resolve/{commit.id}"
    tags = "".join(f"<span class='tag'>{escape(tag)}</span>" for tag in facts.tags)
    total = (facts.safetensors or {}).get("total")
    size = f"{_count(total)} parameters · " if total else ""
    summary = f"<p class='faint'>{size}commit {commit.id[:7]} · {_when(commit.date)} UTC by {escape(commit.author)}</p>"
    if not site(request).accounts.may_read(caller(request), repository):
        gate = f"<form method='post' action='{_home(repository)}/ask-access'><button>Ask for access</button></form>"
        return page(
            request, repository.id, f"{_heading(repository)}<p>The files of this repository are gated.</p>{gate}"
        )
    text = site(request).facts.text(commit, "README.md")
    card = render_markdown(split_card(text)[1], files) if text is not None else "<p>There is no README.md yet.</p>"
    return page(request, repository.id, f"{_heading(repository)}<p>{tags}</p>{summary}{card}")


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
    rows = "".join(
        _file_row(repository, commit, entry, f"{home}/{{}}/{at}/{quote(entry['path'])}") for entry in entries
    )
    place = f" / {escape(folder)}" if folder else ""
    where = f"<p>{escape(revision)}{place} <span class='faint'>({commit.id[:7]}: {escape(commit.title)})</span></p>"
    return page(request, f"{repository.id} files", f"{_heading(repository)}{where}<table>{rows}</table>")


def _file_row(repository: Repository, commit: Commit, entry: dict[str, Any], url: str) -> str:
    name = escape(entry["path"].rpartition("/")[2])
    if entry["type"] == "directory":
        return f"<tr><td><a href='{escape(url.format('tree'))}'>{name}/</a></td><td></td><td></td></tr>"
    last = repository.commit(commit.files[entry["path"]].commit)
    kind = " <span class='tag'>LFS</span>" if "lfs" in entry else ""
    return (
        f"<tr><td><a href='{escape(url.format('resolve'))}'>{name}</a>{kind}</td><td>{_size(entry['size'])}</td>"
        f"<td class='faint'>{escape(last.title)} · {_when(last.date)}</td></tr>"
    )


def commit_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}/commit/{revision}: the files at that commit."""
    repository = find_repository(request)
    return RedirectResponse(f"{_home(repository)}/tree/{quote(parameter(request, 'revision'), safe='')}", 303)


def blob_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}/blob/{revision}/{path}: the file itself."""
    repository = find_repository(request)
    rest = f"{request.path_params['revision']}/{request.path_params['path']}"
    return RedirectResponse(f"{_home(repository)}/resolve/{rest}", 303)


def discussions_page(request: Request) -> Response:
    """GET /[datasets/|spaces/]{namespace}/{name}/discussions[/{number}]"""
    repository = find_repository(request)
    wanted = parameter(request, "number") if "number" in request.path_params else None
    shown = [one for one in all_discussions(repository) if wanted in (None, str(one["num"]))]
    items = []
    for one in shown:
        kind = "pull request" if one["base"] else "discussion"
        items.append(
            f"<h2><a href='{_home(repository)}/discussions/{one['num']}'>#{one['num']} {escape(one['title'])}</a></h2>"
            f"<p class='faint'>{kind} · {escape(one['status'])} · {escape(one['author'])} · "
            f"{_when(one['createdAt'])}</p>"
        )
        if wanted is not None:
            items += [_event(event) for event in one["events"]]
    body = "".join(items) or "<p>No discussions yet.</p>"
    return page(request, f"{repository.id} discussions", _heading(repository) + body)


def _event(event: dict[str, Any]) -> str:
    who, data = escape(event["author"]["name"]), event["data"]
    if event["type"] == "comment":
        return f"<p><b>{who}</b></p>{render_markdown(data['latest']['raw'], '')}"
    what = {
        "commit": lambda: f"committed {escape(data['subject'])} ({escape(data['oid'][:7])})",
        "status-change": lambda: f"made it {escape(data['status'])}",
        "title-change": lambda: f"renamed it to {escape(data['to'])}",
    }[event["type"]]
    return f"<p class='faint'>{who} {what()}</p>"


def avatar_image(request: Request) -> Response:
    """GET /avatars/{name}.svg: a coloured letter."""
    name = parameter(request, "name")
    hue = int(hashlib.sha256(name.encode()).hexdigest()[:4], 16) % 360
    image = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 40 40'>"
        f"<rect width='40' height='40' fill='hsl({hue} 50% 40%)'/>"
        f"<text x='20' y='28' font-size='22' fill='white' text-anchor='middle' font-family='sans-serif'>"
        f"{escape(name[:1].upper())}</text></svg>"
    )
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
