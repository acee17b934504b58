"""Parts of one file of the Hub, read in any order by any number of threads, each checked to be of the pinned file.

The Hub is asked once where a file's content is, and the content's own place is asked for every part after that: a merge
of large models needs tens of thousands of parts, and the Hub counts the requests that it answers itself.

Parts come over plain HTTP. hf_xet could fetch what Xet holds, but nothing here could be compared with a Hub that offers
it; a Hub with Xet serves the same bytes by HTTP.
"""

import mmap
import re
import threading
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus

import httpx2
import huggingface_hub as client  # which loads each of its names when it is first used
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import hf_raise_for_status

from ..errors import HubError, Interrupted
from .agent import hub_headers
from .patience import TICK, bounded, check_stopped, nap
from .session import BROKEN, TIMEOUT, bounded_session, pause

ATTEMPTS = 6
"""Requests in a row that bring nothing before a read fails; more than for small requests, since more would be lost."""

REDIRECTS = 5
"""From the Hub to the content: one for a repository that was renamed, one to the storage, and some to spare."""

# What storages answer to an address that has expired: S3 and CloudFront 403, temporary credentials 400.
_REFUSALS = (400, 401, 403, 404, 410)
_SHA256 = re.compile(r"[0-9a-f]{64}")


_LARGE = 1 << 20
"""Bytes."""

_LONGEST_HEAD = 4 << 20
"""Bytes of a file's beginning that are kept: the headers of the largest shards have a few hundred thousand."""


@dataclass(frozen=True)
class _Place:
    """Where a file's content is served, for a time, and the ETag that it has there."""

    url: httpx2.URL
    etag: str | None


