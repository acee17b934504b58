"""Large files by way of another origin, as the real Hub sends them: a signed URL that needs no token, and expires.

The other origin is a second port of the same server, since a client keeps its token for every URL of one origin.
"""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..serving.delivery import deliver, file_headers
from ..serving.signing import BadSignature, signed_query, signed_terms
from ..serving.wire import named_repository, parameter, site
from ..store.commits import Entry
from ..store.repository import Repository

PREFIX = "/cdn/"
_DENIED = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access denied</Message></Error>'
)


def redirect(request: Request, repository: Repository, path: str, entry: Entry, seconds: float) -> Response:
    """302 to where a file's bytes are for so many seconds; what the client should know of the file is told here."""
    here = site(request)
    subject = _subject(repository.type, repository.id, entry.sha256, path)
    address = request.url.replace(
        port=here.cdn_port,
        path=f"{PREFIX}{repository.type}s/{repository.id}/{entry.sha256}/{quote(path)}",
        query=signed_query(here.secret, subject, {"size": str(entry.size)}, seconds),
    )
    return Response(status_code=302, headers={"Location": str(address), "Cache-Control": "no-cache"})


def download(request: Request) -> Response:
    """GET or HEAD /cdn/{kind}/{namespace}/{name}/{oid}/{path}: the file, whole or a range of it."""
    here, oid, path = site(request), parameter(request, "oid"), parameter(request, "path")
    try:
        terms = signed_terms(here.secret, _subject(*named_repository(request), oid, path), request.query_params)
    except BadSignature:
        return Response(_DENIED, 403, media_type="application/xml")
    return deliver(request, oid, int(terms["size"]), file_headers(path, oid))


def _subject(type: str, id: str, oid: str, path: str) -> tuple[str, ...]:
    return ("cdn", type, id, oid, path)


routes = [Route(f"{PREFIX}{{kind}}/{{namespace}}/{{name}}/{{oid}}/{{path:path}}", download)]
