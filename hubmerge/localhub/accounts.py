"""Who may do what: users, organisations, tokens and their scopes."""

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import HubError
from .names import check_namespace
from .store.repository import Repository

OAUTH_TOKEN_SECONDS = 8 * 3600
_READ_ALL = frozenset({"read-repos", "write-repos", "manage-repos"})
_WRITE_ALL = frozenset({"write-repos", "manage-repos"})


@dataclass(frozen=True)
class Identity:
    """The bearer of a valid token.

    A user's own token may do all that the user may (`scopes` is None). A token that an application got through OAuth
    is limited to the scopes the user granted; with `contribute-repos` it reaches only what that application created.
    """

    user: str
    scopes: frozenset[str] | None = None
    application: str | None = None
    expires: float | None = None  # seconds since the epoch

    def allows(self, any_of: frozenset[str], created_by: str | None) -> bool:
        """Whether the token has one of these scopes, or `contribute-repos` for something its application created."""
        if self.scopes is None or self.scopes & any_of:
            return True
        return "contribute-repos" in self.scopes and created_by is not None and created_by == self.application

    @property
    def may_create(self) -> bool:
        """Whether the token may create repositories."""
        return self.scopes is None or bool(self.scopes & {"manage-repos", "contribute-repos"})

    @property
    def may_pass_gates(self) -> bool:
        """Whether the token may read gated repositories that the user may read."""
        return self.scopes is None or bool(self.scopes & (_READ_ALL | {"gated-repos"}))


class Accounts:
    """Users with their tokens, and organisations with their members; tokens from OAuth live as long as the server."""

    def __init__(self, users: Mapping[str, str], organizations: Mapping[str, Sequence[str]]) -> None:
        for name in [*users, *organizations]:
            try:
                check_namespace(name)
            except ValueError as error:
                raise HubError(f"A local Hub cannot have this user or organisation: {error}") from None
        for name, token in users.items():
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise HubError(f"The token of user {name} must be printable ASCII without spaces.")
        if len(set(users.values())) != len(users):
            raise HubError("Two users of a local Hub have the same token: give each their own.")
        for name, members in organizations.items():
            unknown = [member for member in members if member not in users]
            if name in users or unknown:
                what = (
                    f"is also a user's name: {name}" if name in users else f"has unknown members: {', '.join(unknown)}"
                )
                raise HubError(f"Organisation {name} {what}.")
        self.users = dict(users)
        self.organizations = {name: tuple(members) for name, members in organizations.items()}
        self._identities = {token: Identity(name) for name, token in users.items()}
        self._guard = threading.Lock()

    def identify(self, token: str) -> Identity | None:
        """Whose token this is; None for an unknown or expired one."""
        identity = self._identities.get(token)
        if identity is not None and identity.expires is not None and identity.expires < time.time():
            with self._guard:
                self._identities.pop(token, None)
            return None
        return identity

    def issue(self, user: str, scopes: frozenset[str], application: str) -> str:
        """A new token for an application that the user let in."""
        token = f"hf_oauth_{secrets.token_urlsafe(24)}"
        with self._guard:
            self._identities[token] = Identity(user, scopes, application, time.time() + OAUTH_TOKEN_SECONDS)
        return token

    def redact(self, text: str) -> str:
        """The text without any valid token."""
        for token in list(self._identities):
            text = text.replace(token, "[token]")
        return text

    def organizations_of(self, user: str) -> list[str]:
        """The organisations a user belongs to."""
        return [name for name, members in self.organizations.items() if user in members]

    def owns(self, user: str, namespace: str) -> bool:
        """Whether a namespace is the user's own or one of their organisations."""
        return user == namespace or user in self.organizations.get(namespace, ())

    def may_see(self, identity: Identity | None, repository: Repository) -> bool:
        """Whether the repository exists for this visitor."""
        settings = repository.settings
        if not settings.private:
            return True
        if identity is None or not self.owns(identity.user, repository.namespace):
            return False
        return identity.allows(_READ_ALL, settings.application)

    def may_read(self, identity: Identity | None, repository: Repository) -> bool:
        """Whether this visitor may read the files of a repository they see."""
        settings = repository.settings
        if not settings.gated:
            return True
        if identity is None:
            return False
        known = self.owns(identity.user, repository.namespace) or identity.user in settings.granted
        return known and (identity.may_pass_gates or identity.allows(_READ_ALL, settings.application))

    def may_write(self, identity: Identity | None, repository: Repository) -> bool:
        """Whether this visitor may change a repository."""
        if identity is None or not self.owns(identity.user, repository.namespace):
            return False
        return identity.allows(_WRITE_ALL, repository.settings.application)

    def may_manage(self, identity: Identity | None, repository: Repository) -> bool:
        """Whether this visitor may delete, rename or open a repository to others."""
        if identity is None or not self.owns(identity.user, repository.namespace):
            return False
        return identity.allows(frozenset({"manage-repos"}), repository.settings.application)
