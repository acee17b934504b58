"""Paths as values and as recipes, and the genome of the data-flow space."""

import json
from typing import Any

import numpy as np
import pytest

from hubmerge.errors import RecipeError, SearchError
from hubmerge.evolve.spaces.data_flow import DataFlow
from hubmerge.evolve.spaces.families import FAMILIES
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.spec.data_flow import DataFlowSpace
from hubmerge.recipe import Conditional, Output, Recipe, value_at
from hubmerge.reference import ModelRef

A, B = ModelRef("org/a", "1" * 40), ModelRef("org/b", "2" * 40)
PATH = LayerPath((A, B), ((0, 0), (1, 1), (1, 2), (0, 1), (0, 2)), (1.0, 0.5, 1.0, -2.0, 0.25), Output("bfloat16"))


def space(counts: tuple[int, ...] = (4, 4), **options: Any) -> DataFlow:
    models = tuple(ModelRef(f"org/m{n}") for n in range(len(counts)))
    return DataFlow(DataFlowSpace(**options), models, counts)


def of_slots(genome: DataFlow, *slots: int) -> np.ndarray:
    """The genome's start with only these slots in, the first of them with the highest indicator."""
    vector = genome.start
    vector[: genome.slots] = -1
    for place, slot in enumerate(slots):
        vector[slot] = 1 - place / 100
    return vector


def names(path: LayerPath) -> list[str]:
    return [f"{'abc'[model]}{layer}" for model, layer in path.layers]


