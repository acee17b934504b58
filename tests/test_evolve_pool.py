"""Pools evaluate every candidate once, whatever candidates, actors and machines do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from waiting import until

from hubmerge.errors import Interrupted, ResourceError, SearchError, SourceError
from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve.workers.pool import LocalPool, Pool, measure_all
from hubmerge.evolve.workers.ray_pool import RayPool


class Fake:
    """Does what the candidate says, and notes in a file what it evaluated to its end."""

    def __init__(self, log: str) -> None:
        self._log = Path(log)

    def measure(self, candidate: str, asked: object) -> Measurement:
        what, _, value = candidate.partition(" ")
        if what == "raise":
            raise ValueError(value)
        if what == "memory":
            raise MemoryError
        if what == "stop":
            raise Interrupted("stopped")
        if what == "die" or (what == "die-once" and not self._was_here(value)):
            os._exit(1)
        if what == "threads":
            import torch

            self._note(f"{torch.get_num_threads()} threads")
        if what == "environment":
            self._note(os.environ[value])
        if what == "stay" and self._node() == value:
            time.sleep(600)
        if what == "sleep":
            time.sleep(float(value))
        score = float("nan") if what == "nan" else 0.5
        self._note(f"{candidate} {asked}")
        return Measurement(score, score, 1.0, 2, (score, score))

    def _note(self, line: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{line}\n")

    @staticmethod
    def _node() -> str:
        import ray

        return ray.get_runtime_context().get_node_id()

    @staticmethod
    def _was_here(file: str) -> bool:
        was = Path(file).exists()
        Path(file).touch()
        return was


def make_fake(log: str, error: str | None = None) -> Fake:
    if error == "die":
        os._exit(1)
    if error:
        raise SourceError(error)
    return Fake(log)


def everything(pool: Pool) -> dict[int, Measurement]:
    found: dict[int, Measurement] = {}
    while measured := pool.finished():
        assert not found.keys() & measured.keys()
        found |= measured
    return found


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


def test_a_local_pool_works_in_order_and_only_when_asked(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with LocalPool(partial(make_fake, str(log))) as pool:
        assert (pool.size, pool.finished()) == (1, {})
        for number, candidate in enumerate(("sleep 0.02", "raise no such\nlayer", "memory", "nan", "fine")):
            pool.submit(number, candidate, {"ask": number})
        assert not log.exists()
        first = pool.finished(0)
        assert lines(log) == ["sleep 0.02 {'ask': 0}"]
        found = first | everything(pool)
    assert list(found) == [0, 1, 2, 3, 4] and list(first) == [0]
    assert found[0].seconds >= 0.02 and found[0].error is None
    assert found[0] == Measurement(0.5, 0.5, 1.0, 2, (0.5, 0.5)) == found[4]
    errors = [found[number].error for number in (1, 2, 3)]
    assert errors == ["ValueError: no such layer", "MemoryError", "The measurement is not a finite number."]
    assert {found[number].n for number in (1, 2, 3)} == {0}


def test_what_stops_the_run_reaches_the_caller_of_a_local_pool(tmp_path: Path) -> None:
    with LocalPool(partial(make_fake, str(tmp_path / "log"))) as pool:
        pool.submit(0, "stop")
        with pytest.raises(Interrupted):
            pool.finished()
    with pytest.raises(SourceError, match="not there"):
        LocalPool(partial(make_fake, "", "not there"))


def test_all_are_measured_in_their_order_until_told_to_stop(tmp_path: Path) -> None:
    told: list[int] = []
    with LocalPool(partial(make_fake, str(tmp_path / "log"))) as pool:
        found = measure_all(pool, [("fine", "a"), ("raise it", "b"), ("fine", "c")], told.append)
        assert [measured.error for measured in found] == [None, "ValueError: it", None]
        assert told == [0, 1, 2, 3] and measure_all(pool, [], told.append) == []

        def stop(done: int) -> None:
            if done:
                raise Interrupted("stopped")

        with pytest.raises(Interrupted):
            measure_all(pool, [("fine", "d"), ("fine", "e")], stop)
    assert lines(tmp_path / "log") == ["fine a", "fine c", "fine d"]


def test_actors_refuse_what_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="at least 1"):
        RayPool(partial(make_fake, ""), actors=0)
    with pytest.raises(SearchError, match="plain arguments"):
        RayPool(lambda: Fake(""), actors=1)
    with pytest.raises(SearchError, match="whole number"):
        RayPool(partial(make_fake, ""), actors=1, gpus_per_actor=1.5)
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"):
        with pytest.raises(ResourceError, match=f"No Ray cluster answers at {address}: "):
            RayPool(partial(make_fake, ""), actors=1, address=address)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """A Ray cluster of two machines on this one, each with a core, and this process connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_actors_do_every_candidate_once(cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("HUBMERGE_TEST", "passed-on")
    with RayPool(partial(make_fake, str(log)), actors=2) as pool:
        assert (pool.size, pool.finished()) == (2, {})
        good = [f"sleep {0.01 * n}" for n in range(6)]
        odd = ["raise no such layer", "memory", "nan", "die", f"die-once {tmp_path / 'once'}"]
        for number, candidate in enumerate([*good, *odd, "environment HUBMERGE_TEST"]):
            pool.submit(number, candidate, f"job {number}")
        results = everything(pool)
        assert sorted(results) == list(range(12))
        assert [results[n].error for n in range(6)] == [None] * 6
        assert results[6].error == "ValueError: no such layer"
        assert results[7].error == "MemoryError"
        assert results[8].error == "The measurement is not a finite number."
        assert results[9].error is not None and results[9].error.startswith("It ended 2 actors; the last one: ")
        assert results[10] == results[0]
        assert pool.replaced == 3
        pool.submit(99, "sleep 600")
        assert pool.finished(0.2) == {}  # without waiting for it
    assert "passed-on" in lines(log)
    finished = [line for line in lines(log) if line.startswith("sleep")]
    assert sorted(finished) == sorted(f"{candidate} job {number}" for number, candidate in enumerate(good))


def test_workers_that_cannot_be_made_are_one_error(cluster) -> None:
    with pytest.raises(SourceError, match="not there"):
        RayPool(partial(make_fake, "", "not there"), actors=2)
    with pytest.raises(ResourceError, match="No Ray actor could be kept at work: "):
        RayPool(partial(make_fake, "", "die"), actors=1)
    with pytest.raises(ResourceError, match="an actor takes 1 CPUS, 4 GPUS; the cluster has 2 CPUS, 0 GPUS"):
        RayPool(partial(make_fake, ""), actors=1, gpus_per_actor=4, patience=0.5)


def test_a_machine_lost_on_the_way_costs_nothing(cluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with RayPool(partial(make_fake, str(log)), actors=2) as pool:
        until(lambda: pool.finished() or pool.alive == 2, "one is not there")
        [lost] = [node for node in cluster.list_all_nodes() if not node.head]
        for number in range(10):
            pool.submit(number, f"stay {lost.node_id}", number)
        results = pool.finished()
        cluster.remove_node(lost, allow_graceful=False)
        results |= everything(pool)
        assert pool.alive == 1  # nothing has room for another
    assert sorted(results) == list(range(10))
    assert all(measured.error is None for measured in results.values())
    assert sorted(lines(log)) == sorted(f"stay {lost.node_id} {number}" for number in range(10))


SCRIPT = """
import sys
from functools import partial
sys.path.append(sys.argv[1])
from hubmerge.evolve.workers.ray_pool import RayPool
from test_evolve_pool import make_fake
with RayPool(partial(make_fake, sys.argv[2]), actors=1, cpus_per_actor=2) as pool:
    pool.submit(0, "threads")
    print(pool.finished()[0].error, flush=True)
    pool.submit(1, "sleep 600")
    pool.finished()
"""


def test_ctrl_c_leaves_no_process_and_says_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path / "log")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline()
    assert first == "None\n", child.communicate()[1]
    family = psutil.Process(child.pid).children(recursive=True)
    assert any("raylet" in process.name() for process in family)
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate()
    assert out == "" and errors.startswith("Traceback") and errors.rstrip().endswith("KeyboardInterrupt")
    assert lines(tmp_path / "log")[0] == "2 threads"
    _, alive = psutil.wait_procs(family, timeout=120)
    assert not alive
