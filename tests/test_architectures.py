"""A merge computes what its source computes, and a stack loads whole, for every kind of architecture."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, CASES, FAMILIES, folder_of
from architecturetools import OTHER, third_parties_warn
from safetensors.torch import save_file
from streamtools import weights
from torch import Tensor

from hubmerge import layers
from hubmerge.errors import HubmergeError, PlanError
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

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


# What others of their kind show as well, or what takes long.
_SELDOM = (
    "apertus arcee bitnet biogpt diffllama doge ernie4_5 helium minicpm3 ministral nanochat olmo persimmon "
    "vaultgemma modernbert_decoder gpt_bigcode openai-gpt codegen mpt xglm flex_olmo granitemoe hunyuan_v1_moe "
    "phimoe deepseek_v2 dots1 falcon_mamba qwen3_5_moe qwen3_5 recurrent_gemma kimi_linear big_bird convbert "
    "deberta ernie fnet megatron-bert mobilebert roformer squeezebert xlm-roberta-xl xmod dpr funnel xlnet "
    "bigbird_pegasus blenderbot led longt5 m2m_100 plbart prophetnet umt5 ijepa vit_msn pixio convnextv2 resnet "
    "segformer hiera yolos sew unispeech wav2vec2-conformer data2vec-audio audio-spectrogram-transformer "
    "speech_to_text"
)


def _marks(case: str) -> list[pytest.MarkDecorator]:
    if case in _FAST:
        return []
    name = CASES[case][0].name
    first = next(other for other, (architecture, _) in CASES.items() if architecture.name == name)
    return [pytest.mark.slow if case == first and name not in _SELDOM.split() else pytest.mark.thorough]


def _split(cases: list[str]) -> list[object]:
    return [pytest.param(case, marks=_marks(case)) for case in cases]


def _each_way(cases: list[str]) -> list[object]:
    """Cases with a method: by turns what is copied and what is computed; both ways with --thorough."""
    return [
        pytest.param(case, method, marks=[*_marks(case), *([pytest.mark.thorough] if (number + turn) % 2 else [])])
        for number, case in enumerate(cases)
        for turn, method in enumerate(("passthrough", "linear"))
    ]


def _first_heads() -> list[str]:
    return [case for case, (architecture, head) in CASES.items() if head == architecture.heads[0]]


def test_the_pages_tell_the_families() -> None:
    root = Path(__file__).parent.parent
    page, all_names = (root / "docs" / "checkpoints.md").read_text(encoding="utf-8"), set[str]()
    for kind, architectures in FAMILIES.items():
        names = {one.name.removesuffix("-labels") for one in architectures}
        assert f"| {kind} | {', '.join(sorted(names))} |" in page
        all_names |= names
    promise = " ".join((root / "docs" / "promises.md").read_text(encoding="utf-8").split())
    assert f"computes what the source computes, in {len(all_names)} families of models" in promise
    assert {*_FAST} <= CASES.keys() and {*_SELDOM.split()} <= {one.name for one in ARCHITECTURES}


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


@pytest.mark.parametrize("case", _split([c for c, (a, _) in CASES.items() if a.unlike]))
def test_a_layer_in_a_place_where_the_architecture_has_another_is_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=CASES[case][0].unlike):
        merge(_stack(case, [0, 2], [0, 2]), tmp_path / "out")


@pytest.mark.parametrize("case", _split([c for c, (a, _) in CASES.items() if a.stacks and a.above]))
def test_two_and_two_layers_load_without_new_or_unexpected_weights(case: str, tmp_path: Path) -> None:
    architecture, _ = CASES[case]
    assert architecture.above is not None
    merge(_stack(case, [0, 2], [*architecture.above]), tmp_path / "out")
    with third_parties_warn():
        _, first = architecture.load(folder_of(case, 0))
        result, told = architecture.load(tmp_path / "out")
        got = architecture.ask(result)
    assert set(told["missing_keys"]) <= set(first["missing_keys"])
    assert set(told["unexpected_keys"]) <= set(first["unexpected_keys"])
    assert not told["mismatched_keys"]
    assert got.isfinite().all()


@pytest.mark.parametrize("case", _split([c for c in _first_heads() if not CASES[c][0].stacks]))
def test_what_is_no_single_stack_is_not_stacked(case: str) -> None:
    with pytest.raises(PlanError, match="`slices` needs models with exactly one stack"):
        make_plan(_stack(case, [0, 1], [0, 1])).require()


def _wider(source: Path, out: Path) -> None:
    """A copy in which every tensor, and what the configuration says of them, is twice as wide."""
    tensors = {name: torch.cat([one] * 2, -1) if one.ndim else one for name, one in weights(source).items()}
    _copy(source, out, tensors, "hidden_size|d_model|n_embd|dim|embed_dim", lambda number: 2 * number)


def _deeper(source: Path, out: Path) -> None:
    """A copy in which the last layer of each stack is there twice."""
    tensors, last = weights(source), dict[str, int]()
    parsed = [one for one in map(layers.parse, tensors) if one.layer is not None]
    for one in parsed:
        last[one.prefix] = max(one.layer or 0, last.get(one.prefix, 0))
    more = {one.at_layer(one.layer + 1): one.name for one in parsed if one.layer == last[one.prefix]}
    tensors |= {name: tensors[inner].clone() for name, inner in more.items()}
    _copy(source, out, tensors, "(num_hidden|num|n|encoder|decoder)_layers?", lambda number: number + 1)


def _copy(source: Path, out: Path, tensors: dict[str, Tensor], keys: str, change: Callable[[int], int]) -> None:
    shutil.copytree(source, out)
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config |= {key: change(one) for key, one in config.items() if type(one) is int and re.fullmatch(keys, key)}
    (out / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("case", _split(_first_heads()))
@pytest.mark.parametrize("made", [_wider, _deeper])
def test_another_depth_or_width_is_refused_in_a_sentence(
    case: str, made: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    made(folder_of(case, 0), tmp_path / "other")
    models = [{"model": str(one), "parameters": {"weight": 0.5}} for one in (folder_of(case, 0), tmp_path / "other")]
    plan = make_plan(Recipe.from_dict({"merge_method": "linear", "models": models}))
    if case == "albert" and made is _deeper:  # it has one layer, however often that is used
        plan.require()
        return
    with pytest.raises(HubmergeError) as caught:
        plan.require()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("case", ["llama-untied", "mixtral-untied", *_split(["glm4_moe", "qwen3_next", "bamba"])])
def test_models_of_different_depths_are_merged_in_stages(case: str, tmp_path: Path) -> None:
    architecture, _ = CASES[case]
    merge(_stack(case, [0, 2], [1, 3]), tmp_path / "deep")
    pieces = [{"sources": [{"model": str(folder_of(case, 0)), "layer_range": few}]} for few in ([0, 2], [1, 3])]
    both = [{"model": one, "parameters": {"weight": 0.5}} for one in (str(tmp_path / "deep"), "stage:deep")]
    stages = [{"name": "deep", "merge_method": "passthrough", "slices": pieces}]
    merge(Recipe.from_dict({"stages": stages, "merge_method": "linear", "models": both}), tmp_path / "out")
    with third_parties_warn():
        result, told = architecture.load(tmp_path / "out")
        assert architecture.ask(result).isfinite().all()
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    first, second, found = weights(folder_of(case, 0)), weights(folder_of(case, 1)), weights(tmp_path / "out")
    name = next(one for one in map(layers.parse, first) if one.layer == 1 and one.name.endswith("norm.weight"))
    torch.testing.assert_close(found[name.at_layer(2)], (first[name.name] + second[name.name]) / 2)


@pytest.mark.parametrize("case", _split([c for c, (_, head) in CASES.items() if head == OTHER]))
def test_a_head_that_the_file_holds_is_the_one_that_counts(case: str) -> None:
    architecture, _ = CASES[case]
    with third_parties_warn():
        own, _ = architecture.load(folder_of(case, 0))
        tied, _ = architecture.load(folder_of(case.replace(OTHER, "tied"), 0))
        assert not torch.equal(architecture.ask(own), architecture.ask(tied))
