"""Times a search's evaluations on Ray actors: candidates a second with one at work, with all, and without Ray.

    python benchmarks/actors.py                 # 2 actors
    python benchmarks/actors.py --actors 4      # on a machine with 4 cores or more
    python benchmarks/actors.py --quick         # does it run? The figures mean nothing

Candidates are random merges of the demo models that come with hubmerge, each asked the same word problems in Japanese.
Every actor has one thread. "1 actor" gives all candidates to one of them, one after the other, while the others are
idle. "this process" is the search without Ray, with a thread for each core. Each round runs every way on the same
candidates, in turn from another one, so that what else the machine does meets all of them alike; the ratio is the
median of the rounds' own. The answers must be the same whoever gave them. The Markdown table goes to stdout, progress
to stderr.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from merge import conditions, table_row

from hubmerge import zoo
from hubmerge.evaluate.measurement import Measurement
from hubmerge.evaluate.task import load_task
from hubmerge.evolve.examples.asked import Asked
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.recipes import ParameterGenome
from hubmerge.evolve.workers.judge import make_judge
from hubmerge.evolve.workers.pool import LocalPool, MakeWorker, Pool, measure_all
from hubmerge.evolve.workers.ray_pool import RayPool
from hubmerge.recipe import Recipe
from hubmerge.stream.plan import make_plan
from hubmerge.zoo.publish import model_folder
from hubmerge.zoo.word_problems import problems

COLUMNS = ("way", "threads", "candidates/s", "slowest - fastest round", "times 1 actor")


def demo_search(folder: Path, examples: int) -> Search:
    """The search of `hubmerge demo` on folders instead of Hub IDs, with its first examples written in place."""
    document = yaml.safe_load((Path(zoo.__file__).parent / "demo.yaml").read_text(encoding="utf-8"))
    rows = [{"question": p.question, "answer": str(p.answer)} for p in problems("search", examples)]
    document["base_model"] = str(model_folder("base", folder / "base"))
    document["models"] = [str(model_folder(name, folder / name)) for name in ("math", "japanese")]
    document["task"]["examples"] = {"search": rows}
    document["splits"] = {"search": examples}
    return Search.from_dict(document)


def random_candidates(search: Search, count: int, seed: int) -> list[Recipe]:
    """Recipes drawn uniformly from the search's whole space."""
    genome = ParameterGenome(search, [tensor.name for tensor in make_plan(search.starting_recipe).tensors])
    generator = np.random.default_rng(seed)
    return [genome.decode(genome.random(generator)) for _ in range(count)]


def together(pool: Pool, candidates: Sequence[Recipe]) -> list[Measurement]:
    """Measures candidates with all workers of a pool."""
    results = measure_all(pool, [(candidate, Asked()) for candidate in candidates], lambda done: None)
    if failed := [result.error for result in results if result.error]:
        sys.exit(f"A candidate could not be measured: {failed[0]}")
    return [result.measurement for result in results if result.measurement]


def one_by_one(pool: Pool, candidates: Sequence[Recipe]) -> list[Measurement]:
    """Measures candidates with one worker of a pool."""
    return [together(pool, [candidate])[0] for candidate in candidates]


def rounds_of(
    ways: dict[str, Callable[[Sequence[Recipe]], list[Measurement]]], candidates: Sequence[Recipe], rounds: int
) -> dict[str, list[float]]:
    """Candidates a second of each way in each round."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    names, expected = list(ways), None
    for number in range(rounds):
        for way in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            found = ways[way](candidates)
            rates[way].append(len(candidates) / (time.perf_counter() - began))
            expected = expected or found
            if [m.values for m in found] != [m.values for m in expected]:
                sys.exit(f"{way}: other answers than those of {names[0]}.")
            load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
            print(f"round {number + 1}: {way} {rates[way][-1]:.2f} candidates/s{load}", file=sys.stderr, flush=True)
    return rates


def measured_rates(make_worker: MakeWorker, candidates: Sequence[Recipe], actors: int, rounds: int) -> None:
    """Runs all ways and prints the table's rows."""
    import torch

    cores = os.cpu_count() or 1
    torch.set_num_threads(cores)
    with RayPool(make_worker, actors=actors) as pool, LocalPool(make_worker) as local:
        while pool.alive < actors:  # the first one does not wait for the others
            pool.finished()
            time.sleep(0.1)
        ways = {
            "1 actor": partial(one_by_one, pool),
            f"{actors} actors": partial(together, pool),
            "this process": partial(together, local),
        }
        threads = dict(zip(ways, (1, actors, cores), strict=True))
        together(pool, candidates[:1] * actors)  # the first candidate also loads what transformers loads late
        together(local, candidates[:1])
        rates = rounds_of(ways, candidates, rounds)
    for way, each in rates.items():
        ratio = statistics.median(rate / one for rate, one in zip(each, rates["1 actor"], strict=True))
        median = f"{statistics.median(each):.2f}"
        print(table_row(way, threads[way], median, f"{min(each):.2f} - {max(each):.2f}", f"{ratio:.2f}"))


def main() -> None:
    """Makes the search, runs it all, prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, choices=range(2, 65), metavar="2-64", default=2)
    parser.add_argument("--candidates", type=int, choices=range(1, 1001), metavar="1-1000", default=12)
    parser.add_argument("--examples", type=int, choices=range(1, 151), metavar="1-150", default=150)
    parser.add_argument("--rounds", type=int, choices=range(1, 100), metavar="1-99", default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the candidates")
    parser.add_argument("--quick", action="store_true", help="one round of two candidates on eight examples")
    options = parser.parse_args()
    if options.quick:
        options.candidates, options.examples, options.rounds = 2, 8, 1

    print(conditions(), flush=True)
    with tempfile.TemporaryDirectory(prefix="actors-") as folder:
        search = demo_search(Path(folder), options.examples)
        task = load_task(search.task, counts=search.splits)
        candidates = random_candidates(search, options.candidates, options.seed)
        print(f"{len(candidates)} candidates on {options.examples} examples, {options.rounds} rounds\n")
        print(table_row(*COLUMNS), table_row(*["---"] * len(COLUMNS)), sep="\n", flush=True)
        measured_rates(partial(make_judge, search, task), candidates, options.actors, options.rounds)


if __name__ == "__main__":
    main()
