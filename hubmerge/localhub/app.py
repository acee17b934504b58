"""The ASGI application: routing on the raw path, who is asking, refusals, faults and the log."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api import cdn, committing, contents, discussions, jobs, lfs, listing, repositories, spaces
from .names import PAGES, RESERVED
from .people import oauth, pages, signin
from .people.layout import page
from .serving import requestlog, zerocopy
from .serving.connections import connection_of
from .serving.faults import Fault, Faults, reset
from .serving.wire import Refusal, Site, named_repository, refuse
from .store.repository import Vanished

_METHODS = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]

# Where only tokens count; elsewhere a browser's cookie does too.
_MACHINE_PATHS = ("/api/", cdn.PREFIX, "/lfs/", "/oauth/token", "/oauth/userinfo", "/oauth/jwks", "/.well-known/")

_OTHER_HOST = "This Hub does not go by the name in the Host header; it is started with the names it has (--address)."


def make_application(site: Site) -> ASGIApp:
    """The handlers of every route: of the Hub, and on the CDN's port those of the CDN alone."""
    hub, delivery = _application(site, hub_routes()), _application(site, cdn.routes)
    hub.state.provider = oauth.Provider()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await (delivery if scope["server"][1] == site.cdn_port else hub)(scope, receive, send)

    return application


def hub_routes() -> list[Route]:
    """Every route of the Hub, the first that fits being taken."""
    return [
        *repositories.routes,
        *spaces.routes,
        *jobs.routes,
        *oauth.routes,
        *committing.routes,
        *discussions.routes,
        *lfs.routes,
        *contents.routes,
        *listing.routes,
        *(Route(f"/{first}/{{rest:path}}", _unknown, methods=_METHODS) for first in sorted(RESERVED - PAGES)),
        *signin.routes,
        *pages.routes,
    ]


def _application(site: Site, routes: Sequence[BaseRoute]) -> Starlette:
    handlers = {Refusal: _refused, HTTPException: _no_such_route, FileNotFoundError: _vanished, Exception: _broken}
    application = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
    application.state.site = site
    return application


def _refused(request: Request, error: Refusal) -> Response:
    if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith(_MACHINE_PATHS):
        return refuse(error)
    address = urlencode({"next": request.url.path})
    return page(request, "refused", str(error.status), error.status, message=error.message, address=address)


def _unknown(request: Request) -> Response:
    raise HTTPException(404)


def _vanished(request: Request, error: FileNotFoundError) -> Response:
    """A repository may be deleted while a request about it is under way; any other missing file is a fault of ours."""
    site: Site = request.app.state.site
    named = "namespace" in request.path_params
    if not isinstance(error, Vanished) and not (named and site.store.find(*named_repository(request)) is None):
        raise error
    return _refused(request, Refusal(404, "Repository not found", "RepoNotFound"))


def _broken(request: Request, error: Exception) -> Response:
    return refuse(Refusal(500, f"The local Hub failed on {request.method} {request.url.path}: {type(error).__name__}."))


def _no_such_route(request: Request, error: HTTPException) -> Response:
    # A name without a namespace ("gpt2") is a repository that this Hub cannot have.
    path = request.url.path
    names_repository = "/resolve/" in path or path.startswith(("/api/models/", "/api/datasets/", "/api/spaces/"))
    code = "RepoNotFound" if error.status_code == 404 and names_repository else ""
    return _refused(request, Refusal(error.status_code, f"{request.method} {path}: {error.detail}", code))


