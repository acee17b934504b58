"""How the page's machine is doing: counts of jobs, memory, disk. Nothing about anybody's job beyond that."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..wording import size
from .jobs import Jobs

CGROUP = Path("/sys/fs/cgroup")
"""A container's limits, where it has any: memory.max in version 2, memory/memory.limit_in_bytes in version 1."""


@dataclass(frozen=True)
class Health:
    """Jobs at work and waiting; bytes of memory in use and in all, and free on the disk that jobs write to."""

    running: int
    waiting: int
    memory_used: int
    memory_total: int
    disk_free: int

    def __str__(self) -> str:
        return (
            f"{self.running} {'job' if self.running == 1 else 'jobs'} at work, {self.waiting} waiting · "
            f"memory {size(self.memory_used)} of {size(self.memory_total)} · {size(self.disk_free)} of disk free"
        )


def health(jobs: Jobs, folder: Path) -> Health:
    """The health of the page whose jobs lie in `folder`."""
    counts = jobs.counts()
    return Health(counts["running"], counts["queued"], *memory(), shutil.disk_usage(folder).free)


def memory(cgroup: Path = CGROUP) -> tuple[int, int]:
    """Bytes of memory (in use, in all): the container's where it has less than the machine, else the machine's.

    What the container's kernel can drop at once, such as files that were read, is not in use.
    """
    machine = psutil.virtual_memory()
    for folder, limit, usage, droppable in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            total, used = int((folder / limit).read_text()), int((folder / usage).read_text())
            dropped = _table((folder / "memory.stat").read_text()).get(droppable, 0)
        except (OSError, ValueError):  # no such version, or "max" for no limit
            continue
        if total < machine.total:
            return max(0, used - dropped), total
    return machine.total - machine.available, machine.total


def _table(text: str) -> Mapping[str, int]:
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}
