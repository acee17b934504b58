"""Large files: the git-lfs batch call, then uploads in one piece or in parts, checked while they stream to disk."""

import re
from secrets import token_hex
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..serving.signing import BadSignature, signed_query, signed_terms
from ..serving.wire import (
    TYPE_PREFIXES,
    Refusal,
    answer,
    base_url,
    caller,
    check_repository,
    find_repository,
    named_repository,
    parse_object,
    pieces_of,
    read_body,
    site,
    with_json,
)
from ..store.objects import PIECE, IntegrityError, Upload
from ..store.repository import Repository

URL_SECONDS = 24 * 3600  # how long an upload URL works
LARGEST_BATCH = 1000
LARGEST_OBJECT = 5 << 40  # bytes, as the storage behind the real Hub has it
LARGEST_PARTS = 10_000  # of all objects of a batch together: each is a URL in the answer, before a byte has come
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE = "application/vnd.git-lfs+json"


def is_sha256(text: object) -> bool:
    """Whether a text is a SHA-256 in lower-case hexadecimal."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def batch(request: Request, body: dict[str, Any]) -> Response:
    """POST [/datasets|/spaces]/{namespace}/{name}.git/info/lfs/objects/batch: where to send which object."""
    repository = find_repository(request)
    check_contributor(request, repository)
    if body.get("operation") != "upload":
        raise Refusal(400, "This Hub serves git-lfs uploads only; files are read through /resolve/.")
    objects = body.get("objects")
    if not isinstance(objects, list) or not 0 < len(objects) <= LARGEST_BATCH:
        raise Refusal(400, f"Field 'objects' must list 1 to {LARGEST_BATCH} objects.")
    parts = LARGEST_PARTS // len(objects)
    answers = [_instructions(request, repository, item, parts) for item in objects]
    multipart = any("chunk_size" in item.get("actions", {}).get("upload", {}).get("header", {}) for item in answers)
    transfer = "multipart" if multipart else "basic"
    return answer({"transfer": transfer, "objects": answers}, headers={"Content-Type": _MEDIA_TYPE})


def check_contributor(request: Request, repository: Repository) -> None:
    """Let in whoever may write, and whoever is known and may read: they may propose changes as a pull request."""
    here, identity = site(request), caller(request)
    if identity is None:
        raise Refusal(401, "Invalid username or password.")
    if not here.accounts.may_write(identity, repository):
        check_repository(request, repository.type, repository.id, "read")
        if identity.scopes is not None and not identity.scopes & {"write-repos", "manage-repos", "write-discussions"}:
            raise Refusal(403, "Forbidden: this token may not open pull requests.")


def _instructions(request: Request, repository: Repository, item: Any, parts: int) -> dict[str, Any]:
    """What to send for one object, in at most so many parts."""
    here = site(request)
    oid, size = (item.get("oid"), item.get("size")) if isinstance(item, dict) else (None, None)
    if not is_sha256(oid) or type(size) is not int or not 0 <= size <= LARGEST_OBJECT:
        raise Refusal(400, f"Every object needs an 'oid' (SHA-256) and a 'size' of at most {LARGEST_OBJECT} bytes.")
    assert isinstance(oid, str), "checked above"
    if repository.owns_object(oid) and here.store.objects.has(oid, size):
        return {"oid": oid, "size": size}
    signed = f"{base_url(request)}/lfs/{repository.type}s/{repository.id}/{oid}"
    ticket = {"size": str(size), "upload": token_hex(16)}
    header: dict[str, str] = {}
    subject = _subject(repository, oid)
    if size > here.multipart_over:
        part_size = max(here.part_size, -(-size // parts))
        count = -(-size // part_size)
        ticket |= {"count": str(count), "part_size": str(part_size)}
        header = {"chunk_size": str(part_size)}
        query = signed_query(here.secret, subject, ticket, URL_SECONDS)
        header |= {str(number): f"{signed}/parts/{number}?{query}" for number in range(1, count + 1)}
        href = f"{signed}/complete?{query}"
    else:
        href = f"{signed}?{signed_query(here.secret, subject, ticket, URL_SECONDS)}"
    actions = {"upload": {"href": href, "header": header}, "verify": {"href": f"{signed}/verify"}}
    return {"oid": oid, "size": size, "authenticated": True, "actions": actions}


def _subject(repository: Repository, oid: str) -> tuple[str, ...]:
    """What an upload URL is signed for."""
    return ("upload", repository.type, repository.id, oid)


def _open_ticket(request: Request) -> tuple[Repository, str, dict[str, str]]:
    """The repository, the object and the terms that an upload URL was signed for."""
    here, oid = site(request), request.path_params["oid"]
    if not is_sha256(oid):
        raise Refusal(404, "There is no object of this name.")
    repository = here.store.find(*named_repository(request))
    if repository is None:
        raise Refusal(404, "Repository not found", "RepoNotFound")
    try:
        ticket = signed_terms(here.secret, _subject(repository, oid), request.query_params)
    except BadSignature:
        raise Refusal(403, "This upload URL is not valid, or not any more: ask for a new one.") from None
    return repository, oid, ticket


async def _receive(request: Request, upload: Upload, limit: int) -> None:
    """Stream a body to disk, hashing and writing about a MiB at a time in a thread."""
    waiting = bytearray()
    async for piece in pieces_of(request):
        waiting += piece
        if upload.size + len(waiting) > limit:
            raise Refusal(400, f"The body is larger than the {limit} bytes announced.")
        if len(waiting) >= PIECE:
            await run_in_threadpool(upload.write, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(upload.write, bytes(waiting))


async def put_whole(request: Request) -> Response:
    """PUT /lfs/{kind}/{namespace}/{name}/{oid}: an object in one piece."""
    repository, oid, ticket = _open_ticket(request)
    size = int(ticket["size"])
    with site(request).store.objects.receive() as upload:
        await _receive(request, upload, size)
        await run_in_threadpool(_finish, upload, oid, size)
    repository.mark_object(oid)
    return Response()


def _finish(upload: Upload, oid: str, size: int) -> None:
    try:
        upload.finish(oid, size)
    except IntegrityError as error:
        raise Refusal(400, f"Upload of {oid} refused: {error}.") from None


async def put_part(request: Request) -> Response:
    """PUT /lfs/{kind}/{namespace}/{name}/{oid}/parts/{number}"""
    _, _, ticket = _open_ticket(request)
    objects, text = site(request).store.objects, request.path_params["number"]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    count, part_size, size = (int(ticket.get(name, 0)) for name in ("count", "part_size", "size"))
    if not 1 <= number <= count:
        raise Refusal(400, f"There is no part {text} of {count}.")
    expected = part_size if number < count else size - part_size * (count - 1)
    with objects.receive() as upload:
        await _receive(request, upload, expected)
        if upload.size != expected:
            raise Refusal(400, f"Part {number} has {upload.size} bytes where {expected} were announced.")
        await run_in_threadpool(objects.put_part, ticket["upload"], number, upload)
        return Response(headers={"ETag": f'"{upload.etag}"'})


async def complete(request: Request) -> Response:
    """POST /lfs/{kind}/{namespace}/{name}/{oid}/complete: join the parts and check the whole."""
    repository, oid, ticket = _open_ticket(request)
    parse_object(await read_body(request))
    objects, size = site(request).store.objects, int(ticket["size"])
    if not (
        repository.owns_object(oid) and objects.has(oid, size)
    ):  # a client repeats the call where the answer was lost
        try:
            await run_in_threadpool(objects.join_parts, ticket["upload"], int(ticket.get("count", 0)), oid, size)
        except IntegrityError as error:
            raise Refusal(400, f"Upload of {oid} refused: {error}.") from None
        repository.mark_object(oid)
    return answer({})


def verify(request: Request, body: dict[str, Any]) -> Response:
    """POST /lfs/{kind}/{namespace}/{name}/{oid}/verify {oid, size}"""
    repository = find_repository(request)
    check_contributor(request, repository)
    oid, size = request.path_params["oid"], body.get("size")
    if (
        not is_sha256(oid)
        or type(size) is not int
        or not repository.owns_object(oid)
        or not site(request).store.objects.has(oid, size)
    ):
        raise Refusal(404, f"Object {oid} was not uploaded completely.")
    return answer({})


_UPLOAD = "/lfs/{kind}/{namespace}/{name}/{oid}"
routes = [
    Route(_UPLOAD, put_whole, methods=["PUT"]),
    Route(f"{_UPLOAD}/parts/{{number}}", put_part, methods=["PUT"]),
    Route(f"{_UPLOAD}/complete", complete, methods=["POST"]),
    Route(f"{_UPLOAD}/verify", with_json(verify), methods=["POST"]),
    *(
        Route(f"{prefix}/{{namespace}}/{{name}}.git/info/lfs/objects/batch", with_json(batch), methods=["POST"])
        for prefix in TYPE_PREFIXES
    ),
]