class Gate:
    """What every request passes on its way in and out."""

    def __init__(
        self, application: ASGIApp, site: Site, log: requestlog.RequestLog, faults: Callable[[], Faults | None]
    ):
        self._application = application
        self._site = site
        self._log = log
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        # Revisions arrive quoted (exp%2F1): route on the path as it came, and let each handler unquote its part.
        scope["path"] = scope["raw_path"].decode("ascii", "replace").partition("?")[0]
        request = Request(scope)
        base = self._site.addresses.base_url(request.headers.get("host"), scope["server"])
        scope["base_url"] = base or ""
        self._identify(request)
        passage = _Passage(self._log, request, receive, send)
        if base is None:
            await refuse(Refusal(421, _OTHER_HOST))(scope, passage.receive, passage.send)
            return
        faults = self._faults()
        fault = faults(request) if faults is not None else None
        if fault is None:
            await self._application(scope, passage.receive, passage.send)
        else:
            await self._break(fault, passage)

    def _identify(self, request: Request) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if not kind and not request.url.path.startswith(_MACHINE_PATHS):
            request.scope["identity"] = signin.signed_in(request, self._site.secret, self._site.accounts)
        if kind.lower() == "bearer":
            identity = self._site.accounts.identify(token.strip())
            request.scope["identity"] = identity
            request.scope["bad_token"] = identity is None

    async def _break(self, fault: Fault, passage: "_Passage") -> None:
        scope = passage.request.scope
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.reset:
            passage.record(0)
            reset(connection_of(scope))
        elif fault.status is not None:
            response = Response(fault.body, fault.status, dict(fault.headers))
            await response(scope, passage.receive, passage.send)
        else:
            if fault.ignore_range:
                scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
            passage.bytes_left = fault.truncate_after
            await self._application(scope, passage.receive, passage.send)


def _shortened(message: Message, size: int) -> Message:
    """A part of a body, up to `size` bytes of it, after which more would come."""
    if message["type"] == zerocopy.MESSAGE:
        return {**message, "count": size, "more_body": True}
    return {**message, "body": message["body"][:size], "more_body": True}


class _Passage:
    """One request's way through: counts its bytes, records it once, and cuts it where a fault says so."""

    def __init__(self, log: requestlog.RequestLog, request: Request, receive: Receive, send: Send) -> None:
        self.request = request
        self.bytes_left: int | None = None
        self._log = log
        self._receive = receive
        self._send = send
        self._started = time.monotonic()
        self._status = 0
        self._received = 0
        self._sent = 0
        self._over = False
        self._start: Message | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if self._over:
            return
        if message["type"] == "http.response.start":
            # It goes out with the body's first piece: an answer to HEAD is complete for the client with its headers.
            self._status, self._start = message["status"], message
            return
        size = message["count"] if message["type"] == zerocopy.MESSAGE else len(message.get("body", b""))
        cut = self.bytes_left is not None and size > self.bytes_left
        if self.bytes_left is not None:
            if cut:
                message, size = _shortened(message, self.bytes_left), self.bytes_left
            self.bytes_left -= size
        if self.request.method != "HEAD":
            self._sent += size
        ends = cut or not message.get("more_body")
        if ends:
            self.record(self._status)  # before the client can see the end, so that it finds the entry in the log
        try:
            await self._forward(message)
        except zerocopy.Disconnected:
            if not ends:
                self.record(self._status)
            cut = True
        if cut:
            await self._hang_up()

    async def _forward(self, message: Message) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            await self._send(start)
        if message["type"] != zerocopy.MESSAGE:
            await self._send(message)
            return
        if message["count"]:
            await zerocopy.send_file(self.request.scope, message)
        if not message["more_body"]:
            await self._send({"type": "http.response.body", "body": b""})

    async def _hang_up(self) -> None:
        """End an answer before its end."""
        self._over = True
        transport = connection_of(self.request.scope)
        if transport is not None:
            transport.close()  # after what was written is sent
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def record(self, status: int) -> None:
        request = self.request
        identity = request.scope.get("identity")
        self._log.add(
            requestlog.Request(
                time=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                method=request.method,
                path=request.scope["path"],
                query=request.scope["query_string"].decode("ascii", "replace"),
                range=request.headers.get("range"),
                status=status,
                received=self._received,
                sent=self._sent,
                user=identity.user if identity is not None else None,
                seconds=round(time.monotonic() - self._started, 4),
            )
        )
