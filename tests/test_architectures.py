"""A merge computes what its source computes, and a stack loads whole, for every kind of architecture."""

from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, CASES, OTHER, folder_of, third_parties_warn

from hubmerge.errors import PlanError
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge

# One of each kind runs always, the first of every other architecture with `slow`, and all with --thorough.
_FAST = (
    "llama-tied",
    "llama-untied",
    "llama-other",
    "gpt2-other",
    "mixtral-tied",
    "roberta-tied",
    "roberta-other",
    "bert-labels",
    "longformer-tied",
    "t5-tied",
    "bart",
    "vit",
    "wav2vec2",
)


# Their first layer is unlike the others, or a tensor outside the stack has a part for each layer.
_UNLIKE = {
    "modernbert": "other tensors",
    "modernbert-labels": "other tensors",
    "wavlm": "other tensors",
    "esm": "depth",
}


def _marks(case: str) -> list[pytest.MarkDecorator]:
    if case in _FAST:
        return []
    name = CASES[case][0].name
    first = next(other for other, (architecture, _) in CASES.items() if architecture.name == name)
    return [pytest.mark.slow if case == first else pytest.mark.thorough]


def _split(cases: list[str]) -> list[object]:
    return [pytest.param(case, marks=_marks(case)) for case in cases]


def _each_way(cases: list[str]) -> list[object]:
    """Cases with a method: by turns what is copied and what is computed; both ways with --thorough."""
    return [
        pytest.param(case, method, marks=[*_marks(case), *([pytest.mark.thorough] if (number + turn) % 2 else [])])
        for number, case in enumerate(cases)
        for turn, method in enumerate(("passthrough", "linear"))
    ]


def test_there_are_more_than_thirty_architectures_of_every_kind() -> None:
    assert len(ARCHITECTURES) > 50
    assert set(_FAST) <= CASES.keys()


@pytest.mark.parametrize(("case", "method"), _each_way(list(CASES)))
def test_a_model_by_itself_computes_what_the_source_computes(case: str, method: str, tmp_path: Path) -> None:
    architecture, _ = CASES[case]
    source = folder_of(case, 0)
    names = [str(source)] if method == "passthrough" else [str(source), str(source)]
    weighted = {} if method == "passthrough" else {"parameters": {"weight": 0.5}}
    merge(
        Recipe.from_dict({"merge_method": method, "models": [{"model": name, **weighted} for name in names]}),
        tmp_path / "out",
    )
    with third_parties_warn():
        expected, told = architecture.load(source)
        result, found = architecture.load(tmp_path / "out")
        wanted, got = architecture.ask(expected), architecture.ask(result)
    assert wanted.isfinite().all()
    assert torch.equal(got, wanted)
    assert set(found["missing_keys"]) <= set(told["missing_keys"])
    assert set(found["unexpected_keys"]) <= set(told["unexpected_keys"])


def _stack(case: str, *ranges: list[int]) -> Recipe:
    """Layers of the first model below layers of the second."""
    models = zip((folder_of(case, 0), folder_of(case, 1)), ranges, strict=True)
    pieces = [{"sources": [{"model": str(model), "layer_range": layers}]} for model, layers in models]
    return Recipe.from_dict({"merge_method": "passthrough", "slices": pieces})


@pytest.mark.parametrize("case", _split([c for c, (a, _) in CASES.items() if a.name in _UNLIKE]))
def test_a_layer_in_a_place_where_the_architecture_has_another_is_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=_UNLIKE[CASES[case][0].name]):
        merge(_stack(case, [0, 2], [0, 2]), tmp_path / "out")


@pytest.mark.parametrize("case", _split([c for c, (a, _) in CASES.items() if a.stacks and a.name != "esm"]))
def test_two_and_two_layers_load_without_new_or_unexpected_weights(case: str, tmp_path: Path) -> None:
    architecture, _ = CASES[case]
    merge(_stack(case, [0, 2], [1, 3] if architecture.name in _UNLIKE else [0, 2]), tmp_path / "out")
    with third_parties_warn():
        result, told = architecture.load(tmp_path / "out")
        got = architecture.ask(result)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
    assert got.isfinite().all()


@pytest.mark.parametrize("case", _split([c for c, (_, head) in CASES.items() if head == OTHER]))
def test_a_head_that_the_file_holds_is_the_one_that_counts(case: str) -> None:
    architecture, _ = CASES[case]
    with third_parties_warn():
        own, _ = architecture.load(folder_of(case, 0))
        tied, _ = architecture.load(folder_of(case.replace(OTHER, "tied"), 0))
        assert not torch.equal(architecture.ask(own), architecture.ask(tied))
