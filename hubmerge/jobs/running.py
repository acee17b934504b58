"""A job of the Hub: sent, found again by what it does, followed, and told how to stop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd, constants

from ..errors import AccessError, HubError, HubmergeError, Interrupted
from ..guesses import guess
from ..hub.agent import hub_api
from ..hub.answers import ask_about
from ..hub.errors import hub_errors
from ..hub.holdings import marked, require_own, require_private
from ..hub.patience import unhurried
from ..hub.session import bounded_session, find_token, patiently
from ..hub.user import user_of
from ..reference import ModelRef
from ..text import sentences
from .asked import On
from .script import Work

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

SCRIPTS = "hubmerge-jobs"
"""The private dataset of a user that the scripts of their jobs lie in, each in a folder of its own."""

IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"
"""What a job runs in: Python 3.12 and uv, which huggingface_hub's own run_uv_job takes as well."""

_SCRIPT, _MOUNTED, _LABEL = "job.py", "/job", "hubmerge"
_ALIVE = ("SCHEDULING", "RUNNING")
_DEFAULT = "https://huggingface.co"


@dataclass(frozen=True)
class Sent:
    """A job that works on something: its name, its page, and whether it was there before."""

    id: str
    url: str
    again: bool
    price: str | None = None


class Jobs:
    """The jobs of the person whose `token` it is. Raises `AccessError` without one."""

    def __init__(self, token: str | None) -> None:
        found = find_token(token)
        if found is None:
            raise AccessError("A job works with your token; log in with `hf auth login`, or set HF_TOKEN.")
        self._token = found
        self._api: HfApi = hub_api(found)
        self.user = user_of(found)
        self.scripts = f"{self.user}/{SCRIPTS}"

    def send(self, work: Work, on: On) -> Sent:
        """Starts a job, unless one that does just this is waiting or running: that is the one then.

        Raises `HubmergeError` for a flavor that the Hub does not lend, `HubError` for what it refuses.
        """
        with hub_errors("asking the Hub for its machines"):
            lent = {one.name: one for one in patiently(self._api.list_jobs_hardware)}
        if on.flavor not in lent:
            known = ", ".join(lent)
            raise HubmergeError(f"The Hub lends no machine {on.flavor!r}{guess(on.flavor, lent)}; it has: {known}.")
        with hub_errors("asking the Hub for your jobs"):
            jobs = patiently(lambda: [*self._api.list_jobs(labels={_LABEL: work.key}, namespace=self.user)])
        for job in jobs:
            if job.status.stage in _ALIVE:
                return Sent(job.id, job.url, True)
        commit = self._store(work)
        from huggingface_hub import Volume

        volume = Volume(type="dataset", source=self.scripts, mount_path=_MOUNTED, path=work.key, revision=commit)
        elsewhere = {} if constants.ENDPOINT == _DEFAULT else {"HF_ENDPOINT": constants.ENDPOINT}
        with hub_errors(f"starting a job on {on.flavor}"):
            bounded_session()
            job = self._api.run_job(
                image=IMAGE,
                command=["uv", "run", f"{_MOUNTED}/{_SCRIPT}"],
                env=elsewhere,
                secrets={"HF_TOKEN": self._token},
                flavor=on.flavor,
                timeout=on.hours * 3600,
                name=f"hubmerge-{work.words[0]}-{work.key}",
                labels={_LABEL: work.key},
                volumes=[volume],
                namespace=self.user,
            )
        machine = lent[on.flavor]
        price = f"{machine.unit_cost_usd:g} USD a {machine.unit_label}" if machine.unit_cost_usd else None
        return Sent(job.id, job.url, False, price)

    def follow(self, sent: Sent, show: Callable[[str], None]) -> None:
        """Shows what a job prints, line by line, until it ends.

        Raises `HubError` where it did not end well, and `Interrupted` on Ctrl-C: the job goes on then.
        """
        try:
            with hub_errors(f"following the job {sent.id}"), unhurried():
                bounded_session()
                for line in self._api.fetch_job_logs(job_id=sent.id, namespace=self.user, follow=True):
                    show(sentences(line.rstrip("\n")))
                job = self._inspect(sent)
        except KeyboardInterrupt:
            raise Interrupted(
                f"Interrupted; the job goes on: {sent.url}\nThe same command follows it again and brings what it made; "
                f"`hf jobs cancel {sent.id}` stops it."
            ) from None
        if job.status.stage != "COMPLETED":
            said = f" ({job.status.message})" if job.status.message else ""
            raise HubError(
                f"The job {sent.id} ended with {job.status.stage}{said}: {sent.url}; the same command starts another, "
                "and a search goes on from what its mirror holds."
            )

    def _inspect(self, sent: Sent) -> "JobInfo":
        return patiently(lambda: self._api.inspect_job(job_id=sent.id, namespace=self.user))

    def _store(self, work: Work) -> str:
        """Puts the script into the user's private dataset; returns the commit that it is in."""
        with hub_errors(f"writing to {self.scripts}"):
            bounded_session()
            self._api.create_repo(self.scripts, repo_type="dataset", private=True, exist_ok=True)
            facts, answer = ask_about(ModelRef(self.scripts), self._token, "dataset")
            require_private(self.scripts, answer.get("private") is True)
            require_own(self._api, self.scripts, "dataset", None, frozenset(facts.files), shared=True)
            commit = self._api.create_commit(
                self.scripts,
                operations=[CommitOperationAdd(f"{work.key}/{_SCRIPT}", work.script(self.scripts).encode())],
                commit_message="Script of a job",
                commit_description=marked(""),
                repo_type="dataset",
            )
        return commit.oid
