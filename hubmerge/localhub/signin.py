"""Signing a browser in: pick a user, get a cookie. There are no passwords; the cookie opens pages, never the API."""

import hashlib
import hmac
from html import escape

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hubmerge.localhub.accounts import Identity
from hubmerge.localhub.layout import page
from hubmerge.localhub.wire import Refusal, site, with_form

COOKIE = "localhub_user"


def _cookie_value(secret: bytes, user: str) -> str:
    return f"{user}.{hmac.new(secret, f'cookie {user}'.encode(), hashlib.sha256).hexdigest()}"


def signed_in(request: Request, secret: bytes) -> Identity | None:
    """Who a browser is signed in as, by its cookie: it opens pages and files to look at, never the API."""
    value = request.cookies.get(COOKIE, "")
    user = value.rpartition(".")[0]
    return (
        Identity(user) if user and hmac.compare_digest(value.encode(), _cookie_value(secret, user).encode()) else None
    )


def login_page(request: Request) -> Response:
    """GET /login[?next=/path]: pick a user; this Hub has no passwords."""
    target = _own_path(request.query_params.get("next", "/"))
    buttons = "".join(
        f"<p><button name='user' value='{escape(user)}'>Continue as {escape(user)}</button></p>"
        for user in site(request).accounts.users
    )
    hidden = f"<input type='hidden' name='next' value='{escape(target)}'>"
    return page(request, "Sign in", f"<h1>Sign in</h1><form method='post' action='/login'>{hidden}{buttons}</form>")


def login(request: Request, form: dict[str, list[str]]) -> Response:
    """POST /login, fields user and next"""
    user = form.get("user", [""])[0]
    if user not in site(request).accounts.users:
        raise Refusal(400, f"There is no user {user} on this Hub.")
    response = RedirectResponse(_own_path(form.get("next", ["/"])[0]), 303)
    response.set_cookie(COOKIE, _cookie_value(site(request).secret, user), httponly=True, samesite="lax")
    return response


def logout(request: Request) -> Response:
    """GET /logout"""
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE)
    return response


def _own_path(target: str) -> str:
    """A path of this server; '/' for anything that would lead elsewhere."""
    return target if target.startswith("/") and target[1:2] not in ("/", "\\") else "/"


routes = [
    Route("/login", login_page),
    Route("/login", with_form(login), methods=["POST"]),
    Route("/logout", logout),
]
