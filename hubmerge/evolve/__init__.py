"""Searching for a better model: what may vary, who proposes, who measures, and what a run leaves behind.

From the bottom up; each imports only from what stands above it here.

pareto.py     which points are beaten by no other
spec/         the parts of search.yaml: genes, paths, searcher, fitness, economy
search.py     search.yaml as a whole, which people write: `Search`
spaces/       from vectors of numbers to candidates: recipes, paths through layers
records/      what lies in a run's folder: journal, results; resuming it, a copy of it on the Hub
opened.py     a search with its models and its task opened
examples/     which examples a candidate is asked, and racing
workers/      who measures candidates: one model in memory that becomes each of them, here or on Ray
searchers/    who proposes candidates: cmaes, nsga2, ...
compared/     what the winner is compared with, and the final table
recorder.py   every candidate measured once and journaled; searchers/problem.py and steady.py hand it to the searcher
explore.py    the search itself, stage by stage
genomes.py    what makes the genomes of a search, and recipes of their candidates
choose.py     the winner: the best few, scored again on the validation split
foresight.py  what would stop a search, found before it starts
result.py     a finished search with its card, read from its folder: `read_result`
export.py     any candidate of a run as a recipe
tracking.py   a search told to a tracker as it goes: trackio, wandb, TensorBoard
report/       what a run found, as one page with its pictures
run.py        all of it in a folder: `evolve`
plan.py       what a search would do, without reading weights: `plan_search`
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`from hubmerge.evolve import evolve`, without what a search needs until then."""
    if name != "evolve":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .run import evolve

    return evolve
