"""One command measured from outside: seconds, memory, bytes read and written.

The command is started by a process of its own, this file run as a script, for two reasons: the peak that the kernel
keeps for a child begins with what its parent held, and a small parent can sample /proc without disturbing it.
"""

import contextlib
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

SAMPLE_MS = 20
FAMILY_EVERY = 25  # samples between two looks for child processes, which means reading all of /proc


@dataclass(frozen=True)
class Usage:
    """What one command used, in seconds and bytes. None: this system does not tell (there is no /proc)."""

    wall: float
    cpu: float  # user + system, of all its threads
    peak: int  # resident memory at its highest, mapped files included, as the kernel noted it (of the largest process)
    anonymous: int | None = None  # memory that no file backs, at its highest in samples, child processes included
    virtual: int | None = None  # address space at its highest in samples
    read: int | None = None  # through read(), from cache or disk; files mapped into memory are not in it
    written: int | None = None  # through write()
    disk_read: int | None = None  # fetched from the disk: 0 where the files were cached
    disk_written: int | None = None  # sent towards the disk, mapped files included


class CommandFailed(Exception):
    """The command ended with another status than 0; the message is the end of what it printed."""


def measured(command: Sequence[object], *, limit: int | None = None, **environment: str) -> Usage:
    """Runs a command to its end, where `limit` is given with that many bytes of address space. Raises CommandFailed."""
    with tempfile.NamedTemporaryFile() as output:
        starter = [sys.executable, "-I", "-S", __file__, output.name, str(limit or 0), *map(str, command)]
        done = subprocess.run(starter, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | environment)
        status, usage = json.loads(done.stdout)
        if status != 0:
            raise CommandFailed(output.read().decode(errors="replace").strip()[-2000:] or f"wait status {status}")
    return Usage(**usage)


def median(runs: Sequence[Usage]) -> Usage:
    """The median of each figure on its own."""
    columns = {field.name: [getattr(run, field.name) for run in runs] for field in fields(Usage)}
    return Usage(**{name: None if None in column else statistics.median(column) for name, column in columns.items()})


def _start(output: str, limit: str, *command: str) -> None:
    if int(limit):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    began = time.perf_counter()
    with open(output, "wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    try:
        sampled = _sample(process.pid) if hasattr(os, "pidfd_open") else {}
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    wall = time.perf_counter() - began
    peak = used.ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    print(json.dumps([status, asdict(Usage(wall, used.ru_utime + used.ru_stime, peak, **sampled))]))


def _sample(pid: int) -> dict[str, int]:
    """Watches a process until it ends; it stays a zombie, whose I/O counters are final and still readable."""
    anonymous = virtual = count = 0
    ended = select.poll()
    ended.register(os.pidfd_open(pid), select.POLLIN)
    family = [pid]
    running = True
    while running:
        count += 1
        if count % FAMILY_EVERY == 0:
            family = _family(pid)
        held = [_numbers(f"/proc/{member}/status") for member in family]
        unbacked = sum(status.get("RssAnon", 0) + status.get("RssShmem", 0) for status in held)
        anonymous = max(anonymous, 1024 * unbacked)
        virtual = max(virtual, 1024 * held[0].get("VmPeak", 0))
        running = not ended.poll(SAMPLE_MS)  # after a first look: a short command may have ended by then
    moved = _numbers(f"/proc/{pid}/io")
    return {
        "anonymous": anonymous,
        "virtual": virtual,
        "read": moved["rchar"],
        "written": moved["wchar"],
        "disk_read": moved["read_bytes"],
        "disk_written": moved["write_bytes"],
    }


def _family(pid: int) -> list[int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:  # it may end while we look
            parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _numbers(path: str) -> dict[str, int]:
    """The lines of a file of /proc that begin `Name: number`."""
    with contextlib.suppress(OSError), open(path) as file:
        pairs = (line.split(":", 1) for line in file if ":" in line)
        return {name: int(words[0]) for name, rest in pairs if (words := rest.split()) and words[0].isdigit()}
    return {}


if __name__ == "__main__":
    _start(*sys.argv[1:])
