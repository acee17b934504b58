"""A made-up search, its genome, and a fitness with a known optimum."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve.explore import explore
from hubmerge.evolve.records.journal import Journal
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.recipes import ParameterGenome
from hubmerge.evolve.workers.pool import LocalPool
from hubmerge.recipe import Recipe, value_at

NAMES = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{layer}.{suffix}.weight"
        for layer in range(12)
        for suffix in ("self_attn.q_proj", "self_attn.q_norm", "mlp.up_proj", "input_layernorm")
    ),
    "model.norm.weight",
    "lm_head.weight",
]


TASK = {"examples": {"search": [{"question": "1+1?", "answer": 2}]}}


def document(**changes) -> dict:
    return {
        "models": ["org/math", "org/japanese"],
        "base_model": "org/base",
        "merge_method": "dare_ties",
        "genome": {"granularity": "layer", "genes": {"weight": [0, 2], "density": [0.1, 1]}, "start": {"weight": 0.5}},
        "task": TASK,
        "searcher": {"evaluations": 60, "seed": 7},
        **changes,
    }


def genome(granularity: str = "model", **changes) -> ParameterGenome:
    genes = {"granularity": granularity, "genes": {"weight": [0, 2]}, "start": {"weight": 1.0}}
    return ParameterGenome(Search.from_dict(document(merge_method="task_arithmetic", genome=genes, **changes)), NAMES)


def weights(recipe: Recipe) -> np.ndarray:
    return np.array([value_at(entry.parameters["weight"], name, 0) for entry in recipe.models for name in NAMES])


def peak(recipe: Recipe) -> Measurement:
    """A synthetic fitness whose best point is weight 1.4 for the first model, 0.3 for the second."""
    half = len(NAMES)
    w = weights(recipe)
    error = np.mean((w[:half] - 1.4) ** 2) + np.mean((w[half:] - 0.3) ** 2)
    return Measurement(math.exp(-4 * error), 0.0, 0.0, 1)


def run(folder: Path, made: ParameterGenome, measure=peak, resume: bool = False, progress=lambda event: None):
    folder.mkdir(exist_ok=True)
    with Journal(folder / "journal.jsonl", "key", {}, resume=resume) as journal:
        spec = made.search
        worker = SimpleNamespace(measure=lambda candidate, job: measure(candidate))
        with LocalPool(lambda: worker) as pool:
            return explore(spec.searcher, spec.fitness, [lambda start: made], journal, pool, progress=progress)
