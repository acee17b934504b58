"""Writing: preupload, commit, and the check of a card."""

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..names import check_path
from ..serving.wire import (
    Refusal,
    answer,
    base_url,
    find_commit,
    find_repository,
    flag,
    known_caller,
    parameter,
    parse_object,
    pieces_of,
    site,
    text_field,
    with_json,
)
from ..store.cards import check_card
from ..store.commits import Change, Commit, lfs_entry, regular_entry
from ..store.repository import Conflict, Repository, UnknownRevision
from ..store.store import LFS_SUFFIXES
from .discussions import may_change_pull_request, open_discussion, record_commit
from .ignore import ignore_rule
from .lfs import check_contributor, is_sha256

LARGEST_REGULAR = 10_000_000  # bytes; a larger file is stored as LFS whatever its name
_LARGEST_LINE = LARGEST_REGULAR * 4 // 3 + 64 * 1024  # bytes of one operation: base64 of a regular file, and its path
_LARGEST_FILES = 1000
_MOST_CHANGES = 25_000  # operations of one commit
_LARGEST_TITLE = 1000  # characters


def preupload(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/{kind}/{namespace}/{name}/preupload/{revision}: how each file is to be sent."""
    repository = find_repository(request)
    check_contributor(request, repository)
    commit = find_commit(repository, parameter(request, "revision"))
    files = body.get("files")
    if not isinstance(files, list) or len(files) > _LARGEST_FILES or not all(isinstance(file, dict) for file in files):
        raise Refusal(400, f"Field 'files' must list at most {_LARGEST_FILES} files.")
    own_rules = site(request).facts.text(commit, ".gitignore") or ""
    try:
        ignored = ignore_rule(text_field(body, "gitIgnore", own_rules))
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    answers = []
    for file in files:
        path, size = _checked_path(file.get("path")), file.get("size")
        if not isinstance(size, int):
            raise Refusal(400, f"The size of {path} must be a number of bytes.")
        large = size > LARGEST_REGULAR or path.lower().endswith(LFS_SUFFIXES)
        item = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": ignored(path)}
        if (entry := commit.files.get(path)) is not None:
            item["oid"] = entry.etag
        answers.append(item)
    return answer({"files": answers})


def _checked_path(path: object) -> str:
    try:
        return check_path(path)
    except ValueError as error:
        raise Refusal(400, str(error)) from None


async def commit(request: Request) -> Response:
    """POST /api/{kind}/{namespace}/{name}/commit/{revision}: lines of JSON, a header and then one operation each.

    Regular files go to the object store line by line; the commit itself is made at the end, in one move.
    """
    repository = await run_in_threadpool(find_repository, request)
    revision, as_pull_request = parameter(request, "revision"), flag(request, "create_pr")
    await run_in_threadpool(_check_target, request, repository, revision, as_pull_request)
    sent = _Sent(request, repository)
    async for lines in _lines(request):
        await run_in_threadpool(sent.take, lines)
    if sent.header is None:
        raise Refusal(400, "The commit has no header line.")
    return await run_in_threadpool(_make, request, repository, revision, as_pull_request, sent.header, sent.changes)


class _Sent:
    """What a client has sent of its commit so far."""

    def __init__(self, request: Request, repository: Repository) -> None:
        self._request, self._repository = request, repository
        self.header: dict[str, Any] | None = None
        self.changes: list[Change] = []

    def take(self, lines: list[bytes]) -> None:
        """Reads further lines; for a thread, since a line may be megabytes of JSON, and its file goes to the disk."""
        for line in lines:
            operation = parse_object(line)
            key, value = operation.get("key"), operation.get("value")
            if not isinstance(value, dict):
                raise Refusal(400, "Every line of a commit needs a 'key' and a 'value'.")
            if key == "header":
                self.header = value
            elif len(self.changes) == _MOST_CHANGES:
                raise Refusal(413, f"A commit may hold at most {_MOST_CHANGES} operations; make several.")
            else:
                self.changes.append(_change(self._request, self._repository, str(key), value))


async def _lines(request: Request) -> AsyncIterator[list[bytes]]:
    """The lines of the body, as many at a time as came at once."""
    waiting = bytearray()
    async for piece in pieces_of(request):
        waiting += piece
        if b"\n" in piece:
            *lines, rest = waiting.split(b"\n")
            waiting = bytearray(rest)
            yield [bytes(line) for line in lines if line.strip()]
        if len(waiting) > _LARGEST_LINE:
            raise Refusal(413, f"A file above {LARGEST_REGULAR} bytes must be uploaded as LFS.")
    if waiting.strip():
        yield [bytes(waiting)]


def _check_target(request: Request, repository: Repository, revision: str, as_pull_request: bool) -> None:
    """Refuse early whoever may not commit here."""
    number = _pull_request_number(revision)
    if as_pull_request:
        check_contributor(request, repository)
    elif number is None or not may_change_pull_request(request, repository, number):
        find_repository(request, "write")


def _pull_request_number(revision: str) -> str | None:
    return revision.removeprefix("refs/pr/") if revision.startswith("refs/pr/") else None


def _change(request: Request, repository: Repository, key: str, value: dict[str, Any]) -> Change:
    """One operation as a change of the tree; the content of a regular file is stored on the way."""
    path = _checked_path(str(value.get("path")).rstrip("/") if key == "deletedFolder" else value.get("path"))
    objects = site(request).store.objects
    if key == "file":
        try:
            content = base64.b64decode(text_field(value, "content"), validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(400, f"The content of {path} is not base64.") from None
        if path == "README.md":
            _, errors, _ = check_card(content.decode(errors="replace"))
            if errors:
                raise Refusal(400, f"Invalid metadata in README.md: {'; '.join(errors)}")
        return Change(path, regular_entry(content, objects.put(content)))
    if key == "lfsFile":
        oid, size = value.get("oid"), value.get("size")
        if not is_sha256(oid) or not isinstance(oid, str) or not repository.owns_object(oid):
            raise Refusal(400, f"{path} points to an LFS object that was not uploaded to this repository.")
        actual = objects.size(oid)
        if size is not None and size != actual:
            raise Refusal(400, f"{path} announces {size} bytes, its LFS object has {actual}.")
        return Change(path, lfs_entry(oid, actual))
    if key in ("deletedFile", "deletedFolder"):
        return Change(path, folder=key == "deletedFolder")
    raise Refusal(400, f"Unknown operation {key!r}.")


def _make(
    request: Request,
    repository: Repository,
    revision: str,
    as_pull_request: bool,
    header: dict[str, Any],
    changes: list[Change],
) -> Response:
    author = known_caller(request).user
    title, message = text_field(header, "summary"), text_field(header, "description", "")
    parent = header.get("parentCommit")
    if not title.strip() or len(title) > _LARGEST_TITLE:
        raise Refusal(400, f"A commit needs a summary of at most {_LARGEST_TITLE} characters.")
    if parent is not None and (not isinstance(parent, str) or len(parent) < 7):
        raise Refusal(400, "Field 'parentCommit' must be a commit id.")
    number = _pull_request_number(revision)
    with repository.lock:
        if as_pull_request:
            base = find_commit(repository, revision)
            if parent and not base.id.startswith(parent):
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            number = open_discussion(repository, author, title, message, base=base.id, status="open")
        reference = f"refs/pr/{number}" if number else f"refs/heads/{revision.removeprefix('refs/heads/')}"
        made = add_commit(repository, reference, changes, title, message, author, None if as_pull_request else parent)
        if number:
            record_commit(repository, number, made)
    home = f"{base_url(request)}/{repository.prefix}{repository.id}"
    result = {"success": True, "commitOid": made.id, "commitUrl": f"{home}/commit/{made.id}", "hookOutput": ""}
    if as_pull_request:
        result["pullRequestUrl"] = f"{home}/discussions/{number}"
    return answer(result)


def add_commit(
    repository: Repository,
    reference: str,
    changes: list[Change],
    title: str,
    message: str,
    author: str,
    parent: str | None = None,
) -> Commit:
    """`Repository.add_commit`, with its errors as refusals."""
    try:
        return repository.add_commit(reference, changes, title, message, author, parent)
    except UnknownRevision:
        raise Refusal(404, f"Invalid rev id: {reference.removeprefix('refs/heads/')}", "RevisionNotFound") from None
    except Conflict as error:
        raise Refusal(412, str(error)) from None
    except FileNotFoundError as error:
        raise Refusal(404, f"A file with this name does not exist: {error}", "EntryNotFound") from None
    except ValueError as error:
        raise Refusal(400, f"The commit cannot be made: {error}.") from None


def validate_card(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/validate-yaml {content, repoType}"""
    _, errors, warnings = check_card(text_field(body, "content"))
    shown = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return answer(shown, 400 if errors else 200, {"X-Error-Code": "InvalidMetadata"} if errors else None)


_API = "/api/{kind}/{namespace}/{name}"
routes = [
    Route("/api/validate-yaml", with_json(validate_card), methods=["POST"]),
    Route(f"{_API}/preupload/{{revision}}", with_json(preupload), methods=["POST"]),
    Route(f"{_API}/commit/{{revision}}", commit, methods=["POST"]),
]
