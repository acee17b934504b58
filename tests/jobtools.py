"""A machine for the jobs of the embedded Hub: what the real one does with a job, in this process or one of its own."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from waiting import until

from hubmerge.jobs.running import Jobs
from hubmerge.localhub import LocalHub

ROOT = Path(__file__).parent.parent


class Machine:
    """Takes one job of `hub` that is not there yet, with its volume and its secret, and runs its script; nothing is
    installed. `job`: that job, as the Hub keeps it."""

    def __init__(self, hub: LocalHub, tmp_path: Path) -> None:
        self._hub, self._tmp_path = hub, tmp_path
        self._known = {job.id for job in hub.jobs}
        self.job: Any = None

    def take(self) -> tuple[Path, Path]:
        """Waits for the job and says that it runs; returns its script, and its folder to work in."""
        self.job = until(lambda: [job for job in self._hub.jobs if job.id not in self._known], "no job came")[0]
        told = self.job.told
        (volume,) = told["volumes"]
        api = HfApi(endpoint=self._hub.endpoint, token=self.job.token)
        lies = {"repo_type": volume["type"], "revision": volume["revision"]}
        where = Path(api.snapshot_download(volume["source"], **lies, local_dir=self._tmp_path / "volume"))
        work = self._tmp_path / self.job.id
        work.mkdir()
        assert told["command"][:2] == ["uv", "run"]
        self.job.move("RUNNING")
        return where / volume["path"] / Path(told["command"][2]).relative_to(volume["mountPath"]), work

    def end(self, code: object) -> None:
        """Says how it ended."""
        self.job.move("ERROR" if code else "COMPLETED", f"exit code {code}" if code else None)


@contextmanager
def here(hub: LocalHub, tmp_path: Path) -> Iterator[Machine]:
    """A machine within this process, where the libraries are loaded already: it works before the job is followed."""
    machine, follow = Machine(hub, tmp_path), Jobs.follow

    def run() -> None:
        script, work = machine.take()
        printed, words = io.StringIO(), sys.argv
        code: object = None
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
            patch.chdir(work)
            try:
                exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), {"__name__": "__main__"})
            except SystemExit as end:
                code = end.code
        sys.argv = words
        for line in printed.getvalue().splitlines():
            machine.job.log(line)
        machine.end(code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "follow", lambda *given: (run(), follow(*given))[-1])
        yield machine


@contextmanager
def apart(hub: LocalHub, tmp_path: Path) -> Iterator[Machine]:
    """A machine in a process of its own, while the job is followed here."""
    machine = Machine(hub, tmp_path)

    def run() -> None:
        script, work = machine.take()
        own = {"HF_TOKEN": machine.job.token, "HF_HOME": str(work / "hf"), "PYTHONPATH": str(ROOT)}
        how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": work}
        environment = {**os.environ, **own, **machine.job.told["environment"]}
        with subprocess.Popen([sys.executable, str(script)], env=environment, **how) as process:
            for line in process.stdout or ():
                machine.job.log(line.rstrip("\n"))
        machine.end(process.returncode)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield machine
    thread.join(240)
    assert not thread.is_alive(), "the job has no end"
