"""Every family that sees or hears: its language model is merged with a plain one, and transformers reads the result."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from streamtools import naive, weights
from vlms import FAMILIES, WORDS, loaded, make_plain, make_whole, spoken

from hubmerge.errors import RecipeError
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify

WEIGHTS = {"parameters": {"weight": 0.7, "density": 0.5}}
CASES = {
    "tied": (True, True, "linear", False),
    "untied": (False, False, "ties", True),
    "only the plain one is tied": (False, True, "ties", False),
    "only the whole one is tied": (True, False, "linear", True),
}
"""Whether the whole and the plain ones tie their heads, the method, and whether the file has the newer names."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_language_model_is_merged_with_a_plain_one(family: str, case: str, tmp_path: Path) -> None:
    whole_tied, plain_tied, method, newer = CASES[case]
    whole = make_whole(family, tmp_path / "whole", 1, whole_tied, newer)
    base, expert = (make_plain(family, tmp_path / name, seed, plain_tied) for name, seed in (("base", 2), ("ja", 3)))
    models = [{"model": f"{whole}#language_model", "parameters": {"weight": 0.7}}]
    models += [{"model": str(expert), "parameters": {"weight": 0.4}}]
    document = {"merge_method": method, "models": models}
    if method == "ties":
        document |= {"base_model": str(base), "parameters": {"density": 0.6}}
    plan = make_plan(Recipe.from_dict(document))
    differ = [told.message for told in plan.warnings if " differ: " in told.message]
    assert all("use_bidirectional_attention" in one for one in differ) and bool(differ) == (family == "paligemma"), (
        differ
    )
    merge(plan, tmp_path / "out")

    before, found = weights(whole), weights(tmp_path / "out")
    model, by_hand = loaded(family, tmp_path / "out"), loaded(family, whole)
    first, second, start = spoken(by_hand), *(spoken(loaded(family, one, plain=True)) for one in (expert, base))
    if whole_tied and not plain_tied:
        by_hand.get_output_embeddings().weight = torch.nn.Parameter(first["lm_head.weight"].clone())
        first = spoken(by_hand)
    with torch.no_grad():
        for name, tensor in first.items():
            if name == "lm_head.weight" and tensor is first["model.embed_tokens.weight"]:
                continue
            # What only the whole one has stands for all: rows of the tokens of pictures.
            rest = tensor[len(second[name]) :]
            ours, theirs = [tensor, torch.cat([second[name], rest])], torch.cat([start[name], rest])
            if method == "linear":
                own = naive("linear", name, ours, theirs, weight=(0.7, 0.4))
            else:
                own = naive("ties", name, ours, theirs, weight=(0.7, 0.4), density=(0.6, 0.6))
            tensor[: len(second[name])] = own[: len(second[name])].to(tensor.dtype)
    result = spoken(model)
    assert result.keys() == first.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(
            result[name], tensor, atol=2e-6, rtol=1e-5, msg=lambda told, name=name: f"{name}: {told}"
        )
        if len(tensor) > len(second[name]):
            assert torch.equal(result[name][WORDS:], tensor[WORDS:]), f"rows of pictures in {name}"
    spoken_by = {id(tensor) for tensor in spoken(model).values()}
    eyes = [name for name, tensor in model.named_parameters() if id(tensor) not in spoken_by]
    carried = [
        name for name in before if any(part in name for part in ("vis", "audio", "projector", "connector", "newline"))
    ]
    assert len(carried) == len(eyes) > 10
    assert all(torch.equal(found[name], before[name]) for name in carried)
    with torch.no_grad():
        question = FAMILIES[family].question
        torch.testing.assert_close(model(**question).logits, by_hand(**question).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "method", ["linear", "slerp", "task_arithmetic", "dare_ties", "nearswap", "karcher", "arcee_fusion"]
)
def test_what_no_other_knows_comes_byte_for_byte(method: str, tmp_path: Path) -> None:
    """Rows of the tokens of pictures, whatever a method makes of numbers that are equal in all."""
    whole, base, expert = _three("llava", tmp_path)
    models = [{"model": f"{whole}#language_model", "parameters": {"weight": 0.7}}, {"model": str(expert)}]
    document = {"merge_method": method, "models": models, "base_model": str(base), "parameters": {"weight": 0.4}}
    if method == "linear":
        document |= {"base_model": None, "parameters": {"weight": 0.4, "normalize": False}}
    elif method == "karcher":
        document |= {"base_model": None, "parameters": {}}
    elif method in ("slerp", "nearswap", "arcee_fusion"):
        document |= {"models": models[1:], "base_model": models[0]["model"], "parameters": {"t": 0.3}}
    if method in ("karcher", "arcee_fusion", "slerp", "nearswap"):
        document["models"] = [{"model": one["model"]} for one in document["models"]]
    if method == "arcee_fusion":
        document["parameters"] = {}
    document = {key: value for key, value in document.items() if value is not None}
    merge(Recipe.from_dict(document), tmp_path / "out")
    found, before, plain = (weights(folder) for folder in (tmp_path / "out", whole, expert))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        result, own = found[f"language_model.{name}"], before[f"language_model.{name}"]
        assert torch.equal(result[WORDS:], own[WORDS:])
        assert not torch.equal(result[:WORDS], own[:WORDS]) and not torch.equal(result[:WORDS], plain[name])
    verify(ModelRef(str(tmp_path / "out")), recompute=True).require()