def test_a_path_round_trips() -> None:
    document = json.loads(json.dumps(PATH.to_dict()))
    assert LayerPath.from_dict(document) == PATH
    assert LayerPath.from_dict(document).to_dict() == PATH.to_dict()
    assert PATH.factors == (1.0, 0.5, 0.5, -1.0, -0.25)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layers": [[1, 0], [0, 1]], "scales": [1, 1]}, "begins and ends with a layer of its first model"),
        ({"layers": [[0, 0], [2, 1], [0, 1]], "scales": [1, 1, 1]}, r"\(2, 1\) is no layer"),
        ({"layers": [[0, 0], [0, 1]], "scales": [1]}, "one scale a layer"),
        ({"layers": [[0, 0], [0, 1]], "scales": [0.5, 1]}, "1 for the first"),
        ({"layers": [[0, 0], [0, 1]], "scales": [1, 0]}, "must stay within"),
        ({"layers": [[0, 0], [0, 1]], "scales": [1, float("nan")]}, "must stay within"),
        ({"layers": [[0, 0], [0, 1]], "scales": [1, 1e-13]}, "must stay within 1e-12 and 1e"),
        ({"layers": [[0, 0], [0, 1]], "scales": [1, True]}, "must be numbers"),
        ({"layers": [[0, 0], [0, "1"]], "scales": [1, 1]}, "must be pairs"),
        ({"layers": None}, "needs the list `layers`"),
        ({"layers": [], "scales": []}, "at least one"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"depth": 3}, "depth"),
    ],
)
def test_a_path_that_is_none_is_refused(changed: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        LayerPath.from_dict(PATH.to_dict() | changed)


def test_neighbouring_layers_share_a_slice() -> None:
    recipe = PATH.recipe(FAMILIES["llama"])
    assert [(str(s.sources[0].model), s.sources[0].layer_range) for s in recipe.slices] == [
        (str(A), (0, 1)),
        (str(B), (1, 3)),
        (str(A), (1, 2)),
        (str(A), (2, 3)),
    ]
    assert recipe.output.dtype == "bfloat16"
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    whole = LayerPath((A,), tuple((0, layer) for layer in range(9)), (1.0,) * 9).recipe(FAMILIES["llama"])
    (piece,) = whole.slices
    assert piece.sources[0].layer_range == (0, 9)
    assert not piece.sources[0].parameters


def test_scales_go_into_outputs_and_signs_into_norms() -> None:
    *_, third, last = (piece.sources[0].parameters for piece in PATH.recipe(FAMILIES["llama"]).slices)

    def scale(parameters: Any, name: str) -> float | None:
        return value_at(parameters["scale"], name, 0.0)

    assert scale(last, "model.layers.4.self_attn.o_proj.weight") == -4.0
    assert scale(last, "model.layers.4.mlp.down_proj.weight") == -4.0
    assert scale(last, "model.layers.4.mlp.up_proj.weight") is None
    assert scale(last, "model.layers.4.input_layernorm.weight") == -1.0
    assert scale(last, "model.norm.weight") == -1.0
    assert scale(third, "model.norm.weight") is None
    assert "shift" not in last
    # LayerNorm(-x) = -x / |x| * w + b: the bias keeps its sign.
    assert value_at(FAMILIES["gpt2"].absorb(-2.0, last=True)["scale"], "h.0.ln_1.bias", 0.0) is None
    # Gemma multiplies by 1 + w: halving the output takes w to (1 + w) / 2 - 1.
    assert FAMILIES["gemma3_text"].absorb(2.0) == {
        "scale": tuple(Conditional(n, 0.5) for n in FAMILIES["gemma3_text"].outputs),
        "shift": tuple(Conditional(n, -0.5) for n in FAMILIES["gemma3_text"].outputs),
    }
    assert FAMILIES["gemma3_text"].absorb(1.0, last=True) == {}


def test_sizes_are_the_papers() -> None:
    genome = space((32, 32))
    assert (genome.slots, genome.size) == (192, 192 + 64 * 64)
    assert genome.binary.sum() == 192
    assert genome.binary[:192].all()
    assert space((32, 32), scaling="network").size == 192 + 41
    assert space((32, 32), scaling="none", repeats=1).size == 64


@pytest.mark.parametrize("scaling", ["matrix", "network", "none"])
@pytest.mark.parametrize("counts", [(4, 4), (1, 3), (5,), (2, 1, 3)])
def test_the_start_is_the_first_model(scaling: str, counts: tuple[int, ...]) -> None:
    genome = space(counts, scaling=scaling)
    start = genome.start
    assert start.shape == genome.binary.shape == (genome.size,)
    assert set(start[: genome.slots]) == {0.0, 2.0}
    path = genome.decode(start)
    assert path.layers == tuple((0, layer) for layer in range(counts[0]))
    assert set(path.scales) == {1.0}
    path.recipe(FAMILIES["llama"])


def test_slots_are_decoded_in_order_between_the_ends() -> None:
    genome = space((3, 2), repeats=2)  # a0 a1 a2 b0 b1 | a0 a1 a2 b0 b1
    assert names(genome.decode(of_slots(genome))) == ["a0", "a2"]
    assert names(genome.decode(of_slots(genome, 8, 1))) == ["a0", "a1", "b0", "a2"]
    assert names(genome.decode(of_slots(genome, 0, 5, 7))) == ["a0", "a0", "a2"]
    assert names(genome.decode(of_slots(genome, 2, 3, 9))) == ["a0", "a2", "b0", "b1", "a2"]


def test_long_paths_keep_the_highest_indicators() -> None:
    genome = space((3, 2), repeats=2, max_layers=4)
    assert names(genome.decode(of_slots(genome, 8, 6, 3, 1))) == ["a0", "a1", "b0", "a2"]
    assert names(genome.decode(of_slots(genome, 0, 7, 3, 1, 4))) == ["a0", "a1", "b0", "a2"]
    level = genome.start
    level[: genome.slots] = 1.0
    assert names(genome.decode(level)) == ["a0", "a1", "a2"]  # the earlier of equal ones
    for vector in np.random.default_rng(0).standard_normal((50, genome.size)):
        assert len(genome.decode(vector).layers) <= 4


def test_vectors_that_mean_the_same_decode_to_equal_paths() -> None:
    genome = space((3, 2), repeats=2)
    rng = np.random.default_rng(1)
    vector = of_slots(genome, 0, 3, 6, 2)
    vector[genome.slots :] = rng.standard_normal(25)
    path = genome.decode(vector)
    assert names(path) == ["a0", "a2", "b0", "a1", "a2"]
    edges = [0 * 5 + 2, 2 * 5 + 3, 3 * 5 + 1, 1 * 5 + 2]
    assert len(set(path.scales[1:])) == 4
    other = vector.copy()
    other[genome.slots :] = rng.standard_normal(25)
    other[[genome.slots + edge for edge in edges]] = vector[[genome.slots + edge for edge in edges]] + 1e-9
    other[: genome.slots] *= rng.uniform(0.1, 9, genome.slots)
    assert genome.decode(other) == path
    assert json.dumps(genome.decode(other).to_dict()) == json.dumps(path.to_dict())
    for edge in edges:
        moved = vector.copy()
        moved[genome.slots + edge] += 0.1
        changed = genome.decode(moved)
        assert sum(a != b for a, b in zip(changed.scales, path.scales, strict=True)) == 1


def test_the_network_gives_scales_by_both_layers_and_the_step() -> None:
    genome = space((4, 4), scaling="network", repeats=2)
    rng = np.random.default_rng(2)
    vector = of_slots(genome, *range(16))
    vector[genome.slots :] = 2 * rng.standard_normal(41)
    path = genome.decode(vector)
    assert len(set(path.scales)) == len(path.scales)
    assert all(0.5 < scale < 1.5 for scale in path.scales)
    # The edge from layer a0 to a1 comes twice, at two steps, with two scales.
    assert path.scales[1] != path.scales[9]


@pytest.mark.parametrize("bounds", [(0.01, 0.5), (1.2, 90.0), (-2.0, 2.0)])
def test_products_stay_within_what_weights_can_hold(bounds: tuple[float, float]) -> None:
    genome = space((30, 30), scale_range=bounds)
    rng = np.random.default_rng(3)
    for _ in range(5):
        path = genome.decode(rng.standard_normal(genome.size) + 0.3)  # constructing a LayerPath checks it
        assert len(path.layers) > 60
    assert all(scale == 1 or bounds[0] < scale < bounds[1] for scale in path.scales)


@pytest.mark.parametrize("scaling", ["matrix", "network", "none"])
def test_random_paths_are_spread_over_the_space(scaling: str) -> None:
    genome = space((4, 4), scaling=scaling, max_layers=9)
    vectors = [genome.random(np.random.default_rng(seed)) for seed in range(200)]
    assert np.array_equal(vectors[3], genome.random(np.random.default_rng(3)))
    paths = [genome.decode(vector) for vector in vectors]
    lengths = {len(path.layers) for path in paths}
    assert lengths == set(range(2, 10)) or lengths == set(range(3, 10))
    visited = {place for path in paths for place in path.layers}
    assert len(visited) == 8
    scales = [scale for path in paths for scale in path.scales[1:]]
    if scaling == "matrix":
        assert 0.5 < min(scales) < 0.55 < 1.45 < max(scales) < 1.5
        assert np.mean(scales) == pytest.approx(1, abs=0.03)
    assert len({json.dumps(path.to_dict()) for path in paths}) > 150


def test_the_grid_is_what_people_stack_by_hand() -> None:
    genome = space((6, 5))
    grid = [genome.decode(vector) for vector in genome.grid(9)]
    assert [" ".join(names(path)) for path in grid][:2] == [
        "a0 b0 b1 b2 b3 b4 a5",
        "a0 b2 b3 b4 a5",
    ]
    assert names(grid[-1]) == ["a0", "a1", "a2", "a3", "a4", "b4", "a5"]
    assert len(set(grid)) == len(grid) == 9
    assert all(set(path.scales) == {1.0} for path in grid)
    assert len(genome.grid(1)) == 1
    assert 5 * 5 == len(genome.grid(1000)) == len({genome.decode(v) for v in genome.grid(1000)})
    assert {m for v in space((4, 4, 4)).grid(8) for m, _ in space((4, 4, 4)).decode(v).layers} == {0, 1, 2}
    assert all(len(genome.decode(v).layers) <= 5 for v in space((6, 5), max_layers=5).grid(50))
    assert space((4,)).decode(space((4,)).grid(5)[0]).layers == space((4,)).decode(space((4,)).start).layers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"scaling": "full"}, "matrix, network, none"),
        ({"scale_range": (1.0, 0.5)}, "must rise"),
        ({"scale_range": (1.0,)}, "two numbers"),
        ({"max_layers": 1}, "at least 2"),
    ],
)
def test_a_space_that_is_none_is_refused(options: dict, said: str) -> None:
    with pytest.raises(SearchError, match=said):
        DataFlowSpace(**options)
