"""LocalHub: a Hub server over a folder, in this process."""

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import uvicorn

from .accounts import Accounts
from .app import Gate, make_application
from .errors import HubError
from .generated.model import GeneratedModel
from .generated.sdxl import GeneratedPipeline
from .serving.addresses import Addresses, is_loopback
from .serving.connections import Protocol
from .serving.faults import Faults
from .serving.requestlog import Request, RequestLog
from .serving.wire import Site
from .store.facts import FactBook
from .store.jobs import Job, Jobs
from .store.repository import Conflict
from .store.store import Store

_START_SECONDS = 60.0  # reached by what does not start, however busy the machine
_KEEP_ALIVE_SECONDS = 60  # longer than a client's pauses: a connection that closes under a request fails it
_STOP_SECONDS = 3  # given to answers under way when the server stops


class LocalHub:
    """A Hub over a folder on disk that the unmodified huggingface_hub client, transformers and gradio can use.

    Everything it is told survives a restart. It serves demos, rooms without a network, and tests. It is no server for
    the internet: whoever holds a user's token is that user, tokens and files travel unencrypted, nobody's calls are
    limited. So it listens on this machine alone unless it is told twice.

        with LocalHub(folder, {"alice": "hf_alice"}) as hub:
            api = HfApi(endpoint=hub.endpoint, token="hf_alice")

    Args:
        root: the folder; made where it does not exist.
        users: name -> token of everyone with an account.
        organizations: name -> the users who belong to it.
        port: 0 for a free one, known as `port` once started.
        host: the address to listen on.
        open_to_network: must be true where `host` is not of this machine alone.
        addresses: what it is reached at beside `host` and the names of this machine, such as "http://hub.lab:8765", or
            "https://hub.lab" behind a proxy with encryption. Requests to any other host are refused.
        applications: OAuth client id -> the redirect addresses it may use. Others may use those on this machine.
        faults: asked for every request whether and how it should fail; see `Fault`. May be replaced at any time.
        multipart_over: LFS files above this many bytes are uploaded in parts.
        part_size: bytes of such a part.
        redirect_seconds: None serves large files in place. A number answers them as the real Hub's CDN does: 302 to a
            signed URL of another origin (`cdn_port`), which needs no token and works for that many seconds. May be
            replaced at any time.

    Raises:
        HubError: a user, organisation or address that cannot be, or a host that others reach; at `start`, a folder or
            port in use.
    """

    def __init__(
        self,
        root: Path | str,
        users: Mapping[str, str],
        organizations: Mapping[str, Sequence[str]] = {},
        port: int = 0,
        host: str = "127.0.0.1",
        open_to_network: bool = False,
        addresses: Sequence[str] = (),
        applications: Mapping[str, Sequence[str]] = {},
        faults: Faults | None = None,
        multipart_over: int = 256 << 20,
        part_size: int = 32 << 20,
        redirect_seconds: float | None = None,
    ) -> None:
        if not (is_loopback(host) or open_to_network):
            raise HubError(
                f"A local Hub on {host} is open to the network, unencrypted and without limits: "
                "say so (--open-to-network, or open_to_network=True), or keep to 127.0.0.1."
            )
        self.root = Path(root)
        self.host = host
        self.port = port
        self.cdn_port = 0  # known once started
        self.faults = faults
        self.redirect_seconds = redirect_seconds
        self._accounts = Accounts(users, organizations)
        self._addresses = Addresses(tuple(addresses), dict(applications))
        self._sizes = (multipart_over, part_size)
        self._log = RequestLog(self.root / "requests.jsonl", self._accounts.redact)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._jobs: Jobs | None = None

    @property
    def endpoint(self) -> str:
        """The address for HF_ENDPOINT or HfApi(endpoint=...), without a slash at the end."""
        name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{name}]' if ':' in name and not name.startswith('[') else name}:{self.port}"

    @property
    def log(self) -> list[Request]:
        """The requests answered so far (the newest 20,000), oldest first. No entry holds a token."""
        return self._log.entries

    @property
    def jobs(self) -> list[Job]:
        """The jobs that clients asked for, the newest first. Nothing runs them but who calls their `move` and `log`."""
        return self._jobs.all() if self._jobs is not None else []

    def clear_log(self) -> None:
        """Forget the requests in memory; requests.jsonl keeps them."""
        self._log.clear()

    def environment(self, user: str | None) -> dict[str, str]:
        """Environment variables that make a client process use this Hub as `user`, or as nobody with None.

        They work only where they are set before huggingface_hub is imported.
        """
        if user is not None and user not in self._accounts.users:
            raise HubError(f"The local Hub has no user {user}: it has {', '.join(self._accounts.users) or 'none'}.")
        variables = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_OFFLINE": "0",
        }
        if user is None:
            return {**variables, "HF_TOKEN": "", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        return {**variables, "HF_TOKEN": self._accounts.users[user]}

    def generate(
        self, repo_id: str, model: GeneratedModel | GeneratedPipeline, private: bool = False, exist_ok: bool = False
    ) -> str:
        """Make a repository of a model of any size whose weights are made up as they are read; returns its commit.

        It takes no disk but for its headers, and stays as it is over restarts. The SHA-256 and ETag that clients see of
        its weights are names, not hashes of the content. With `exist_ok` a repository that is there is left as it is.

        Raises:
            HubError: the Hub does not run, or has such a repository, or nobody of that namespace.
        """
        if self._store is None:
            raise HubError("A local Hub can generate repositories once it is started.")
        owner = repo_id.partition("/")[0]
        if owner not in {*self._accounts.users, *self._accounts.organizations}:
            raise HubError(f"The local Hub cannot generate {repo_id}: it has no user or organisation {owner}.")
        if exist_ok and (existing := self._store.find("model", repo_id)) is not None:
            return existing.resolve("main")
        try:
            return self._store.generate(repo_id, model, owner, private).id
        except (Conflict, ValueError) as error:
            raise HubError(f"The local Hub cannot generate {repo_id}: {error}.") from None

    def start(self) -> "LocalHub":
        """Serve from a background thread; returns once requests are answered."""
        listeners = self._prepare()
        assert self._server is not None, "prepared"
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": listeners}, daemon=True, name=f"localhub-{self.port}"
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise HubError(f"The local Hub did not start on {self.endpoint}.")
            time.sleep(0.002)
        return self

    def stop(self) -> None:
        """Answer what is under way, then stop; harmless where nothing runs."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_START_SECONDS)
        self._server = self._thread = None
        self._release()

    def serve(self) -> None:
        """Serve until Ctrl-C, which ends it quietly."""
        listeners = self._prepare()
        assert self._server is not None, "prepared"
        try:
            self._server.run(sockets=listeners)
        except KeyboardInterrupt:
            pass
        finally:
            self._server = None
            self._release()

    def __enter__(self) -> "LocalHub":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> list[socket.socket]:
        """Take the folder and the ports, and make the server."""
        if self._server is not None:
            raise HubError(f"This local Hub already runs on {self.endpoint}.")
        try:
            store = Store(self.root)
            store.open()
        except OSError as error:
            raise HubError(f"The local Hub cannot use the folder {self.root}: {error.strerror}.") from None
        self._store, self._jobs = store, Jobs(self.root / "jobs")
        try:
            multipart_over, part_size = self._sizes
            listeners = [self._listen(self.port), self._listen(0)]
            self.port, self.cdn_port = (listener.getsockname()[1] for listener in listeners)
            site = Site(
                store=self._store,
                facts=FactBook(self._store.objects),
                accounts=self._accounts,
                addresses=self._addresses,
                secret=self._store.secret(),
                multipart_over=multipart_over,
                part_size=part_size,
                downloads={},
                jobs=self._jobs,
                cdn_port=self.cdn_port,
                redirect_seconds=lambda: self.redirect_seconds,
            )
            self._log.open()
            application = Gate(make_application(site), site, self._log, lambda: self.faults)
            self._server = uvicorn.Server(
                uvicorn.Config(
                    application,
                    http=Protocol,
                    ws="none",
                    loop="asyncio",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,  # whoever calls could invent them
                    timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                    timeout_graceful_shutdown=_STOP_SECONDS,
                )
            )
            return listeners
        except BaseException:
            self._server = None
            self._release()
            raise

    def _listen(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # asyncio turns Nagle's algorithm off (40 ms an answer) only for sockets that say they are TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, port))
        except OSError as error:
            listener.close()
            raise HubError(f"The local Hub cannot listen on {self.host}:{port}: {error.strerror}.") from None
        return listener

    def _release(self) -> None:
        self._log.close()
        if self._store is not None:
            self._store.close()
            self._store = None
