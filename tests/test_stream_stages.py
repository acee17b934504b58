"""Merges before a merge: their results are read as models are, to the bit, and nothing of them is written."""

import gc
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from streamtools import weights

from hubmerge.errors import Interrupted, PlanError, RecipeError, SearchError, SourceError
from hubmerge.evolve.search import Search
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.hub import open_source, push_folder
from hubmerge.hub.card import render
from hubmerge.methods import METHODS
from hubmerge.publish import card_of
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.compute import Merging
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify
from space.forms.recipe import compose

TIES = {"normalize": True, "lambda": 0.8}


@pytest.fixture(scope="module")
def wide(tiny_llama, tmp_path_factory) -> dict[str, Path]:
    """Siblings of which some tensors are longer than a block."""
    root, sizes = tmp_path_factory.mktemp("wide"), {"intermediate_size": 17_000}
    base = tiny_llama(root / "base", seed=1, **sizes)
    names = {"math": 2, "japanese": 3, "code": 4}
    return {"base": base} | {n: tiny_llama(root / n, seed=s, sibling_of=base, **sizes) for n, s in names.items()}


def first(of: dict[str, Any], **more: Any) -> dict[str, Any]:
    models = [{"model": str(of[name]), "parameters": {"weight": 0.7, "density": 0.4}} for name in ("math", "japanese")]
    return {"merge_method": "ties", "base_model": str(of["base"]), "models": models, "parameters": TIES, **more}


def second(of: dict[str, Any], model: str, method: str = "linear") -> dict[str, Any]:
    if method == "slerp":
        return {
            "merge_method": "slerp",
            "base_model": str(of["base"]),
            "models": [{"model": model}],
            "parameters": {"t": [0.3, 0.6]},
        }
    if method == "passthrough":
        pieces = [(model, [0, 2]), (str(of["math"]), [1, 3]), (model, [1, 3])]
        slices = [{"sources": [{"model": name, "layer_range": layers}]} for name, layers in pieces]
        return {"merge_method": "passthrough", "slices": slices}
    weights = ([0.3, 0.8], [{"filter": "mlp", "value": 0.9}, {"value": 0.4}])
    more = {"density": 0.5} if method in ("ties", "dare_ties") else {}
    models = [
        {"model": name, "parameters": {"weight": weight, **more}}
        for name, weight in zip((model, str(of["math"])), weights, strict=True)
    ]
    document: dict[str, Any] = {"merge_method": method, "models": models}
    if method != "linear":
        document["base_model"] = str(of["base"])
    return document


def staged(of: dict[str, Any], method: str = "linear", **more: Any) -> Recipe:
    return Recipe.from_dict({"stages": [{"name": "ja", **first(of, **more)}], **second(of, "stage:ja", method)})


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare_ties", "passthrough"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_as_if_the_first_had_been_written(wide, method: str, dtype: str | None, tmp_path: Path) -> None:
    more = {} if dtype is None else {"dtype": dtype}
    recipe = staged(wide, method, **more)
    merge(recipe, tmp_path / "staged")
    merge(Recipe.from_dict(first(wide, **more)), tmp_path / "first")
    merge(Recipe.from_dict(second(wide, str(tmp_path / "first"), method)), tmp_path / "second")
    found, expected = weights(tmp_path / "staged"), weights(tmp_path / "second")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    assert sorted(path.name for path in (tmp_path / "staged").iterdir()) == sorted(
        path.name for path in (tmp_path / "second").iterdir()
    )


