"""An OpenID Connect provider (authorization code flow, PKCE, RS256), so that gradio's login works here."""

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..accounts import OAUTH_TOKEN_SECONDS
from ..serving.addresses import LONGEST_URL
from ..serving.wire import Refusal, answer, avatar, base_url, known_caller, site, with_form
from .layout import page
from .signin import own_token

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
FIELDS = (
    *("client_id", "redirect_uri", "response_type", "scope", "state", "nonce"),
    *("code_challenge", "code_challenge_method"),
)


@dataclass(frozen=True)
class Grant:
    """What a user allowed, until the application exchanges its code for a token."""

    user: str
    asked: "Asked"
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


@dataclass(frozen=True)
class Asked:
    """What an application asks for: the fields of an authorization request, checked."""

    application: str
    redirect_uri: str
    scopes: tuple[str, ...]
    state: str | None
    nonce: str | None
    challenge: str | None  # PKCE

    @classmethod
    def read(cls, request: Request, fields: Mapping[str, str]) -> "Asked":
        """The request in these fields.

        Raises:
            Refusal: one is missing or wrong; nothing is sent to the redirect_uri then.
        """
        for name in FIELDS:
            if len(fields.get(name, "")) > LONGEST_URL:
                raise Refusal(400, f"The authorization request's {name} has more than {LONGEST_URL} characters.")
        application, redirect_uri = fields.get("client_id", ""), fields.get("redirect_uri", "")
        if not application or fields.get("response_type", "code") != "code":
            raise Refusal(400, "The authorization request needs a client_id and response_type=code.")
        if not site(request).addresses.may_redirect(application, redirect_uri, base_url(request)):
            raise Refusal(
                400,
                "The redirect_uri is neither registered for this application nor on this machine: "
                "this Hub only signs in applications beside it, and those it was told of when it was started.",
            )
        if fields.get("code_challenge") and fields.get("code_challenge_method", "plain") != "S256":
            raise Refusal(400, "This Hub supports the PKCE method S256 only.")
        wanted = dict.fromkeys(fields.get("scope", "openid profile").split())
        scopes = tuple(scope for scope in wanted if scope in SCOPES)
        challenge = fields.get("code_challenge") or None
        return cls(application, redirect_uri, scopes, fields.get("state"), fields.get("nonce"), challenge)


def authorize(request: Request) -> Response:
    """GET /oauth/authorize: says what an application asks for, and asks for the token of who lets it in.

    The cookie is not enough: browsers send it to every port of this machine, so an application could have it.
    """
    fields = {name: request.query_params[name] for name in FIELDS if name in request.query_params}
    asked = Asked.read(request, fields)
    target = urlsplit(asked.redirect_uri)
    # A policy cannot name an IPv6 address.
    origin = f"{target.scheme}:" if "[" in target.netloc else f"{target.scheme}://{target.netloc}"
    return page(
        request,
        "authorize",
        "Sign in",
        sent_on_to=origin,
        asked=asked,
        place=target.netloc,
        scopes=[SCOPES[scope] for scope in asked.scopes],
        fields=fields,
    )


def let_in(request: Request, form: dict[str, list[str]]) -> Response:
    """POST /oauth/authorize, the fields of the request and the user's token: back to the application with a code."""
    asked = Asked.read(request, {name: values[-1] for name, values in form.items()})
    user = own_token(request, form).user
    grant = Grant(user, asked, time.time() + CODE_SECONDS)
    returned = {"code": _provider(request).remember(grant)}
    if asked.state is not None:
        returned["state"] = asked.state
    joint = "&" if urlsplit(asked.redirect_uri).query else "?"
    return RedirectResponse(f"{asked.redirect_uri}{joint}{urlencode(returned)}", 303)


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
    if grant is None:
        return _token_error("invalid_grant")
    asked = grant.asked
    if (asked.application, asked.redirect_uri) != (application, field.get("redirect_uri")):
        return _token_error("invalid_grant")
    if asked.challenge is not None and not _verifies(field.get("code_verifier", ""), asked.challenge):
        return _token_error("invalid_grant")
    now = int(time.time())
    claims = {**_profile(request, grant.user), "iss": base_url(request), "aud": application, "iat": now}
    claims |= {"exp": now + 3600, "auth_time": now} | ({"nonce": asked.nonce} if asked.nonce else {})
    return answer(
        {
            "access_token": site(request).accounts.issue(grant.user, frozenset(asked.scopes), asked.application),
            "token_type": "bearer",
            "expires_in": OAUTH_TOKEN_SECONDS,
            "scope": " ".join(asked.scopes),
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
    except ValueError:  # no base64, or no text
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
    Route("/oauth/authorize", with_form(let_in), methods=["POST"]),
    Route("/oauth/token", with_form(token), methods=["POST"]),
    Route("/oauth/userinfo", userinfo, methods=["GET", "POST"]),
    Route("/oauth/jwks", jwks),
]
