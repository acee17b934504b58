"""What all handlers share: refusals, bounded bodies, the caller, the repository a URL names."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..accounts import Accounts, Identity
from ..store.commits import Commit
from ..store.facts import FactBook
from ..store.jobs import Jobs
from ..store.repository import Repository, UnknownRevision
from ..store.store import Store
from .addresses import Addresses

LARGEST_BODY = 8 << 20  # bytes of a JSON or form body
LARGEST_MESSAGE = 500  # characters of a refusal, which may quote what was asked
MOST_FIELDS = 10_000  # of a form
DEEPEST = 64  # levels of a JSON body
TYPE_PREFIXES = ("/datasets", "/spaces", "")  # of routes outside /api; models, whose prefix fits all, come last
BAD_CREDENTIALS = "Invalid credentials in Authorization header"


class Refusal(Exception):
    """An answer that says no: status, the code huggingface_hub turns into an exception class, and a sentence."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or HTTPStatus(status).phrase.title().replace(" ", "")
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Site:
    """What the handlers work on."""

    store: Store
    facts: FactBook
    accounts: Accounts
    addresses: Addresses
    secret: bytes
    multipart_over: int  # bytes; larger LFS files are uploaded in parts
    part_size: int  # bytes of a part
    downloads: dict[tuple[str, str], int]  # (type, id) -> files fetched since the server started
    jobs: Jobs
    cdn_port: int  # where redirected files are served, and nothing else
    redirect_seconds: Callable[[], float | None]  # how long a redirect to there works; None: files are served in place


def site(request: Request) -> Site:
    """The site a request came to."""
    found: Site = request.app.state.site
    return found


def base_url(request: Request) -> str:
    """The server's address as the client wrote it, which the gate checked: for every URL given back."""
    found: str = request.scope["base_url"]
    return found


def avatar(base: str, name: str) -> str:
    """The address of a user's picture."""
    return f"{base}/avatars/{name}.svg"


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    content = json.dumps(value, separators=(",", ":")).encode()
    return Response(content, status, dict(headers or {}), media_type="application/json")


def refuse(refusal: Refusal) -> Response:
    """The response that huggingface_hub turns into the right exception."""
    said = refusal.message if len(refusal.message) <= LARGEST_MESSAGE else f"{refusal.message[:LARGEST_MESSAGE]}..."
    plain = " ".join(said.split()).encode("ascii", "replace").decode()
    message = "".join(letter if letter.isprintable() else "?" for letter in plain)  # what a header can carry
    headers = {"X-Error-Code": refusal.code, "X-Error-Message": message, **refusal.headers}
    return answer({"error": said}, refusal.status, headers)


