"""Signing a browser in with a token of one's own; the cookie it gets opens pages, never the API."""

import hashlib
import hmac
import json
import time
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..accounts import Accounts, Identity
from ..serving.wire import BAD_CREDENTIALS, Refusal, base_url, site, with_form
from .layout import page

COOKIE = "localhub_user"
COOKIE_SECONDS = 7 * 24 * 3600


def _cookie_value(secret: bytes, user: str, token: str, expires: int) -> str:
    """A cookie that ends with its time, and with the user's token."""
    terms = json.dumps(["cookie", user, hashlib.sha256(token.encode()).hexdigest(), expires])
    return f"{user}.{expires}.{hmac.new(secret, terms.encode(), hashlib.sha256).hexdigest()}"


def signed_in(request: Request, secret: bytes, accounts: Accounts) -> Identity | None:
    """Who a browser is signed in as, by its cookie: it opens pages and files to look at, never the API.

    A form of another site carries the cookie too, so beside GET and HEAD it counts only for forms of our own pages.
    """
    if request.method not in ("GET", "HEAD") and not (from_own_page(request) and _says_where_from(request)):
        return None
    value = request.cookies.get(COOKIE, "")
    user, expires = _split(value)
    token = accounts.users.get(user)
    if token is None or expires < time.time():
        return None
    genuine = hmac.compare_digest(value.encode(), _cookie_value(secret, user, token, expires).encode())
    return Identity(user) if genuine else None


def _split(value: str) -> tuple[str, int]:
    """The user (whose name may have dots in it) and the end of a cookie, before anybody knows whether it is genuine."""
    user, _, rest = value.rpartition(".")[0].rpartition(".")
    return user, int(rest) if rest.isascii() and rest.isdecimal() and len(rest) < 12 else 0


def from_own_page(request: Request) -> bool:
    """Whether a form can be one of this Hub's own: a browser says from which origin it sends one."""
    origin, place = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    return origin in (None, base_url(request)) and place in (None, "same-origin", "none")


def _says_where_from(request: Request) -> bool:
    return "origin" in request.headers or "sec-fetch-site" in request.headers


def own_token(request: Request, form: dict[str, list[str]]) -> Identity:
    """Whose token a form holds: a user's own, since one that an application got must not open more than it was given.

    Raises:
        Refusal: it is nobody's, or the form comes from another site.
    """
    if not from_own_page(request):
        raise Refusal(403, "This form was sent by another site; sign in on a page of this Hub.")
    identity = site(request).accounts.identify(form.get("token", [""])[-1].strip())
    if identity is None or identity.scopes is not None:
        raise Refusal(401, BAD_CREDENTIALS.replace("Authorization header", "field 'token'"))
    return identity


def login_page(request: Request) -> Response:
    """GET /login[?next=/path]: asks for a token."""
    return page(request, "login", "Sign in", next=_own_path(request.query_params.get("next", "/")))


def login(request: Request, form: dict[str, list[str]]) -> Response:
    """POST /login, fields token and next"""
    identity, here = own_token(request, form), site(request)
    response = RedirectResponse(_own_path(form.get("next", ["/"])[-1]), 303)
    expires = int(time.time()) + COOKIE_SECONDS
    value = _cookie_value(here.secret, identity.user, here.accounts.users[identity.user], expires)
    secure = base_url(request).startswith("https:")
    response.set_cookie(COOKIE, value, max_age=COOKIE_SECONDS, httponly=True, samesite="lax", secure=secure)
    return response


def logout(request: Request, form: dict[str, list[str]]) -> Response:
    """POST /logout"""
    if not from_own_page(request):
        raise Refusal(403, "This form was sent by another site.")
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE)
    return response


def _own_path(target: str) -> str:
    """A path of this server; '/' for anything that would lead elsewhere."""
    plain = target.isascii() and target.isprintable() and "\\" not in target and len(target) < 2000
    parts = urlsplit(target) if plain and target.startswith("/") and not target.startswith("//") else None
    return target if parts is not None and not parts.netloc and not parts.scheme else "/"


routes = [
    Route("/login", login_page),
    Route("/login", with_form(login), methods=["POST"]),
    Route("/logout", with_form(logout), methods=["POST"]),
]
