"""An OpenID Connect provider (authorization code flow, PKCE, RS256), so that gradio's login works here."""

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hubmerge.localhub.accounts import OAUTH_TOKEN_SECONDS
from hubmerge.localhub.layout import page
from hubmerge.localhub.wire import Refusal, answer, avatar, base_url, known_caller, site, with_form

CODE_SECONDS = 300
SCOPES = {
    "openid": "know who you are",
    "profile": "see your public profile",
    "email": "see your e-mail address",
    "read-repos": "read your repositories",
    "write-repos": "change your repositories",
    "manage-repos": "create, change and delete your repositories",
    "contribute-repos": "create repositories, and change those it created",
    "gated-repos": "read the gated repositories you may read",
    "write-discussions": "open discussions and pull requests for you",
}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class Grant:
    """What a user allowed, until the application exchanges its code for a token."""

    user: str
    application: str
    redirect_uri: str
    scopes: tuple[str, ...]
    nonce: str | None
    challenge: str | None  # PKCE
    expires: float  # seconds since the epoch


class Provider:
    """The codes given out and the key that signs identities; both live as long as the server."""

    def __init__(self) -> None:
        self._grants: dict[str, Grant] = {}
        self._guard = threading.Lock()
        self._key: Any = None

    def remember(self, grant: Grant) -> str:
        """A one-time code for a grant."""
        code = secrets.token_urlsafe(32)
        with self._guard:
            self._grants = {key: value for key, value in self._grants.items() if value.expires > time.time()}
            self._grants[code] = grant
        return code

    def redeem(self, code: str) -> Grant | None:
        """The grant of a code, once."""
        with self._guard:
            grant = self._grants.pop(code, None)
        return grant if grant is not None and grant.expires > time.time() else None

    @property
    def key(self) -> Any:
        """The RSA key, made when first needed.

        Raises:
            Refusal: 501 where the optional packages are missing.
        """
        try:
            from joserfc.jwk import RSAKey
        except ImportError:
            raise Refusal(501, "OAuth needs the extra packages: pip install 'hubmerge[oauth]'") from None
        with self._guard:
            if self._key is None:
                options = {"kid": secrets.token_hex(8), "use": "sig", "alg": "RS256"}
                self._key = RSAKey.generate_key(2048, options)  # type: ignore[arg-type]
            return self._key

    def sign(self, claims: dict[str, Any]) -> str:
        """The claims as a signed token."""
        from joserfc import jwt

        key = self.key
        return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)


def _provider(request: Request) -> Provider:
    found: Provider = request.app.state.provider
    return found


def configuration(request: Request) -> Response:
    """GET /.well-known/openid-configuration"""
    _ = _provider(request).key
    base = base_url(request)
    return answer(
        {
            "issuer": base,
            "authorization_endpoint": f"{base}/oauth/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "userinfo_endpoint": f"{base}/oauth/userinfo",
            "jwks_uri": f"{base}/oauth/jwks",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
        }
    )


def authorize(request: Request) -> Response:
    """GET /oauth/authorize: asks which user lets the application in, then sends the browser back with a code.

    With `user=NAME` in the query, or only one user on this Hub, nobody is asked.
    """
    query = request.query_params
    redirect_uri, application = query.get("redirect_uri", ""), query.get("client_id", "")
    _check_redirect(request, redirect_uri)
    if not application or query.get("response_type", "code") != "code":
        raise Refusal(400, "The authorization request needs a client_id and response_type=code.")
    if query.get("code_challenge") and query.get("code_challenge_method", "plain") != "S256":
        raise Refusal(400, "This Hub supports the PKCE method S256 only.")
    users = site(request).accounts.users
    user = query.get("user") or (next(iter(users)) if len(users) == 1 else None)
    scopes = tuple(scope for scope in query.get("scope", "openid profile").split() if scope in SCOPES)
    if user is None:
        return _consent_page(request, application, redirect_uri, scopes)
    if user not in users:
        raise Refusal(400, f"There is no user {user} on this Hub.")
    expires = time.time() + CODE_SECONDS
    grant = Grant(
        user, application, redirect_uri, scopes, query.get("nonce"), query.get("code_challenge") or None, expires
    )
    returned = {"code": _provider(request).remember(grant)}
    if "state" in query:
        returned["state"] = query["state"]
    joint = "&" if urlsplit(redirect_uri).query else "?"
    return RedirectResponse(f"{redirect_uri}{joint}{urlencode(returned)}", 302)


