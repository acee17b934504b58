"""Runs searches in processes that are killed with kill -9, for test_evolve_crash.py.

Imports are paid for once: every run is a fork. One line of JSON a search comes in, one goes out when it is over.
"""

import gc
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve.explore import MakeGenome, explore
from hubmerge.evolve.genomes import candidates_of, path_genome
from hubmerge.evolve.records.journal import Journal
from hubmerge.evolve.records.learnt import open_learnt
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.candidate import candidate_key
from hubmerge.evolve.spaces.recipes import ParameterGenome
from hubmerge.evolve.workers.pool import LocalPool

NAMES = [f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(3)] + ["lm_head.weight"]
KILL = b"kill"
SECONDS = 0.002
"""What a measurement takes."""


class Worker:
    """Scores a candidate by the numbers that it says, and notes in a file which one it began with."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def measure(self, candidate: Any, job: Any) -> Measurement:
        key = candidate_key(candidate.to_dict())
        os.write(self._log, f"{key}\n".encode())
        time.sleep(SECONDS)
        if int(key, 16) % 11 == 0:
            raise ValueError("a candidate that cannot be built")
        found = list(numbers(candidate.to_dict()))
        values = np.exp(-((np.resize(found, 10) - 0.7) ** 2))  # no round numbers: a journal must keep them all
        return Measurement(
            float(values.mean()), float(values[::2].mean()), float(values[1::2].mean()), 10, tuple(values.tolist()), 30
        )


def numbers(value: Any) -> Iterator[float]:
    """All numbers in plain values, in their order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def stages_of(search: Search) -> list[MakeGenome]:
    """The genomes of a search for recipes or paths over models that do not exist."""
    learnt = open_learnt(search)
    if search.data_flow is not None:
        flow = path_genome(search, search.models, (3,) * len(search.models), learnt)
        return [lambda start: flow]
    taught = candidates_of(learnt, "ps")
    return [lambda start, name=name: ParameterGenome(search, NAMES, name, start, taught) for name in search.granularity]


def run(search: Search, folder: Path) -> None:
    """The search, from its beginning or from where its journal ends."""
    with (
        Journal(folder / "journal.jsonl", "key", {}, resume=True) as journal,
        LocalPool(lambda: Worker(folder / "log")) as pool,
    ):
        explore(search.searcher, search.fitness, stages_of(search), journal, pool)


def fork(search: Search, folder: Path) -> int:
    """Begins a run in a process of its own; its id."""
    child = os.fork()
    if child == 0:
        try:
            run(search, folder)
            os._exit(0)
        except BaseException as exc:
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
        finally:
            os._exit(1)
    return child


def kill(search: Search, folder: Path, lines: int, delay: float) -> bool:
    """Runs until the journal has so many lines and a moment more, then kills; whether it was still at work."""
    journal, child = folder / "journal.jsonl", fork(search, folder)
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(SECONDS / 4)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        return False
    with (folder / "log").open("ab") as log:
        log.write(KILL + b"\n")
    with journal.open("ab") as file:
        file.write(b'{"number": 17, "stage": 0, "gen'[: random.randrange(32)])  # a line that the kill tore
    return True


def finish(search: Search, folder: Path) -> bool:
    """Runs to the end; whether it got there."""
    return os.waitpid(fork(search, folder), 0)[1] == 0


def crash(document: dict[str, Any], root: Path, crashes: int, seed: int) -> dict[str, Any]:
    """One search, whole and killed `crashes` times: how often it was, and whether both came to their end."""
    search = Search.from_dict(document)
    whole, broken = root / "whole", root / "broken"
    for folder in (whole, broken):
        folder.mkdir(parents=True)
    ended = finish(search, whole)
    total = (whole / "journal.jsonl").read_bytes().count(b"\n")
    random.seed(seed)
    # Where two moments are close, the later one strikes while the run is still told what it knows.
    moments = sorted(random.randrange(total - 1) for _ in range(crashes))
    killed = sum(kill(search, broken, moment, random.uniform(0, 5 * SECONDS)) for moment in moments)
    return {"killed": killed, "ended": ended and finish(search, broken)}


if __name__ == "__main__":
    gc.freeze()  # else each process that is forked copies what the imports made, at its first collection
    for line in sys.stdin:
        document, root, crashes, seed = json.loads(line)
        print(json.dumps(crash(document, Path(root), crashes, seed)), flush=True)