def test_every_way_to_read_gives_the_same_bytes(wide, hub, tmp_path: Path) -> None:
    """Shards, threads, ranges of the Hub, and a stop in the middle, of three merges that need each other."""
    names = {name: f"alice/staged-{name}" for name in wide}
    for name, folder in wide.items():
        push_folder(folder, names[name], message="Upload", private=False)
    document = {
        "stages": [{"name": "a", **first(names)}, {"name": "b", **second(names, "stage:a", "dare_ties")}],
        "merge_method": "task_arithmetic",
        "base_model": "stage:a",
        "models": [{"model": "stage:b"}, {"model": names["code"], "parameters": {"weight": 0.5}}],
    }
    recipe = Recipe.from_dict(document)
    plan = make_plan(recipe, ranged=True, threads=3, shard_size=1_000_000)
    assert plan.fetch_bytes > sum((folder / "model.safetensors").stat().st_size for folder in wide.values()) * 0.99
    ranged = merge(plan, tmp_path / "ranged").tensors

    def stop(event) -> None:
        if event.stage == "merge" and event.done > 2_000_000:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        merge(make_plan(recipe, threads=1, shard_size=1_000_000), tmp_path / "whole", progress=stop)
    result = merge(make_plan(recipe, threads=2, shard_size=1_000_000), tmp_path / "whole")
    assert result.kept > 0 and result.tensors == ranged
    found = verify(ModelRef(str(tmp_path / "whole")), recompute=True)
    found.require()
    card = render(card_of(result.plan))
    assert all(name in card for name in names.values()) and "name: a" in card and "stage:b" in card
    assert f"built on [{names['base']}]" in card and "merge of " in card.split("# ")[1]
    links = ", then ".join(f"[`{name}`]({METHODS[name].paper})" for name in ("ties", "dare_ties", "task_arithmetic"))
    assert f"weights with {links}" in card


def test_what_is_read_twice_is_made_once(wide, monkeypatch, tmp_path: Path) -> None:
    """Three that measure, on top of each other: each block is merged once, kept on disk, and nothing is left."""
    top = {**second(wide, "stage:b", "ties"), "stages": [{"name": "a", **first(wide)}]}
    top["stages"].append({"name": "b", **second(wide, "stage:a", "ties")})
    plan = make_plan(Recipe.from_dict(top), threads=2)
    largest = max(tensor.nbytes for tensor in plan.tensors)
    assert plan.spill_bytes == 2 * 2 * largest and plan.disk_bytes > plan.output_bytes + plan.spill_bytes
    made: Counter[tuple[str, int]] = Counter()

    def block(self: Merging, start: int) -> torch.Tensor:
        made[self._plan.name, start] += 1
        return real(self, start)

    real = Merging.block
    monkeypatch.setattr(Merging, "block", block)
    merge(plan, tmp_path / "out")
    assert set(made.values()) == {3}, "once in each of the three"
    assert not (tmp_path / "out" / ".hubmerge").exists()
    found = {name: tensor.clone() for name, tensor in weights(tmp_path / "out").items()}
    monkeypatch.setattr("hubmerge.stream.stage._is_work", lambda tensor: False)
    merge(make_plan(Recipe.from_dict(top)), tmp_path / "twice")
    assert max(made.values()) > 3 + 3
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(tmp_path / "twice").items())


def test_nothing_of_a_tensor_stays_when_it_is_made(wide, monkeypatch, tmp_path: Path) -> None:
    made: list[weakref.ref[Merging]] = []
    begin = Merging.__init__

    def noted(self: Merging, *given: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *given)

    monkeypatch.setattr(Merging, "__init__", noted)
    gc.collect()
    gc.disable()  # what waits for it may take gigabytes meanwhile
    try:
        merge(staged(wide), tmp_path / "out")
        assert len(made) > 20 and not any(one() is not None for one in made)
    finally:
        gc.enable()


