"""How busy a search keeps many workers: the share of their time in which they measure, searcher by searcher.

    python benchmarks/utilisation.py                        # 64 workers, in simulated time: a minute of one core
    python benchmarks/utilisation.py --ray --workers 8      # Ray actors that sleep, in real time
    python benchmarks/utilisation.py --quick                # does it run? The figures mean nothing

The search is the real one - searchers, recorder, journal - and workers only take their time: a candidate's is drawn
from a log-normal distribution, the same in every run. `--spread` is the deviation of its logarithm: with 0.5 one
candidate of twenty takes 2.3 times as long as the middle one. In simulated time the pool's clock goes to the next
answer, and searchers take none. `in flight` is how many candidates are asked for at a time: `searcher.lag`, or
`popsize` where there are generations. `busy` is the share of the whole search; `until the last began` leaves out its
end, where there is nothing left to begin. The Markdown table goes to stdout.
"""

import argparse
import heapq
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from journal import LAYERS, search_of
from merge import conditions, table_row

from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve.examples.asked import EVERYTHING, Asked
from hubmerge.evolve.explore import explore
from hubmerge.evolve.records.journal import Journal
from hubmerge.evolve.search import Search
from hubmerge.evolve.searchers import SEARCHERS
from hubmerge.evolve.spaces.candidate import Contestant, candidate_key
from hubmerge.evolve.spaces.recipes import ParameterGenome
from hubmerge.evolve.workers.pool import TICK
from hubmerge.evolve.workers.ray_pool import RayPool

NAMES = ("m2n2", "edits", "random", "cmaes", "snes", "ga")
COLUMNS = ("searcher", "in flight", "evaluations", "busy", "until the last began")
EXAMPLES = 50


def answer(candidate: Contestant, median: float, spread: float) -> Measurement:
    """Some answers, and the seconds that they took: both follow from the candidate."""
    drawn = np.random.default_rng([*candidate_key(candidate.to_dict()).encode()])
    seconds = float(median * np.exp(spread * drawn.standard_normal()))
    marks = (drawn.random(EXAMPLES) < 0.5).astype(float)
    return Measurement(marks.mean(), marks.mean(), 1.0, EXAMPLES, tuple(marks.tolist()), seconds=seconds)


class Sleeper:
    """A worker that takes its time and no core, as where somebody else's machine is asked."""

    def __init__(self, median: float, spread: float) -> None:
        self._times = median, spread

    def measure(self, candidate: Contestant, asked: Asked) -> Measurement:
        """Sleeps, and answers."""
        found = answer(candidate, *self._times)
        time.sleep(found.seconds)
        return found


class Simulated:
    """A pool of `size` workers whose clock goes on when the search waits. `last`: when the last candidate was begun;
    `after`: what all workers had yet to do then, in seconds."""

    def __init__(self, size: int, median: float, spread: float) -> None:
        self.size = size
        self.now = self.last = self.after = 0.0
        self._times = median, spread
        self._waiting: deque[tuple[int, Contestant]] = deque()
        self._working: list[tuple[float, int, Measurement]] = []

    def submit(self, number: int, candidate: Contestant, asked: Asked = EVERYTHING) -> None:
        """Gives the candidate to a free worker, or lets it wait for one."""
        self._waiting.append((number, candidate))
        self._dispatch()

    def finished(self, wait: float | None = None) -> dict[int, Measurement]:
        """The next answer, at its time."""
        if not self._working:
            return {}
        self.now, number, measured = heapq.heappop(self._working)
        self._dispatch()
        return {number: measured}

    def close(self) -> None:
        """Nothing to end."""

    def _dispatch(self) -> None:
        while self._waiting and len(self._working) < self.size:
            number, candidate = self._waiting.popleft()
            measured = answer(candidate, *self._times)
            heapq.heappush(self._working, (self.now + measured.seconds, number, measured))
            self.last, self.after = self.now, sum(end - self.now for end, *_ in self._working)


def row(search: Search, pool: Simulated | RayPool) -> str:
    """Runs a search; a row of the table."""
    names = ["model.embed_tokens.weight", *(f"model.layers.{n}.mlp.up_proj.weight" for n in range(LAYERS))]
    genome = ParameterGenome(search, names)
    spec = search.searcher
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="workers-") as folder,
        Journal(Path(folder) / "journal.jsonl", "", {}, resume=False) as journal,
    ):
        found = explore(spec, search.fitness, [lambda start: genome], journal, pool)
    spent = sum(evaluation.seconds for evaluation in found.evaluations)
    simulated = isinstance(pool, Simulated)
    busy = spent / pool.size / (pool.now if simulated else time.perf_counter() - began)
    begun = f"{(spent - pool.after) / pool.size / pool.last:.1%}" if simulated else ""
    flying = spec.lag if SEARCHERS[spec.name].steady else found.popsize
    return table_row(spec.name, flying, len(found.evaluations), f"{busy:.1%}", begun)


@contextmanager
def actors(size: int, median: float, spread: float) -> Iterator[RayPool]:
    """That many Ray actors, all ready."""
    with RayPool(partial(Sleeper, median, spread), actors=size) as pool:
        while pool.alive < size:
            pool.finished(TICK)
            time.sleep(TICK)
        yield pool


def main() -> None:
    """Runs every searcher and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--evaluations", type=int, default=2560)
    parser.add_argument("--median", type=float, default=20.0, help="seconds of a candidate")
    parser.add_argument("--spread", type=float, default=0.5)
    parser.add_argument("--flying", type=float, nargs="+", default=[1, 2, 4], help="candidates asked for, a worker")
    parser.add_argument("--searchers", nargs="+", choices=SEARCHERS, default=NAMES)
    parser.add_argument("--ray", action="store_true", help="Ray actors, which sleep")
    parser.add_argument("--quick", action="store_true", help="little of all")
    options = parser.parse_args()
    if options.quick:
        options.workers, options.evaluations, options.flying = 4, 64, [2]
    os.fsync = lambda file: None  # type: ignore[assignment]
    times = options.median, options.spread
    print(f"{conditions()}\n\n{options.workers} workers, median {times[0]:g} s, spread {times[1]:g}\n")
    print(table_row(*COLUMNS), table_row(*["---"] * len(COLUMNS)), sep="\n", flush=True)
    for name in options.searchers:
        for each in options.flying:
            flying = round(options.workers * each)
            spec = {"name": name, "evaluations": options.evaluations, "lag": flying, "popsize": flying}
            search = Search.from_dict(search_of(options.evaluations).to_dict() | {"searcher": spec})
            if options.ray:
                with actors(options.workers, *times) as pool:
                    print(row(search, pool), flush=True)
            else:
                print(row(search, Simulated(options.workers, *times)), flush=True)


if __name__ == "__main__":
    main()