@dataclass(eq=False)
class RangedFile:
    """The file `name` of a model repository at `commit`: `size` bytes, `sha256` where the Hub lists one."""

    repo_id: str
    commit: str
    name: str
    size: int
    sha256: str | None = None
    token: str | None = field(default=None, repr=False)
    # The content's place, or the search for it: whoever finds none here searches, all others wait for that.
    _place: "Future[_Place] | None" = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    # The header that was read of a safetensors file: it is wanted again, exactly as it was, when all is hashed.
    _head: bytes = field(default=b"", init=False, repr=False)

    @cached_property
    def _url(self) -> httpx2.URL:
        return httpx2.URL(client.hf_hub_url(self.repo_id, self.name, revision=self.commit))

    def read(self, start: int, stop: int) -> memoryview:
        """The bytes `start` up to but not including `stop`.

        What the network breaks is continued where it stopped, and what a busy server refuses is asked for again; only
        `ATTEMPTS` in a row that bring nothing are one too many. Raises `HubError` where the answer is not a part of
        the pinned file; the exceptions of huggingface_hub and its HTTP library pass through.
        """
        if stop <= len(self._head):
            return memoryview(self._head)[start:stop]
        content = self._fetched(start, stop)
        self._keep_head(start, content)
        return content

    def _keep_head(self, start: int, content: memoryview) -> None:
        with self._lock:
            if start == len(self._head):
                head = self._head + content[:_LONGEST_HEAD]
                length = 8 + int.from_bytes(head[:8], "little")
                self._head = head[:length] if len(head) >= 8 and length <= _LONGEST_HEAD else b""

    def _fetched(self, start: int, stop: int) -> memoryview:
        content = _memory(stop - start)
        room = content
        failures = 0
        while room:
            before = len(room)
            try:
                with bounded(len(room), unpacked=False), closing(self._ask(stop - len(room), stop)) as answer:
                    for piece in answer.iter_raw():
                        if len(piece) > len(room):
                            raise self._failed("the server sends more than was asked for; check any proxy in between.")
                        room[: len(piece)] = piece
                        room = room[len(piece) :]
                if room:
                    raise httpx2.RemoteProtocolError("the answer ended early")
            except (*BROKEN, HfHubHTTPError) as exc:
                failures = failures + 1 if len(room) == before else 1
                wait = pause(exc, failures)
                if wait is None or failures == ATTEMPTS:
                    raise
                nap(wait)
        return content

    def _ask(self, start: int, stop: int) -> httpx2.Response:
        """The answer that holds these bytes, its body still to be read."""
        while True:
            with self._lock:
                known, search = self._place, Future[_Place]()
                if known is None:
                    self._place = search
            if known is None:
                return self._search(search, start, stop)
            try:
                place = _found(known)
            except Interrupted:
                check_stopped()
                continue  # whoever searched was stopped, and we were not
            answer = self._send(place.url, start, stop)
            moved = answer.has_redirect_location or (place.url != self._url and answer.status_code in _REFUSALS)
            if not moved:
                return self._checked(answer, start, stop, place.etag)
            answer.close()
            self._forget(known)

    def _search(self, search: "Future[_Place]", start: int, stop: int) -> httpx2.Response:
        """Goes from the Hub's address to where the content is, asking for these bytes on the way; tells `search`."""
        try:
            url = self._url
            for _ in range(REDIRECTS + 1):
                answer = self._send(url, start, stop)
                if not answer.has_redirect_location:
                    answer = self._checked(answer, start, stop)
                    search.set_result(_Place(url, _etag(answer.headers.get("etag"))))
                    return answer
                with closing(answer):
                    self._check_listed(answer)
                    # Not left to the client, which would hide what the Hub says of the file on the way.
                    url = self._joined(url, answer.headers["location"])
            raise self._failed("the Hub redirects in a circle; check HF_ENDPOINT and any proxy in between.")
        except BaseException as exc:
            # First forgotten, so that whoever was waiting and tries again searches anew.
            self._forget(search)
            search.set_exception(exc)
            raise

    def _joined(self, url: httpx2.URL, location: str) -> httpx2.URL:
        with suppress(httpx2.InvalidURL, ValueError):
            joined = url.join(location)
            if joined.scheme in ("http", "https") and joined.host:
                return joined
        raise self._failed(
            f"{url.host} sends its readers on to {location[:100]!r}, which is no address; check any proxy in between."
        )

    def _forget(self, place: "Future[_Place]") -> None:
        with self._lock:
            if self._place is place:
                self._place = None

    def _send(self, url: httpx2.URL, start: int, stop: int) -> httpx2.Response:
        # The token is for the Hub alone: a storage's address carries its own signature.
        token = (self.token or False) if self._is_hub(url) else False
        headers = hub_headers(token)
        # A compressed answer has other offsets than the file.
        headers |= {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        client = bounded_session()
        request = client.build_request("GET", url, headers=headers, timeout=TIMEOUT)
        return client.send(request, stream=True, follow_redirects=False)

    def _is_hub(self, url: httpx2.URL) -> bool:
        hub = self._url
        return (url.scheme, url.host, url.port) == (hub.scheme, hub.host, hub.port)

    def _checked(self, answer: httpx2.Response, start: int, stop: int, etag: str | None = None) -> httpx2.Response:
        """`answer`, if it holds exactly these bytes of the pinned file; `etag` is the one seen before, if any."""
        try:
            self._check_part(answer, start, stop)
            self._check_listed(answer)
            now = _etag(answer.headers.get("etag"))
            if etag and now and now != etag:
                raise self._changed(f"its ETag was {etag} and is now {now}")
        except BaseException:
            answer.close()
            raise
        return answer

    def _check_part(self, answer: httpx2.Response, start: int, stop: int) -> None:
        status, headers = answer.status_code, answer.headers
        part = headers.get("content-range", "")
        if status in _REFUSALS and not self._is_hub(answer.url):
            raise self._failed(
                f"{answer.url.host}, where the Hub keeps it, refuses the address that the Hub has just given "
                f"(HTTP {status}); check any proxy in between and run the same again."
            )
        total = part.rpartition("/")[2].replace("*", "")
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or (total and total != str(self.size)):
            raise self._changed(f"it had {self.size} bytes, and now has {total or 'fewer'}")
        hf_raise_for_status(answer)
        # A server that ignores the range answers 200 with the whole file: leave before reading gigabytes.
        if status != HTTPStatus.PARTIAL_CONTENT:
            raise self._failed(
                f"the server sends whole files instead of the requested part (HTTP {status}); "
                "check HF_ENDPOINT and any proxy in between."
            )
        coding = headers.get("content-encoding", "identity")
        if part != f"bytes {start}-{stop - 1}/{self.size}" or coding != "identity":
            raise self._failed(
                f"asked for bytes {start}-{stop - 1}, the server sends another part (Content-Range: {part or None}, "
                f"Content-Encoding: {coding}); check HF_ENDPOINT and any proxy in between."
            )

    def _check_listed(self, answer: httpx2.Response) -> None:
        """Whether what the Hub itself says of the file is what it listed when the model was opened."""
        if answer.is_error or not self._is_hub(answer.url):
            return
        headers = answer.headers
        commit, size = headers.get("x-repo-commit", self.commit), headers.get("x-linked-size", str(self.size))
        if commit != self.commit:
            raise self._changed(f"the Hub now answers with commit {commit}")
        if size != str(self.size):
            raise self._changed(f"it had {self.size} bytes, and now has {size}")
        linked = _etag(headers.get("x-linked-etag"))
        own = None if answer.has_redirect_location else _etag(headers.get("etag"))
        # A Hub that stores files in a way of its own may have an ETag of its own: only a hash can be compared.
        now = linked or (own if own and _SHA256.fullmatch(own) else None)
        if self.sha256 and now and now != self.sha256:
            raise self._changed(f"its sha256 was {self.sha256} and its ETag is now {now}")

    def _changed(self, how: str) -> HubError:
        return self._failed(
            f"it is no longer the file that the Hub listed for commit {self.commit[:7]} ({how}); run the same again, "
            "and if it stays so, name another revision."
        )

    def _failed(self, why: str) -> HubError:
        return HubError(f"Reading {self.name} of {self.repo_id} failed: {why}")


def _found(search: "Future[_Place]") -> _Place:
    """What the search of another thread finds, unless we are stopped before."""
    while not wait_for([search], TICK).done:
        check_stopped()
    return search.result()


def _etag(header: str | None) -> str | None:
    """The ETag without its quotes and its mark as weak."""
    return header.removeprefix("W/").strip('"') or None if header else None


def _memory(nbytes: int) -> memoryview:
    """Memory of that size. What is large comes from the system and goes back there, not into the heap of a thread."""
    if nbytes < _LARGE:
        return memoryview(bytearray(nbytes))
    private = {"flags": mmap.MAP_PRIVATE} if hasattr(mmap, "MAP_PRIVATE") else {}  # Windows has no other kind
    return memoryview(mmap.mmap(-1, nbytes, **private))