def test_by_range_from_the_hub_the_bytes_are_the_same(hub, tmp_path: Path) -> None:
    """Rows of two models, of which one is a merge, fetched ahead by several threads."""
    from hubmerge.hub import push_folder

    names = [f"alice/families-{name}" for name in ("whole", "base", "ja")]
    for name, folder in zip(names, _three("llava", tmp_path), strict=True):
        push_folder(folder, name, message="Upload", private=False)
    models = [{"model": f"{names[0]}#language_model", "parameters": {"weight": 0.7}}, {"model": names[2]}]
    document = {"merge_method": "ties", "base_model": names[1], "models": models}
    recipe = Recipe.from_dict({**document, "parameters": {"weight": 0.4, "density": 0.5}})
    ranged = merge(make_plan(recipe, ranged=True, threads=3, shard_size=20_000), tmp_path / "ranged")
    assert ranged.tensors == merge(make_plan(recipe, threads=1), tmp_path / "here").tensors


@pytest.mark.parametrize("family", ["llava", "smolvlm"])
def test_what_a_stage_makes_goes_on_as_a_part(family: str, tmp_path: Path) -> None:
    """Of two that see, merged whole or by the language model: the same as if that had been written."""
    whole, base, expert = _three(family, tmp_path)
    other = make_whole(family, tmp_path / "other", 4, newer=True)
    firsts = {
        "whole": {"merge_method": "slerp", "base_model": str(whole), "models": [{"model": str(other)}]},
        "part": {
            "merge_method": "ties",
            "base_model": str(base),
            "models": [{"model": f"{whole}#language_model"}, {"model": f"{other}#language_model"}],
        },
    }
    for name, first in firsts.items():
        document = {**first, "parameters": {"t": 0.4} if name == "whole" else {"density": 0.5}}

        def second(model: str) -> dict[str, Any]:
            return {"merge_method": "dare_ties", "base_model": model, "models": [{"model": str(expert)}], **WEIGHTS}

        merge(Recipe.from_dict(document), tmp_path / f"{name}-first")
        merge(Recipe.from_dict(second(f"{tmp_path / name}-first#language_model")), tmp_path / f"{name}-expected")
        staged = Recipe.from_dict({"stages": [{"name": "v", **document}], **second("stage:v#language_model")})
        assert Recipe.from_yaml(staged.to_yaml()) == staged and "stage:v#language_model" in staged.to_yaml()
        plan = make_plan(staged)
        assert plan.compute_seconds > 0
        merge(plan, tmp_path / f"{name}-found")
        verify(ModelRef(str(tmp_path / f"{name}-found")), recompute=True).require()
        found, expected = (weights(tmp_path / f"{name}-{one}") for one in ("found", "expected"))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[one], tensor) for one, tensor in expected.items())
        loaded(family, tmp_path / f"{name}-found")
        wrong = {**document, "stages": [{"name": "v", **document}], **second("stage:v#vision_towel")}
        with pytest.raises(RecipeError, match="stage:v has no part called vision_towel; it has: language_model"):
            make_plan(Recipe.from_dict(wrong))


def _three(family: str, folder: Path) -> tuple[Path, Path, Path]:
    """A model that sees, a plain base and a plain expert of its shapes."""
    whole = make_whole(family, folder / "whole", 1)
    return whole, make_plain(family, folder / "base", 2), make_plain(family, folder / "ja", 3)


