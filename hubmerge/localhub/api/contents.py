"""What is in a repository: trees, paths, files, safetensors headers."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..serving.delivery import deliver, file_headers
from ..serving.wire import (
    TYPE_PREFIXES,
    Refusal,
    answer,
    find_commit,
    find_repository,
    flag,
    page_of,
    parameter,
    site,
    with_form,
)
from ..store.commits import Commit, Entry
from ..store.gitids import lfs_pointer, tree_ids
from ..store.repository import Repository
from . import cdn

PAGE = 1000  # entries of a tree on one page
MOST_PATHS = 1000  # of one paths-info call
EXPANDED_PAGE = 50  # the same with the last commit of each entry


def file_entry(path: str, entry: Entry) -> dict[str, Any]:
    """A file as the tree and paths-info calls show it."""
    shown: dict[str, Any] = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid}
    if entry.lfs:
        pointer = len(lfs_pointer(entry.sha256, entry.size))
        shown["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": pointer}
    return shown


def folder_entry(path: str, oid: str) -> dict[str, Any]:
    """A folder as the tree and paths-info calls show it."""
    return {"type": "directory", "path": path, "size": 0, "oid": oid}


def entries_below(commit: Commit, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """The entries of a folder ('' is the root), by path; empty where there is no such folder."""
    ids = tree_ids({path: entry.oid for path, entry in commit.files.items()})
    start = f"{folder}/" if folder else ""
    entries = [file_entry(path, entry) for path, entry in commit.files.items() if path.startswith(start)]
    entries += [folder_entry(path, oid) for path, oid in ids.items() if path and path.startswith(start)]
    if not recursive:
        entries = [entry for entry in entries if "/" not in entry["path"][len(start) :]]
    return sorted(entries, key=lambda entry: str(entry["path"]))


def add_last_commits(repository: Repository, commit: Commit, entries: list[dict[str, Any]]) -> None:
    """Put into each entry the commit that last changed it; for a folder, the newest of its files."""
    for entry in entries:
        if entry["type"] == "file":
            last = repository.commit(commit.files[entry["path"]].commit)
        else:
            inside = {file.commit for path, file in commit.files.items() if path.startswith(f"{entry['path']}/")}
            last = max((repository.commit(oid) for oid in inside), key=lambda one: one.date)
        entry["lastCommit"] = {"id": last.id, "title": last.title, "date": last.date}


def tree(request: Request) -> Response:
    """GET /api/{kind}/{namespace}/{name}/tree/{revision}[/{path}]"""
    repository = find_repository(request)
    commit = find_commit(repository, parameter(request, "revision"))
    folder = parameter(request, "path").strip("/") if "path" in request.path_params else ""
    entries = entries_below(commit, folder, flag(request, "recursive"))
    if folder and not entries:
        raise Refusal(404, f"{folder} does not exist on '{parameter(request, 'revision')}'", "EntryNotFound")
    expand = flag(request, "expand")
    page, headers = page_of(request, entries, EXPANDED_PAGE if expand else PAGE)
    if expand:
        add_last_commits(repository, commit, page)
    return answer(page, headers=headers)


def paths_info(request: Request, form: dict[str, list[str]]) -> Response:
    """POST /api/{kind}/{namespace}/{name}/paths-info/{revision}, fields paths (repeated) and expand."""
    repository = find_repository(request)
    commit = find_commit(repository, parameter(request, "revision"))
    ids = tree_ids({path: entry.oid for path, entry in commit.files.items()})
    paths = form.get("paths", [])
    if len(paths) > MOST_PATHS:
        raise Refusal(400, f"Field 'paths' may hold at most {MOST_PATHS} paths.")
    entries = []
    for path in dict.fromkeys(paths):
        if path in commit.files:
            entries.append(file_entry(path, commit.files[path]))
        elif path.strip("/") in ids and path.strip("/"):
            entries.append(folder_entry(path.strip("/"), ids[path.strip("/")]))
    if form.get("expand", [""])[0].lower() in ("true", "1"):
        add_last_commits(repository, commit, entries)
    return answer(entries)


def resolve(request: Request) -> Response:
    """GET or HEAD [/datasets|/spaces]/{namespace}/{name}/resolve/{revision}/{path}"""
    repository = find_repository(request, "read")
    commit = find_commit(repository, parameter(request, "revision"))
    path = parameter(request, "path")
    entry = commit.files.get(path)
    if entry is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.id})
    if request.method == "GET":
        downloads, key = site(request).downloads, (repository.type, repository.id)
        downloads[key] = downloads.get(key, 0) + (path == "config.json" or repository.type != "model")
    known = {"X-Repo-Commit": commit.id}
    if entry.lfs:
        known |= {"X-Linked-Size": str(entry.size), "X-Linked-Etag": f'"{entry.sha256}"'}
    seconds = site(request).redirect_seconds()
    if entry.lfs and seconds is not None:
        response = cdn.redirect(request, repository, path, entry, seconds)
        response.headers.update(known)
        return response
    headers = {**known, **file_headers(path, entry.etag)}
    return deliver(request, entry.sha256, entry.size, headers)


def safetensors_metadata(request: Request) -> Response:
    """GET /api/models/{namespace}/{name}/safetensors-metadata/{path of an index}: all shards' headers in one answer."""
    repository, facts = find_repository(request, "read"), site(request).facts
    commit, path = find_commit(repository, "main"), parameter(request, "path")
    shards = facts.shards(commit, path)
    if not shards:
        raise Refusal(404, f"{path} is not an index of safetensors shards", "EntryNotFound")
    folder = path.rpartition("/")[0]
    names = {f"{folder}/{shard}" if folder else shard: shard for shard in shards}
    try:
        headers = facts.safetensors_headers(commit, names)
    except ValueError as error:
        raise Refusal(400, f"The shards of {path} cannot be read: {error}.") from None
    return answer(
        {"index": facts.index(commit, path), "headers": {names[key]: value for key, value in headers.items()}}
    )


_API = "/api/{kind}/{namespace}/{name}"
routes = [
    Route(f"{_API}/tree/{{revision}}", tree),
    Route(f"{_API}/tree/{{revision}}/{{path:path}}", tree),
    Route(f"{_API}/paths-info/{{revision}}", with_form(paths_info), methods=["POST"]),
    Route(f"{_API}/safetensors-metadata/{{path:path}}", safetensors_metadata),
    *(
        Route(f"{prefix}/{{namespace}}/{{name}}/resolve/{{revision}}/{{path:path}}", resolve)
        for prefix in TYPE_PREFIXES
    ),
]