def _check_redirect(request: Request, redirect_uri: str) -> None:
    """Send codes to this machine, or to the machine the Hub itself is reached at, and nowhere else."""
    try:
        target = urlsplit(redirect_uri)
        host = target.hostname or ""
    except ValueError:
        raise Refusal(400, "The redirect_uri is not a URL.") from None
    own = urlsplit(base_url(request)).hostname
    known = host in _LOOPBACK or host.endswith(".localhost") or host == own
    if target.scheme not in ("http", "https") or not known or target.fragment:
        raise Refusal(
            400, f"The redirect_uri leads to {host or 'no host'}; this Hub only signs in applications beside it."
        )


def _consent_page(request: Request, application: str, redirect_uri: str, scopes: tuple[str, ...]) -> Response:
    query = dict(request.query_params)
    links = "".join(
        f'<a class="button" href="/oauth/authorize?{escape(urlencode({**query, "user": user}))}">'
        f"Continue as {escape(user)}</a> "
        for user in site(request).accounts.users
    )
    asks = "".join(f"<li>{escape(SCOPES[scope])}</li>" for scope in scopes)
    place = escape(urlsplit(redirect_uri).netloc)
    question = f"<h1>Let {escape(application)} in?</h1><p>The application at <b>{place}</b> asks to:</p>"
    body = f"{question}<ul>{asks}</ul><p>{links}</p>"
    return page(request, "Sign in", body)


def token(request: Request, form: dict[str, list[str]]) -> Response:
    """POST /oauth/token: exchanges a code for an access token and a signed identity.

    This Hub keeps no list of applications, so it accepts any client secret; what protects a code is that it works once,
    for the same client and redirect_uri, and with PKCE only for whoever holds the verifier.
    """
    field = {name: values[-1] for name, values in form.items()}
    if field.get("grant_type") != "authorization_code":
        return _token_error("unsupported_grant_type")
    application = _client_id(request, field)
    grant = _provider(request).redeem(field.get("code", ""))
    if grant is None or grant.application != application or grant.redirect_uri != field.get("redirect_uri"):
        return _token_error("invalid_grant")
    if grant.challenge is not None and not _verifies(field.get("code_verifier", ""), grant.challenge):
        return _token_error("invalid_grant")
    now = int(time.time())
    claims = {**_profile(request, grant.user), "iss": base_url(request), "aud": application, "iat": now}
    claims |= {"exp": now + 3600, "auth_time": now} | ({"nonce": grant.nonce} if grant.nonce else {})
    return answer(
        {
            "access_token": site(request).accounts.issue(grant.user, frozenset(grant.scopes), application),
            "token_type": "bearer",
            "expires_in": OAUTH_TOKEN_SECONDS,
            "scope": " ".join(grant.scopes),
            "id_token": _provider(request).sign(claims),
        },
        headers={"Cache-Control": "no-store"},
    )


def _token_error(code: str) -> Response:
    return answer({"error": code}, 400, {"X-Error-Code": code})


def _client_id(request: Request, field: dict[str, str]) -> str | None:
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return field.get("client_id")
    try:
        return unquote(base64.b64decode(encoded, validate=True).decode().partition(":")[0])
    except (binascii.Error, UnicodeDecodeError):
        return None


def _verifies(verifier: str, challenge: str) -> bool:
    digest = hashlib.sha256(verifier.encode()).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"="), challenge.encode())


def _profile(request: Request, user: str) -> dict[str, Any]:
    base = base_url(request)
    return {
        "sub": user,
        "name": user,
        "preferred_username": user,
        "profile": f"{base}/{user}",
        "picture": avatar(base, user),
    }


def userinfo(request: Request) -> Response:
    """GET /oauth/userinfo"""
    user = known_caller(request).user
    organizations = [
        {"sub": name, "name": name, "preferred_username": name}
        for name in site(request).accounts.organizations_of(user)
    ]
    return answer({**_profile(request, user), "orgs": organizations})


def jwks(request: Request) -> Response:
    """GET /oauth/jwks: the public half of the signing key."""
    return answer({"keys": [_provider(request).key.as_dict(private=False)]})


routes = [
    Route("/.well-known/openid-configuration", configuration),
    Route("/oauth/authorize", authorize),
    Route("/oauth/token", with_form(token), methods=["POST"]),
    Route("/oauth/userinfo", userinfo, methods=["GET", "POST"]),
    Route("/oauth/jwks", jwks),
]