@pytest.mark.parametrize("newer", [False, True], ids=["older names", "newer names"])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "smolvlm"])
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft's
def test_a_lora_of_the_whole_on_its_language_model(family: str, newer: bool, tmp_path: Path) -> None:
    """peft calls the modules as they are called in memory, whatever the file does."""
    peft = pytest.importorskip("peft")
    whole = make_whole(family, tmp_path / "whole", 1, newer=newer)
    expert = make_plain(family, tmp_path / "ja", 3)
    torch.manual_seed(5)
    targets = r".*(language_model|text_model)\.layers.*\.(q_proj|down_proj)"
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=targets, init_lora_weights=False)
    adapted = peft.get_peft_model(loaded(family, whole), config)
    adapted.save_pretrained(tmp_path / "lora")
    expected = {name: tensor.clone() for name, tensor in spoken(adapted.merge_and_unload()).items()}
    second = spoken(loaded(family, expert, plain=True))
    before = spoken(loaded(family, whole))
    assert sum(not torch.equal(expected[name], tensor) for name, tensor in before.items()) == 4
    entries = [{"model": f"{whole}#language_model+{tmp_path / 'lora'}"}, {"model": str(expert)}]
    modules = {"text_decoder": {"models": [{"model": f"{whole}+{tmp_path / 'lora'}"}, entries[1]]}}
    for name, more in (("part", {"models": entries}), ("modules", {"modules": modules})):
        merge(Recipe.from_dict({"merge_method": "linear", **more}), tmp_path / name)
        for key, tensor in spoken(loaded(family, tmp_path / name)).items():
            rows = len(second[key])
            torch.testing.assert_close(tensor[:rows], (expected[key][:rows] + second[key]) / 2, atol=1e-6, rtol=1e-5)


def test_older_files_leave_out_what_is_usual(tmp_path: Path) -> None:
    """The language model's settings beside those of the eyes; or not the number of layers, where it is the class's."""
    flat = make_whole("qwen2_vl", tmp_path / "flat", 1)
    config = json.loads((flat / "config.json").read_text())
    text = config.pop("text_config")
    (flat / "config.json").write_text(json.dumps({**text, **config, "model_type": "qwen2_vl"}))
    plain = make_plain("qwen2_vl", tmp_path / "plain", 2)
    short = make_whole("llava", tmp_path / "short", 1, num_hidden_layers=32)
    config = json.loads((short / "config.json").read_text())
    del config["text_config"]["num_hidden_layers"]
    (short / "config.json").write_text(json.dumps(config))
    for family, whole, stacks in (
        ("qwen2_vl", flat, [(f"{flat}#language_model", [0, 2]), (str(plain), [1, 2])]),
        ("llava", short, [(f"{short}#language_model", [0, 32]), (f"{short}#language_model", [30, 32])]),
    ):
        out = tmp_path / f"{family}-stacked"
        slices = [{"sources": [{"model": name, "layer_range": layers}]} for name, layers in stacks]
        merge(Recipe.from_dict({"merge_method": "passthrough", "slices": slices}), out)
        depth = sum(stop - start for _, (start, stop) in stacks)
        assert loaded(family, out).config.get_text_config().num_hidden_layers == depth
        found, before = weights(out), weights(whole)
        assert all(torch.equal(found[name], before[name]) for name in before if "vis" in name)
    models = [{"model": f"{flat}#language_model"}, {"model": str(plain)}]
    merge(Recipe.from_dict({"merge_method": "linear", "models": models}), tmp_path / "flat-merged")
    question = FAMILIES["qwen2_vl"].question
    with torch.no_grad():
        assert torch.isfinite(loaded("qwen2_vl", tmp_path / "flat-merged")(**question).logits).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_is_read_as_the_plain_one_reads_it(family: str, tmp_path: Path) -> None:
    """Kinds that are merged compute alike: with the plain one's weights, it says the same of a text."""
    whole, plain = make_whole(family, tmp_path / "whole", 1), make_plain(family, tmp_path / "plain", 2)
    models = [{"model": f"{whole}#language_model", "parameters": {"weight": 0.0}}, {"model": str(plain)}]
    merge(Recipe.from_dict({"merge_method": "linear", "models": models, "parameters": {"weight": 1}}), tmp_path / "out")
    text = torch.tensor([[1, 5, 9, 14, 6, 21]])
    kinds = {"token_type_ids": torch.ones_like(text)} if family == "paligemma" else {}
    with torch.no_grad():
        expected = loaded(family, plain, plain=True)(text).logits
        found = loaded(family, tmp_path / "out")(text, **kinds).logits[:, :, :WORDS]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_two_that_see_are_merged_whole_with_a_word_of_warning(tmp_path: Path) -> None:
    """All of both, and transformers reads it; the plan says that the eyes are merged as well."""
    for family in FAMILIES:
        one, other = (make_whole(family, tmp_path / f"{family}-{seed}", seed, newer=seed == 2) for seed in (1, 2))
        plan = make_plan(
            Recipe.from_dict({"merge_method": "linear", "models": [{"model": str(m)} for m in (one, other)]})
        )
        assert any("are merged whole" in told.message and "#language_model" in told.message for told in plan.warnings)
        merge(plan, tmp_path / f"{family}-out")
        first, second, found = (
            dict(loaded(family, folder).named_parameters()) for folder in (one, other, tmp_path / f"{family}-out")
        )
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, msg=f"{family}: {name}")
