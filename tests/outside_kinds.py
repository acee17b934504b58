"""The kinds of documents that come from outside, each with what hubmerge does with one that it is given."""

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from outside import json_bytes, safetensors, yaml_bytes

from hubmerge import METHODS, HubmergeError, ModelRef, Recipe, make_plan, open_source, terminal
from hubmerge.hub.source import Source
from hubmerge.publish import merge_to_folder
from hubmerge.stream.plan import Plan


@dataclass(frozen=True)
class Kind:
    """Documents, and what a user would do with one."""

    documents: st.SearchStrategy[Any]
    read: Callable[[Any], object]


@dataclass
class Bench:
    """Where documents are tried: tiny models, and a `folder` for what is made. `late`: a plan in how many is merged."""

    folder: Path
    models: Mapping[str, Path]
    late: int = 15
    opened: dict[ModelRef, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.opened = {ref: open_source(ref) for ref in map(ModelRef.parse, map(str, self.models.values()))}

    def copy(self, name: str, model: str = "base") -> Path:
        """A model of its own, to be changed."""
        return Path(shutil.copytree(self.models[model], self.folder / name))

    def plan(self, recipe: Recipe, document: Any = b"") -> Plan:
        """Plans, shows the plan, and of some that have no errors makes the model, which must not fail any more."""
        plan = make_plan(recipe, sources=self.opened)
        with terminal.out.capture():
            terminal.show_plan(plan)
        plan.require()
        if zlib.crc32(repr(document).encode("utf-8", "replace")) % self.late == 0:
            out = self.folder / "merged"
            shutil.rmtree(out, ignore_errors=True)
            try:
                merge_to_folder(plan, out)
            except HubmergeError as exc:
                raise AssertionError(f"planned without an error, and then: {exc}") from exc
        return plan

    def merged_with(self, model: Path, other: str = "math", method: str = "linear", **more: Any) -> Recipe:
        """A recipe of the model in a folder and of another."""
        models = [{"model": str(model)}, {"model": str(self.models[other])}]
        return Recipe.from_dict({"merge_method": method, "models": models, **more})


_VALUES: Mapping[str, Any] = {
    "weight": [{"filter": "mlp", "value": [0, 0.5, 1]}, {"value": 0.3}],
    "density": 0.5,
    "gamma": 0.1,
    "t": [0, 0.5, 1],
    "lambda": 1.5,
    "normalize": True,
    "rescale": False,
    "seed": 3,
    "scale": 0.5,
    "shift": 0.1,
}


def recipes(base: Path, one: Path, two: Path) -> list[dict[str, Any]]:
    """A valid recipe of every method, one of layers, and one with all keys."""
    made = []
    for method in METHODS.values():
        own = {p.name: _VALUES[p.name] for p in method.parameters if p.per_model}
        shared = {p.name: _VALUES[p.name] for p in method.parameters if not p.per_model}
        models = [one, two][: method.max_models]
        document: dict[str, Any] = {
            "merge_method": method.name,
            "models": [{"model": str(model), "parameters": own} for model in models],
            "parameters": shared,
        }
        if method.base == "required":
            document["base_model"] = str(base)
        if method.name == "slerp":
            document["models"].insert(0, {"model": str(base)})
        made.append(document)
    sources = [{"model": str(model), "layer_range": [0, 2], "parameters": {"weight": 0.5}} for model in (one, two)]
    last = {"sources": [{"model": str(base), "layer_range": [1, 3]}]}
    made.append({"merge_method": "linear", "slices": [{"sources": sources}, last], "dtype": "float16"})
    made.append({"merge_method": "passthrough", "slices": [last, last, last]})
    made.append(
        {
            **made[3],
            "dtype": "float32",
            "out_dtype": "bfloat16",
            "tokenizer_source": str(two),
            "chat_template": "{{ messages }}",
        }
    )
    return made


def recipe(bench: Bench) -> Kind:
    """A recipe: read, written, planned, merged."""

    def read(text: bytes) -> None:
        file = bench.folder / "recipe.yaml"
        file.write_bytes(text)
        given = Recipe.from_yaml(file)
        assert Recipe.from_yaml(given.to_yaml()) == given
        bench.plan(given, text)

    return Kind(yaml_bytes(*recipes(*bench.models.values())), read)


def config(bench: Bench) -> Kind:
    """config.json of a model, in a merge with another and in a stack of its own layers."""
    folder = bench.copy("config")

    def read(text: bytes) -> None:
        (folder / "config.json").write_bytes(text)
        bench.plan(bench.merged_with(folder), text)
        pieces = [{"sources": [{"model": str(folder), "layer_range": [n, n + 2]}]} for n in (0, 1)]
        bench.plan(Recipe.from_dict({"merge_method": "passthrough", "slices": pieces}), text)

    return Kind(json_bytes(json.loads((folder / "config.json").read_bytes())), read)


def header(bench: Bench) -> Kind:
    """A file of weights."""
    folder = bench.copy("header")
    weights = folder / "model.safetensors"

    def read(content: bytes) -> None:
        weights.write_bytes(content)
        bench.plan(bench.merged_with(folder), content)

    return Kind(safetensors(weights.read_bytes()), read)


KINDS: Mapping[str, Callable[[Bench], Kind]] = {
    "recipe": recipe,
    "config": config,
    "header": header,
}
