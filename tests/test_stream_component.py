"""The language model inside one that sees: merged with a plain one, and all else carried byte for byte."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from streamtools import weights

from hubmerge.errors import PlanError, RecipeError, SourceError
from hubmerge.evaluate.models import load_model
from hubmerge.hub import open_source
from hubmerge.hub.card import render
from hubmerge.publish import card_of
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def plain(tiny_llama, tmp_path_factory) -> dict[str, Path]:
    """A base and a Japanese expert, without pictures."""
    root = tmp_path_factory.mktemp("plain")
    base = tiny_llama(root / "base", seed=1, tie_word_embeddings=False)
    return {"base": base, "ja": tiny_llama(root / "ja", seed=2, sibling_of=base, tie_word_embeddings=False)}


def seeing(folder: Path, plain: Path, seed: int, dtype: str = "float32") -> Path:
    """A LLaVA over a copy of a plain model that was tuned a little."""
    from transformers import AutoTokenizer, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(plain)
    torch.manual_seed(seed)
    vision = {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8, "projection_dim": 8}
    config = LlavaConfig(
        text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT),
        vision_config=CLIPVisionConfig(hidden_size=16, intermediate_size=32, **vision),
        image_token_index=len(tokenizer) - 1,
    )
    model = LlavaForConditionalGeneration(config).to(getattr(torch, dtype))
    state = {name: tensor + 0.02 * torch.randn_like(tensor) for name, tensor in weights(plain).items()}
    model.model.language_model.load_state_dict(
        {name.removeprefix("model."): tensor for name, tensor in state.items() if name != "lm_head.weight"}
    )
    model.lm_head.load_state_dict({"weight": state["lm_head.weight"]})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "CLIPImageProcessor"}')
    return folder


@pytest.fixture(scope="module")
def vlm(plain, tmp_path_factory) -> Path:
    return seeing(tmp_path_factory.mktemp("vlm") / "vlm", plain["base"], 3)


def language_model(vlm: Path, plain: Path, out: Path) -> Path:
    """The language model alone, as transformers would store it."""
    out.mkdir()
    own = {n.removeprefix("language_model."): t for n, t in weights(vlm).items() if n.startswith("language_model.")}
    save_file(own, out / "model.safetensors", {"format": "pt"})
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes((plain / name).read_bytes())
    return out


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "dare_ties", "slerp"])
def test_only_the_language_model_is_merged(vlm, plain, method: str, tmp_path: Path) -> None:
    def recipe(seeing: str) -> Recipe:
        models = [{"model": seeing}, {"model": str(plain["ja"])}]
        document = {"merge_method": method, "models": models, "base_model": str(plain["base"])}
        if method == "slerp":
            document |= {"models": models[1:], "base_model": seeing, "parameters": {"t": 0.3}}
        elif method == "linear":
            del document["base_model"]
        else:
            models[0]["parameters"] = {"weight": [0.2, 0.7, 0.9]}
        return Recipe.from_dict(document)

    merge(recipe(f"{vlm}#language_model"), tmp_path / "out")
    merge(recipe(str(language_model(vlm, plain["ja"], tmp_path / "alone"))), tmp_path / "expected")
    found, before = weights(tmp_path / "out"), weights(vlm)
    assert found.keys() == before.keys()
    merged = {f"language_model.{name}": tensor for name, tensor in weights(tmp_path / "expected").items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in merged.items())
    carried = found.keys() - merged.keys()
    assert len(carried) > 20 and all(torch.equal(found[name], before[name]) for name in carried)
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == json.loads((vlm / "config.json").read_text())
    assert (tmp_path / "out" / "preprocessor_config.json").read_bytes() == (
        vlm / "preprocessor_config.json"
    ).read_bytes()


def test_the_result_sees(vlm, plain, tmp_path: Path) -> None:
    """transformers loads all of it, and it answers as the merged weights do."""
    from transformers import LlavaForConditionalGeneration

    document = {"merge_method": "linear", "models": [{"model": f"{vlm}#language_model"}, {"model": str(plain["ja"])}]}
    merge(Recipe.from_dict({**document, "out_dtype": "bfloat16"}), tmp_path / "out", shard_size=20_000)
    model, report = LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "out", output_loading_info=True, dtype="auto"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    state = load_file(vlm / "model.safetensors")
    [name] = [name for name in state if name.endswith("patch_embedding.weight")]
    assert weights(tmp_path / "out")[name].dtype == torch.float32, "what is carried keeps its own"
    pictures = torch.randn(1, 3, 16, 16, dtype=model.dtype)
    tokens = torch.tensor([[1, *[model.config.image_token_index] * 4, 2]])
    assert torch.isfinite(model(input_ids=tokens, pixel_values=pictures).logits).all()


def test_layers_of_the_language_model_are_stacked(vlm, plain, tmp_path: Path) -> None:
    from transformers import LlavaForConditionalGeneration

    pieces = [(f"{vlm}#language_model", [0, 3]), (str(plain["ja"]), [1, 3])]
    slices = [{"sources": [{"model": name, "layer_range": layers}]} for name, layers in pieces]
    merge(Recipe.from_dict({"merge_method": "passthrough", "slices": slices}), tmp_path / "out")
    model, report = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.text_config.num_hidden_layers == 5


def test_a_part_is_pinned_shown_and_named_in_the_card(vlm, plain, hub, tmp_path: Path) -> None:
    from hubmerge.hub import push_folder

    push_folder(vlm, "alice/seeing", message="Upload", private=False)
    recipe = Recipe.from_dict(
        {
            "merge_method": "linear",
            "models": [{"model": "alice/seeing#language_model"}, {"model": str(plain["ja"])}],
        }
    )
    plan = make_plan(recipe, ranged=True)
    plan.require()
    commit = plan.sources[0].commit
    assert str(plan.recipe.models[0].model) == f"alice/seeing@{commit}#language_model"
    assert Recipe.from_dict(plan.recipe.to_dict()) == plan.recipe
    card = render(card_of(plan))
    assert "- alice/seeing\n" in card and f"alice/seeing@{commit}#language_model" in card
    assert "pipeline_tag: image-text-to-text\n" in card and "AutoModelForImageTextToText" in card
    assert "Only the language model was merged; all else is that of [alice/seeing" in card
    assert merge(plan, tmp_path / "ranged").tensors == merge(make_plan(recipe), tmp_path / "whole").tensors


def test_what_has_no_such_part_says_so(vlm, plain, tiny_llama, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no part called language_model"):
        open_source(ModelRef.parse(f"{plain['ja']}#language_model"))
    with pytest.raises(SourceError, match=r"has no part called vision_towel; it has: .*did you mean vision_tower"):
        open_source(ModelRef.parse(f"{vlm}#vision_towel"))
    with pytest.raises(SourceError, match="is a part of a model"):
        load_model(f"{vlm}#language_model")
    with pytest.raises(RecipeError, match="is no LoRA"):
        ModelRef.parse("org/model+org/lora#language_model")
    other = tiny_llama(tmp_path / "other", hidden_size=32, tie_word_embeddings=False)
    models = [{"model": f"{vlm}#language_model"}, {"model": str(other)}]
    with pytest.raises(PlanError, match="do not fit together"):
        make_plan(Recipe.from_dict({"merge_method": "linear", "models": models})).require()


def test_two_that_see_give_their_language_models(vlm, plain, tmp_path: Path) -> None:
    """The first named is the one that is carried."""
    other = seeing(tmp_path / "other", plain["base"], 5)
    models = [{"model": f"{folder}#language_model"} for folder in (other, vlm)]
    merge(Recipe.from_dict({"merge_method": "linear", "models": models}), tmp_path / "out")
    found, first, second = weights(tmp_path / "out"), weights(other), weights(vlm)
    for name, tensor in found.items():
        if name.startswith("language_model."):
            assert not torch.equal(tensor, first[name]) and not torch.equal(tensor, second[name])
        else:
            assert torch.equal(tensor, first[name])


def test_whose_eyes_the_result_has_is_told(vlm, plain, tmp_path: Path) -> None:
    """The tensors say it, too: a base gives more than its configuration."""
    other, base = (seeing(tmp_path / name, plain["base"], seed) for name, seed in (("other", 5), ("base", 6)))
    models = [{"model": f"{folder}#language_model"} for folder in (other, vlm)]
    recipe = {"merge_method": "linear", "models": models}

    def told(**more: object) -> str:
        return "\n".join(one.message for one in make_plan(Recipe.from_dict({**recipe, **more})).warnings)

    parts = "multi_modal_projector, vision_tower of the result are those of"
    assert f"{parts} {other}, not of {vlm}; " in told()
    said = told(base_model=f"{base}#language_model")
    assert f"{parts} {base}, not of {other}, {vlm}; " in said
    assert "the base_model, gives configuration, tokenizer and all that is beside its language_model: linear" in said
    merge(Recipe.from_dict({**recipe, "base_model": f"{base}#language_model"}), tmp_path / "out")
    found, eyes = weights(tmp_path / "out"), weights(base)
    assert all(torch.equal(found[name], eyes[name]) for name in eyes if not name.startswith("language_model."))
    assert "of the result" not in told(models=[models[0], {"model": str(plain["ja"])}])
    gives = told(base_model=str(plain["base"]))
    assert "the base_model, gives configuration and tokenizer alone" in gives or "is merged too" in gives


def test_a_tower_that_is_not_what_its_config_says_is_refused(vlm, plain, tmp_path: Path) -> None:
    """The result could not be loaded, whatever of it is merged."""
    broken = shutil.copytree(vlm, tmp_path / "broken")
    state = load_file(vlm / "model.safetensors")
    [name] = [name for name in state if name.endswith("position_embedding.weight")]
    save_file({**state, name: torch.zeros(99, 16)}, broken / "model.safetensors", {"format": "pt"})
    told = rf"{name} of .*broken is \[99, 16\], and by its own config.json \[5, 16\]"
    for models in ([f"{broken}#language_model", plain["ja"]], [broken, shutil.copytree(broken, tmp_path / "again")]):
        recipe = Recipe.from_dict({"merge_method": "linear", "models": [{"model": str(one)} for one in models]})
        with pytest.raises(PlanError, match=told):
            make_plan(recipe).require()
    make_plan(
        Recipe.from_dict({"merge_method": "linear", "models": [f"{vlm}#language_model", str(plain["ja"])]})
    ).require()


def test_whole_models_that_read_pictures_differently_are_told(vlm, plain, tmp_path: Path) -> None:
    """In whichever of the two files each says it; for their language models alone it makes no difference."""
    other = seeing(tmp_path / "other", plain["base"], 5)
    kind = {"image_processor_type": "CLIPImageProcessorFast", "image_mean": [0.5, 0.5, 0.5], "resample": 3}
    older, newer = {**kind, "size": {"shortest_edge": 56}}, {**kind, "size": {"shortest_edge": 28}}
    (other / "preprocessor_config.json").write_text(json.dumps(older))
    first = shutil.copytree(vlm, tmp_path / "first")

    def told(part: str = "") -> str:
        models = [{"model": f"{folder}{part}"} for folder in (first, other)]
        found = make_plan(Recipe.from_dict({"merge_method": "linear", "models": models})).warnings
        return "\n".join(one.message for one in found)

    for document in ({"image_processor": newer, "patch_size": 8}, newer):
        name = "processor_config.json" if "patch_size" in document else "preprocessor_config.json"
        (first / "processor_config.json").unlink(missing_ok=True)
        (first / name).write_text(json.dumps(document))
        assert "read pictures differently: size.shortest_edge is 56 and 28; the result does as the latter" in told()
        assert "read pictures" not in told("#language_model")
    (other / "preprocessor_config.json").write_text(json.dumps({**newer, "image_processor_type": "CLIPImageProcessor"}))
    assert "read pictures" not in told()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft's
def test_a_lora_goes_on_top_of_the_part(vlm, plain, tmp_path: Path) -> None:
    adapter, _ = pytest.importorskip("test_stream_adapted").lora(plain["base"], tmp_path / "lora")
    alone = language_model(vlm, plain["ja"], tmp_path / "alone")

    def merged(seeing: str, out: Path) -> dict[str, torch.Tensor]:
        models = [{"model": f"{seeing}+{adapter}"}, {"model": str(plain["ja"])}]
        merge(Recipe.from_dict({"merge_method": "linear", "models": models}), out)
        return weights(out)

    found, expected = merged(f"{vlm}#language_model", tmp_path / "out"), merged(str(alone), tmp_path / "expected")
    assert all(torch.equal(found[f"language_model.{name}"], tensor) for name, tensor in expected.items())
