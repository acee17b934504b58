"""A search's journal on the Hub while it runs, and back from there onto another machine."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import CommitOperationAdd

from ...errors import AccessError, HubError, NetworkError, SearchError
from ...files import write_file
from ...hub.agent import hub_api
from ...hub.answers import ask_about
from ...hub.checkpoint import check_name
from ...hub.errors import hub_errors
from ...hub.holdings import marked, require_own, require_private
from ...hub.listing import open_repository
from ...hub.session import bounded_session, find_token
from ...hub.store import Repository
from ...reference import ModelRef
from ...stream.written import Written
from ...text import hide_tokens
from .folder import EXAMPLES_FILE, FROM_FILE

EVERY = 300.0
"""Seconds between two looks for something new."""

LAST_TRIES, LAST_PAUSE, LAST_WAIT = 3, 2.0, 60.0
"""How often the end of a run is sent, seconds between the tries, and the seconds that all of it may take."""

_FETCHED = (".yaml", ".jsonl", EXAMPLES_FILE, FROM_FILE)
_CARD = """---
tags: [hubmerge]
viewer: false
---
# A search for a better merge

`search.yaml` is what is searched, `journal.jsonl` every evaluation so far. hubmerge keeps them up to date while the
search runs. On any machine, `hubmerge evolve search.yaml --out run --resume --mirror {repo_id}` goes on with it.
"""


class Mirror:
    """Copies a run's small files to a dataset of the Hub now and then, in the background, and once more at the end.

    The dataset is made, private unless `private` is False, where it does not exist.
    One that is public, or holds what hubmerge did not send, is left alone unless `private` is False, or `overwrite`.
    Nothing here stops or delays the search: what fails is tried
    again at the next look, and `summary` says so at the end. A journal there that is not the beginning of this one
    belongs to another run; it is left alone and nothing is sent.

    files: name in the dataset -> file on disk, sent when it has changed; one that does not exist yet comes later. Of a
    .jsonl file only whole lines are sent.
    every: seconds between two looks.

    >>> with Mirror("org/run", {"journal.jsonl": out / "journal.jsonl"}) as mirror:    # doctest: +SKIP
    ...     evolve(search, out)
    >>> print(mirror.summary)                                                          # doctest: +SKIP
    The run is mirrored at org/run.
    """

    def __init__(
        self,
        repo_id: str,
        files: Mapping[str, Path],
        *,
        token: str | None = None,
        every: float = EVERY,
        private: bool = True,
        overwrite: bool = False,
    ) -> None:
        if every <= 0:
            raise SearchError(f"The mirror needs more than 0 seconds between two looks, got {every}.")
        self.repo_id = repo_id
        self.failures = 0
        self._files = {check_name(name, "The mirror"): path for name, path in files.items()}
        self._api = hub_api(find_token(token) or False)
        self._every = every
        self._private, self._overwrite = private, overwrite
        self._head: str | None = None  # the commit to build on, once we know what it holds
        self._sent: dict[str, bytes] = {}
        self._error: str | None = None  # of the newest try; None where that went well
        self._refused = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> "Mirror":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(LAST_WAIT)
        if self._thread.is_alive():
            self._error = f"the Hub did not take the end of the run within {LAST_WAIT:.0f} seconds"

    @property
    def summary(self) -> str:
        """One sentence for the end of the run: where the copy is, or why it is not whole."""
        if self._error is not None:
            return f"The mirror {self.repo_id} does not hold the end of the run: {self._error.rstrip('.')}."
        failed = f"; {self.failures} of the updates had to be tried again" if self.failures else ""
        return f"The run is mirrored at {self.repo_id}{failed}."

    def _run(self) -> None:
        while not self._ended.wait(self._every) and not self._refused:
            self._try()
        for number in range(LAST_TRIES):
            if self._refused:
                return
            if number:
                time.sleep(LAST_PAUSE)
            if self._try():
                return

    def _try(self) -> bool:
        try:
            self._update()
        except Exception as exc:  # whatever the Hub or the disk do, the search goes on
            self.failures += 1
            self._head = None  # somebody else may have committed, or our commit may have arrived after all
            self._refused = isinstance(exc, SearchError)
            self._error = hide_tokens(" ".join(str(exc).split()) or type(exc).__name__)
            return False
        self._error = None
        return True

    def _update(self) -> None:
        content = {name: _whole_lines(path) for name, path in self._files.items() if path.exists()}
        changed = {name: data for name, data in content.items() if data and data != self._sent.get(name)}
        if not changed:
            return
        with hub_errors(f"mirroring to {self.repo_id}"):
            bounded_session()
            if self._head is None:
                changed |= self._look(content)
            commit = self._api.create_commit(
                self.repo_id,
                operations=[CommitOperationAdd(name, data) for name, data in changed.items()],
                commit_message="Mirror the search",
                commit_description=marked(""),
                repo_type="dataset",
                parent_commit=self._head,
            )
        self._head = commit.oid
        self._sent |= changed

    def _look(self, content: Mapping[str, bytes]) -> dict[str, bytes]:
        """Finds the commit to build on, and refuses one that holds another run; what the dataset still lacks."""
        self.repo_id = self._api.create_repo(
            self.repo_id, repo_type="dataset", private=self._private, exist_ok=True
        ).repo_id
        token = self._api.token if isinstance(self._api.token, str) else None
        facts, answer = ask_about(ModelRef(self.repo_id), token, "dataset")
        try:
            if self._private:
                require_private(self.repo_id, answer.get("private") is True)
            if not self._overwrite:
                require_own(self._api, self.repo_id, "dataset", None, frozenset(facts.files), shared=True)
        except HubError as exc:
            if isinstance(exc, (NetworkError, AccessError)):
                raise
            raise SearchError(str(exc)) from None
        store = Repository(self.repo_id, facts.commit, token, kind="dataset")
        for name in facts.files.keys() & set(self._files):
            if name.endswith(".jsonl"):
                there = store.path(facts.files[name]).read_bytes()
                if not content.get(name, b"").startswith(there):
                    raise SearchError(
                        f"it holds a {name} that this run does not continue; name another dataset, or fetch that run "
                        "and resume it"
                    )
        self._head = facts.commit
        return {} if "README.md" in facts.files else {"README.md": _CARD.format(repo_id=self.repo_id).encode()}


def fetch(repo_id: str, folder: Path, *, token: str | None = None) -> Path:
    """Brings a mirrored run into `folder`, where the search can be resumed; returns `folder`.

    Only the search, its examples and the journal come: what a run makes of them at its end is made again. Raises
    `SearchError` where the dataset holds no journal or the folder already does, and `HubError` as the Hub does.
    """
    token = find_token(token)
    store, facts = open_repository(ModelRef.parse(repo_id), token, "dataset")
    names = [name for name in facts.files if name.endswith(_FETCHED)]
    journals = [name for name in names if name.endswith(".jsonl")]
    others = [name for name in names if not name.endswith(".jsonl")]
    if not journals:
        raise SearchError(f"The dataset {repo_id} holds no journal of a search; is it the mirror of a run?")
    for name in journals:
        if (folder / name).exists():
            raise SearchError(f"{folder / name} already holds a search; fetch the run into another folder.")
    written = Written(folder)
    # A journal comes last: without it the folder is not a run, and fetching can begin anew.
    for name in [*others, *journals]:
        content = store.path(facts.files[name]).read_bytes()
        if name.endswith(".jsonl"):
            write_file(folder / name, content)
        else:
            written.write(name, content)
    return folder


def _whole_lines(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1] if path.suffix == ".jsonl" else content