def test_a_stage_is_tried_in_memory(wide, tmp_path: Path) -> None:
    recipe = staged(wide, "task_arithmetic")
    plan = make_plan(recipe)
    merge(plan, tmp_path / "out")
    resident = ResidentModel(plan, device="cpu")
    state = dict(resident.model.named_parameters())
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stages": []}, "names stage:ja, but no stage comes before it"),
        ({"stages": [{"name": "no"}]}, "In the stage no: The recipe needs `merge_method"),
        ({"stages": [{"merge_method": "linear"}]}, "needs `name: NAME` beside a merge"),
        ({"stages": [{"name": 1, "models": [{"model": "x/y"}]}]}, r"got the name 1, which is no text\.$"),
        ({"stages": "ja"}, "`stages` must be a list"),
        ({"stages": {"ja": {"merge_method": "linear"}}}, "dash, as in `- name: NAME`"),
        ({"merge_method": None}, "needs `merge_method: NAME` .* of the last merge, beside its `stages`"),
        ({"models": None}, "Beside its `stages` the recipe needs `models`"),
        ({"stages": [{"name": "a/b", "merge_method": "linear", "models": [{"model": "x/y"}]}]}, "no name of a stage"),
    ],
)
def test_stages_that_are_none(wide, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Recipe.from_dict({**staged(wide).to_dict(), **changes})


def test_stages_are_named_once_used_and_in_order(wide) -> None:
    document = staged(wide).to_dict()
    [stage] = document["stages"]
    with pytest.raises(RecipeError, match="Two stages are called ja"):
        Recipe.from_dict({**document, "stages": [stage, stage]})
    with pytest.raises(RecipeError, match="Nothing names stage:spare"):
        Recipe.from_dict({**document, "stages": [stage, {**stage, "name": "spare"}]})
    with pytest.raises(RecipeError, match="Nothing names stage:ja; write stage:ja where you mean it"):
        Recipe.from_dict({"stages": [stage], **second(wide, "ja")})
    with pytest.raises(RecipeError, match="The stage early names stage:ja, but no stage comes before"):
        Recipe.from_dict({**document, "stages": [{"name": "early", **second(wide, "stage:ja")}, stage]})
    with pytest.raises(RecipeError, match="has `stages` of its own"):
        Recipe.from_dict({**document, "stages": [{"name": "outer", **document}]})
    assert Recipe.from_yaml(staged(wide).to_yaml()) == staged(wide)


def test_stages_are_at_most_as_many_as_can_be_planned() -> None:
    def merged(*names: str) -> dict[str, Any]:
        return {"merge_method": "linear", "models": [{"model": name} for name in names]}

    def each_of_the(count: int, last: int) -> dict[str, Any]:
        names = [f"s{number}" for number in range(count)]
        made = [
            {"name": name, **merged("org/a", *(f"stage:{one}" for one in names[max(0, n - last) : n]))}
            for n, name in enumerate(names)
        ]
        return {"stages": made, **merged(*(f"stage:{name}" for name in names[-last:]))}

    assert len(Recipe.from_dict(each_of_the(50, 1)).stages) == 50
    with pytest.raises(RecipeError, match="has 51 stages; at most 50"):
        Recipe.from_dict(each_of_the(51, 1))
    assert Recipe.from_dict(each_of_the(12, 2))
    with pytest.raises(RecipeError, match=r"The stage s14 is made of .* read more than 1,000 times"):
        Recipe.from_dict(each_of_the(40, 2))


def test_what_is_wrong_with_a_stage_is_said_of_it(wide, tiny_llama, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "other", hidden_size=32)
    plan = make_plan(staged({**wide, "japanese": other}))
    assert plan.errors and all(problem.message.startswith("In stage:ja: ") for problem in plan.errors)
    with pytest.raises(PlanError, match="do not fit together"):
        plan.require()


def test_a_stage_is_no_model_of_its_own(wide, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a meaning in its recipe alone"):
        open_source(ModelRef.parse("stage:ja"))
    search = {
        "models": ["stage:ja", str(wide["math"])],
        "data_flow": {},
        "task": {"examples": {"search": [{"question": "a", "answer": "1"}]}},
    }
    with pytest.raises(SearchError, match="is a stage of a recipe; a search names models"):
        Search.from_dict(search)


def test_the_form_keeps_the_stages_that_are_named(wide) -> None:
    before = staged(wide)
    kept = compose(METHODS["linear"], ["stage:ja", str(wide["code"])], None, before)
    assert kept is not None and kept.stages == before.stages
    dropped = compose(METHODS["linear"], [str(wide["math"]), str(wide["code"])], None, before)
    assert dropped is not None and dropped.stages == ()