async def pieces_of(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes; refused where the client goes away before its end."""
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise Refusal(400, "The connection closed before the whole body arrived.") from None


async def read_body(request: Request, limit: int = LARGEST_BODY) -> bytes:
    """The whole body, refused with 413 above `limit` bytes."""
    pieces, size = [], 0
    async for piece in pieces_of(request):
        size += len(piece)
        if size > limit:
            raise Refusal(413, f"The request is larger than {limit} bytes.")
        pieces.append(piece)
    return b"".join(pieces)


def parse_json(content: bytes) -> Any:
    """JSON, or a refusal."""
    try:
        value = json.loads(content)
        if b"\\u" in content:  # half a character, which no file and no page can hold, comes by an escape alone
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refusal(400, "The request's body is not valid JSON.") from None
    if _deeper_than(value, DEEPEST):
        raise Refusal(400, f"The request's body has more than {DEEPEST} levels.")
    return value


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(item, levels - 1) for item in inside)


def parse_object(content: bytes) -> dict[str, Any]:
    """A JSON object (an empty body counts as one), or a refusal."""
    value = parse_json(content) if content.strip() else {}
    if not isinstance(value, dict):
        raise Refusal(400, "The request's body must be a JSON object.")
    return value


def with_json(handler: Callable[[Request, dict[str, Any]], Response]) -> Callable[[Request], Any]:
    """An endpoint that reads a JSON object, then runs the handler in a thread."""

    async def endpoint(request: Request) -> Response:
        body = parse_object(await read_body(request))
        return await run_in_threadpool(handler, request, body)

    return endpoint


def with_form(handler: Callable[[Request, dict[str, list[str]]], Response]) -> Callable[[Request], Any]:
    """An endpoint that reads a form (or the same fields as JSON), then runs the handler in a thread."""

    async def endpoint(request: Request) -> Response:
        content = await read_body(request)
        if request.headers.get("content-type", "").startswith("application/json"):
            fields = {
                key: [str(item) for item in value] if isinstance(value, list) else [str(value)]
                for key, value in parse_object(content).items()
                if value != []  # no value, as a field that a form leaves out
            }
        else:
            try:
                fields = parse_qs(content.decode(errors="replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
            except ValueError:
                raise Refusal(400, f"The request's body has more than {MOST_FIELDS} fields.") from None
        return await run_in_threadpool(handler, request, fields)

    return endpoint


def text_field(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A text field of a JSON body; refused where it is missing or not text."""
    value = body.get(name, default)
    if not isinstance(value, str):
        raise Refusal(400, f"Field '{name}' must be a text.")
    return value


def caller(request: Request) -> Identity | None:
    """Who sends the request; None for an anonymous visitor, refused for a bad token."""
    if request.scope.get("bad_token"):
        raise Refusal(401, BAD_CREDENTIALS)
    identity: Identity | None = request.scope.get("identity")
    return identity


def known_caller(request: Request) -> Identity:
    """Who sends the request; refused for an anonymous visitor."""
    identity = caller(request)
    if identity is None:
        raise Refusal(401, "Invalid username or password.")
    return identity


def parameter(request: Request, name: str) -> str:
    """A part of the path, unquoted."""
    return unquote(request.path_params[name])


def flag(request: Request, name: str) -> bool:
    """Whether a query parameter says yes."""
    return request.query_params.get(name, "").lower() in ("1", "true", "yes", "on")


def find_repository(request: Request, need: str = "see") -> Repository:
    """The repository that the path names, if the caller may "see", "read", "write" or "manage" it.

    Raises:
        Refusal: with the status and code of the real Hub for this case.
    """
    return check_repository(request, *named_repository(request), need)


def named_repository(request: Request) -> tuple[str, str]:
    """The type and id of the repository that the path names, whether it exists or not."""
    first = request.url.path.split("/")[1]
    kind = request.path_params.get("kind") or (first if f"/{first}" in TYPE_PREFIXES else "models")
    return kind.removesuffix("s"), f"{parameter(request, 'namespace')}/{parameter(request, 'name')}"


def check_repository(request: Request, kind: str, id: str, need: str = "see") -> Repository:
    """As `find_repository`, for a type and an id."""
    here, identity = site(request), caller(request)
    repository = here.store.find(kind, id)
    if repository is None or not here.accounts.may_see(identity, repository):
        raise Refusal(401 if identity is None else 404, "Repository not found", "RepoNotFound")
    if need in ("write", "manage"):
        if identity is None:
            raise Refusal(401, "Invalid username or password.")
        may = here.accounts.may_write if need == "write" else here.accounts.may_manage
        if not may(identity, repository):
            raise Refusal(403, f"Forbidden: you or your token may not {need} {repository.prefix}{id}")
    elif need == "read" and not here.accounts.may_read(identity, repository):
        message = f"Access to {kind} {id} is restricted and you are not in the authorized list."
        raise Refusal(401 if identity is None else 403, message, "GatedRepo")
    return repository


def find_commit(repository: Repository, revision: str) -> Commit:
    """The commit of a revision, or the refusal that huggingface_hub knows."""
    try:
        return repository.at(revision)
    except UnknownRevision:
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound") from None


def page_of(request: Request, items: list[Any], size: int) -> tuple[list[Any], dict[str, str]]:
    """One page of a list and the Link header to the next one."""
    cursor = request.query_params.get("cursor", "0")
    start = int(cursor) if cursor.isdecimal() and len(cursor) < 10 else 0
    page = items[start : start + size]
    if start + size >= len(items):
        return page, {}
    query = [(key, value) for key, value in request.query_params.multi_items() if key != "cursor"]
    url = f"{base_url(request)}{request.url.path}?{urlencode([*query, ('cursor', start + size)])}"
    return page, {"Link": f'<{url}>; rel="next"'}
