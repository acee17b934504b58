"""What the page says of its machine: its container's memory, its disk, and how many jobs there are."""

import threading
from pathlib import Path

import psutil
import pytest
from waiting import until

from space.work.health import Health, health, memory
from space.work.jobs import Jobs


def container(root: Path, version: int, limit: str, used: int, inactive: int) -> Path:
    folder = root if version == 2 else root / "memory"
    folder.mkdir(exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, text in zip(names, (limit, str(used)), strict=True):
        (folder / name).write_text(text + "\n")
    prefix = "" if version == 2 else "total_"
    (folder / "memory.stat").write_text(f"anon 1\n{prefix}inactive_file {inactive}\n{prefix}active_file 7\n")
    return root


@pytest.mark.parametrize("version", [1, 2])
def test_memory_is_the_containers_where_it_has_a_limit(tmp_path, version) -> None:
    assert memory(container(tmp_path, version, "16000000", 9_000_000, 4_000_000)) == (5_000_000, 16_000_000)


@pytest.mark.parametrize("limit", ["max", str(1 << 62), None])
def test_memory_is_the_machines_elsewhere(tmp_path, limit) -> None:
    if limit is not None:
        container(tmp_path, 2, limit, 9_000_000, 0)
    used, total = memory(tmp_path)
    assert total == psutil.virtual_memory().total
    assert 0 < used < total


def test_jobs_of_everybody_are_counted(tmp_path) -> None:
    gate = threading.Event()
    jobs = Jobs(tmp_path, {"work": lambda work: {"went": gate.wait()}}, workers=1)
    for owner in ("alice", "bob", "carol"):
        jobs.submit(owner, "work", "secret title", {})
    until(lambda: health(jobs, tmp_path).running == 1, lambda: health(jobs, tmp_path))
    now = health(jobs, tmp_path)
    assert now.waiting == 2 and now.disk_free > 0
    assert "secret" not in str(now) and "alice" not in str(now)
    gate.set()
    until(lambda: (now := health(jobs, tmp_path)).running == now.waiting == 0, lambda: health(jobs, tmp_path))
    jobs.close()


def test_health_in_words() -> None:
    told = str(Health(1, 0, 5_400_000_000, 16_000_000_000, 42_000_000_000))
    assert told == "1 job at work, 0 waiting · memory 5.4 GB of 16 GB · 42 GB of disk free"
    assert str(Health(2, 3, 1, 2, 3)).startswith("2 jobs at work, 3 waiting")
