"""Run folders made up for the tests of reports: evaluations, recipes and paths of any size, as a search leaves them."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hubmerge.evolve.records.evaluation import Evaluation

MODELS = ("org/math-tuned-7b", "org/japanese-instruct-7b", "someone/code-7b")


def evaluation(number: int, fitness: Sequence[float], **given: Any) -> Evaluation:
    """A made evaluation; what is not given follows from the number."""
    values = {
        "number": number,
        "stage": 0,
        "generation": number // 10,
        "genome": (0.5, 0.25),
        "candidate_key": hashlib.sha256(str(number).encode()).hexdigest(),
        "fitness": tuple(fitness),
        "score": max(0.0, fitness[0]),
        "metric": max(0.0, fitness[0]),
        "language": 0.9,
        "n": 50,
        "values": (),
        "seconds": 2.0,
        "tokens": 1000,
        "seed": 7,
    }
    return Evaluation(**{**values, **given})


def rising(count: int, objectives: int = 1, seed: int = 1, **given: Any) -> list[Evaluation]:
    """A search that gets better; one of 17 candidates fails."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        quality = 0.15 + 0.4 * (1 - 2.7 ** (-3 * number / count)) + draw.gauss(0, 0.05)
        fitness = [min(1.0, max(0.0, quality)), *(draw.random() * (1.2 - quality) for _ in range(objectives - 1))]
        if number % 17 == 16:
            found.append(evaluation(number, [-1.0] * objectives, error="OverflowError: NaN in lm_head", **given))
        else:
            found.append(evaluation(number, fitness, **given))
    return found


def row(model: str, value: float, gain: Sequence[float] | None = None, p: float | None = None) -> dict[str, Any]:
    return {
        "model": model,
        "value": value,
        "low": max(0.0, value - 0.056),
        "high": min(1.0, value + 0.056),
        "n": 250,
        "metric": value,
        "language": 0.95,
        "p_value": p,
        "gain": gain,
    }


ROWS = [
    row("org/base-7b (base)", 0.048, (0.41, 0.53), 1e-9),
    row(MODELS[0], 0.332, (0.12, 0.25), 0.0004),
    row(MODELS[1], 0.208, (0.25, 0.37), 1e-7),
    row("average", 0.472, (-0.012, 0.101), 0.173),
    row("evolved", 0.524),
]


def recipe(layers: int, genes: Sequence[str] = ("weight", "density"), seed: int = 3) -> dict[str, Any]:
    """A layer-wise recipe over `MODELS` with weights of both signs."""
    draw = random.Random(seed)

    def setting(low: float) -> list[dict[str, Any]]:
        cases = [{"filter": f"model.layers.{n}.", "value": round(draw.uniform(low, 1.4), 6)} for n in range(layers)]
        return [*cases, {"value": 0.8125}]

    return {
        "merge_method": "dare_ties",
        "base_model": "org/base-7b",
        "models": [
            {"model": model, "parameters": {gene: setting(-0.6 if gene == "weight" else 0.1) for gene in genes}}
            for model in MODELS
        ],
        "parameters": {"normalize": False, "lambda": 1.0},
    }


def path(steps: int, layers: int, models: int = 2, seed: int = 5) -> dict[str, Any]:
    """A path that mostly runs on, sometimes jumps back or over to another model."""
    draw = random.Random(seed)
    model, layer, found = 0, 0, []
    for _ in range(steps):
        found.append([model, layer])
        if draw.random() < 0.2:
            model, layer = draw.randrange(models), max(0, layer - draw.randrange(1, 6))
        layer = (layer + 1) % layers
    scales = [round(draw.gauss(1, 0.15), 4) for _ in found]
    return {"models": list(MODELS[:models]), "layers": found, "scales": scales}


def write_run(
    folder: Path,
    evaluations: Sequence[Evaluation],
    *,
    spec: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    winner: Mapping[str, Any] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    front: Sequence[int] | None = None,
    done: bool = True,
) -> Path:
    """A run folder as a search leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {"hubmerge_journal": 2, "key": "5" * 64, "hubmerge": "9.8.7"}
    lines = [header, *(e.to_dict() for e in evaluations)]
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    given = {
        "models": list(MODELS),
        "base_model": "org/base-7b",
        "merge_method": "dare_ties",
        "genome": {"granularity": ["layer"], "genes": {"weight": [-1, 2], "density": [0.1, 1]}},
        "task": {"name": "ja-word-problems"},
        "searcher": {"name": "cmaes", "evaluations": 300, "seed": 7},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(spec or given), encoding="utf-8")
    if done:
        document = {
            "key": "5" * 64,
            "search": search or {"searcher": "cmaes", "space": "ps", "seconds": 754.2, "seed": 7},
            "winner": winner or {},
            "front": front,
            "rows": list(rows),
        }
        (folder / "results.json").write_text(json.dumps(document), encoding="utf-8")
    return folder
