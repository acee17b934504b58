"""A value of any other type at any place of a document is read, or refused in a sentence."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from outside import judge

from hubmerge.evaluate.task import load_task
from hubmerge.evolve.search import Search
from hubmerge.hub import open_source
from hubmerge.hub.checkpoint import parse_config
from hubmerge.recipe import ModelEntry, Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.plan import make_plan

ROWS = [{"question": f"{n} w", "answer": str(n)} for n in range(12)]
TASK = {
    "name": "t",
    "examples": {"search": ROWS[:6], "test": ROWS[6:]},
    "prompt": "{question}",
    "metric": "exact_number",
    "language": "ja",
    "max_new_tokens": 4,
}
SEARCH = {
    "models": ["x/a", "x/b"],
    "base_model": "x/c",
    "merge_method": "ties",
    "parameters": {"normalize": True},
    "genome": {"granularity": ["filter"], "filters": ["mlp"], "genes": {"weight": [0, 2]}, "start": {"weight": 1}},
    "data_flow": {"repeats": 2, "scaling": "matrix", "searcher": {"name": "random", "evaluations": 4}},
    "task": TASK,
    "splits": {"search": 3},
    "searcher": {"name": "cmaes", "seed": 1, "popsize": 4, "evaluations": 8, "sigma": 0.1, "minutes": 2},
    "fitness": {"objectives": ["score"], "number_bonus": 0.1},
    "select": 2,
    "baselines": ["average"],
    "batch_size": 3,
    "economy": {"examples": 8, "racing": False},
    "dtype": "float32",
    "out_dtype": "bfloat16",
    "tokenizer_source": "base",
    "chat_template": "{{x}}",
}
RECIPE = {
    "merge_method": "ties",
    "base_model": "x/c",
    "models": [{"model": "x/a", "parameters": {"weight": [{"filter": "mlp", "value": 1}]}}],
    "parameters": {"normalize": True},
    "dtype": "float32",
    "tokenizer_source": "base",
    "chat_template": "auto",
}
SLICES = {
    "merge_method": "passthrough",
    "slices": [{"sources": [{"model": "x/a", "layer_range": [0, 2]}], "parameters": {"scale": 1}}],
}
VALUES = [[], {}, ["a"], [1], {"a": 1}, 1, 1.5, True, "", None, -1, 0, "x", [[]], [{}], {"a": []}, 10**30]
KINDS: dict[str, tuple[dict[str, Any], Callable[[Any], object]]] = {
    "search": (SEARCH, Search.from_dict),
    "recipe": (RECIPE, Recipe.from_dict),
    "slices": (SLICES, Recipe.from_dict),
    "task": (TASK, load_task),
}


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value, of a list to its first two alone."""
    items = document.items() if isinstance(document, dict) else enumerate(document[:2])
    for key, value in items:
        yield (*before, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*before, key))


@pytest.mark.parametrize("kind", KINDS)
def test_read_or_refused(kind: str) -> None:
    document, read = KINDS[kind]
    read(document)
    for way in list(places(document)):
        for value in VALUES:
            changed = copy.deepcopy(document)
            inside = changed
            for key in way[:-1]:
                inside = inside[key]
            inside[way[-1]] = value
            try:
                judge(lambda changed=changed: read(changed))
            except Exception as exc:
                raise AssertionError(f"{'.'.join(map(str, way))}: {value!r}") from exc


def test_configurations_too(siblings) -> None:
    """config.json of one of two models that are planned together, a part of it for pictures as well."""
    source, other = (open_source(ModelRef(str(siblings[name]))) for name in ("math", "japanese"))
    document = {**source.config, "vision_config": {"hidden_size": 8, "dtype": "float32"}}
    recipe = Recipe("linear", models=(ModelEntry(source.ref), ModelEntry(other.ref)))
    for way in list(places(document)):
        for value in VALUES:
            changed = copy.deepcopy(document)
            inside = changed if len(way) == 1 else changed[way[0]]
            inside[way[-1]] = value

            def read(changed: dict[str, Any] = changed) -> None:
                config, _ = parse_config(json.dumps(changed), "a model")
                make_plan(recipe, sources={source.ref: replace(source, config=config), other.ref: other})

            try:
                judge(read)
            except Exception as exc:
                raise AssertionError(f"{'.'.join(map(str, way))}: {value!r}") from exc
