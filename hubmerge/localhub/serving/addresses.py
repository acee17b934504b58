"""The addresses a local Hub answers to, and where it sends a browser back to.

A Host header or a redirect that names anything else is refused: neither another site's name that resolves here
(DNS rebinding) nor an invented one ends up in a URL that this Hub gives out.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import HubError

_AUTHORITY = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>\d{1,5}))?")
_PLAIN_URL = re.compile(r"[!#-\[\]^_a-z~]+")  # what a URL is written with: no space, control character, quote or '\\'
LONGEST_URL = 2000  # characters


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine itself, whatever a name server says."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _authority(text: str) -> tuple[str, int | None] | None:
    """'Hub.lab:80' -> ('hub.lab', 80); None for anything that is no host with a port or without."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    return None if port is not None and not 0 < port < 65536 else (match["name"].lower(), port)


@dataclass(frozen=True)
class Addresses:
    """What a Hub is reached at, and the addresses that applications registered.

    Args:
        names: further addresses such as "http://hub.lab:8765" or, behind a proxy with encryption, "https://hub.lab".
        applications: client id -> the redirect addresses it may use; any query may follow them. A client that is not
            listed may use addresses of this machine and of the Hub's own hosts.

    Raises:
        HubError: one of them is no http(s) address.
    """

    names: Sequence[str] = ()
    applications: Mapping[str, Sequence[str]] | None = None

    def __post_init__(self) -> None:
        redirects = [url for urls in (self.applications or {}).values() for url in urls]
        for url in [*self.names, *redirects]:
            parts = urlsplit(url) if _PLAIN_URL.fullmatch(url) else None
            if parts is None or parts.scheme not in ("http", "https") or _authority(parts.netloc) is None:
                raise HubError(f"An address of a local Hub must be like http://hub.lab:8765, got {url!r}.")
            if url in self.names and (parts.path.strip("/") or parts.query or parts.fragment):
                raise HubError(f"An address of a local Hub has no path, got {url!r}.")

    def base_url(self, host: str | None, reached: tuple[str, int]) -> str | None:
        """The address that a request was sent to, for every URL given back; None where it is not one of this Hub's.

        Args:
            host: the Host header; None where there is none (HTTP/1.0).
            reached: the address and port of this end of the connection.
        """
        local = f"[{reached[0]}]" if ":" in reached[0] else reached[0]
        if host is None:
            return f"http://{local}:{reached[1]}"
        for url in self.names:
            if urlsplit(url).netloc.lower() == host.lower():
                return url.rstrip("/")
        named = _authority(host)
        if named is None or not (is_loopback(named[0]) or named[0] == local.lower()):
            return None
        return f"http://{host.lower()}"

    def may_redirect(self, application: str, url: str, own: str) -> bool:
        """Whether an application's code may be sent to `url`; `own` is the `base_url` of the request."""
        if len(url) > LONGEST_URL or not _PLAIN_URL.fullmatch(url):
            return False
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        authority = _authority(parts.netloc)  # none with a user or a password in it
        if parts.scheme not in ("http", "https") or authority is None or parts.fragment:
            return False
        if self.applications and application in self.applications:
            bare = parts._replace(query="").geturl()
            return bare in self.applications[application]
        hosts = {urlsplit(address).hostname for address in (own, *self.names)}
        return is_loopback(authority[0]) or authority[0].strip("[]") in hosts
