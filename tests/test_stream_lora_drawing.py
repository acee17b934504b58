"""LoRAs of pipelines, by the names of diffusers, peft and kohya's trainer: added as weights are read, as diffusers adds
them."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from streamtools import weights
from torch import Tensor

from hubmerge.errors import SourceError
from hubmerge.hub.first_names import first_names, joined_names
from hubmerge.hub.source import open_source
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify

diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")

from diffusers.loaders import lora_conversion_utils  # noqa: E402
from pipelines import built, original, save  # noqa: E402

FILE = "pytorch_lora_weights.safetensors"
TARGETS = {
    "unet": ["to_q", "to_out.0", "conv1", "proj_in", "ff.net.2", "conv", "time_emb_proj"],
    "transformer": ["to_q", "to_out.0", "ff.net.2", "proj_mlp"],
    "text_encoder": ["q_proj", "out_proj", "fc1"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("loras")
    for kind in ("sd15", "sdxl", "flux"):
        save(kind, root / kind, 1)
        lora(kind, root / f"{kind}-lora")
    return root


def lora(kind: str, folder: Path) -> None:
    """A LoRA with random factors as diffusers saves it, with its settings in the metadata."""
    pipeline, held, told = built(kind), {}, {}
    parts = [part for part in (*TARGETS, "text_encoder_2") if getattr(pipeline, part, None) is not None]
    for seed, part in enumerate(parts if kind != "flux" else ["transformer"]):
        config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS[part.removesuffix("_2")])
        model = peft.inject_adapter_in_model(config, deepcopy(getattr(pipeline, part)), "made")
        state = peft.get_peft_model_state_dict(model, adapter_name="made")
        generator = torch.Generator().manual_seed(seed)
        held[part] = {name: torch.randn(tensor.shape, generator=generator) * 0.3 for name, tensor in state.items()}
        told[part] = config.to_dict()
    named = {f"{part}_lora_layers": state for part, state in held.items()}
    more = {f"{part}_lora_adapter_metadata": config for part, config in told.items()}
    type(pipeline).save_lora_weights(folder, **named, **more)


def by_diffusers(pipeline: Path, file: Path) -> dict[str, Tensor]:
    """All weights, after diffusers has added the LoRA to them."""
    loaded = diffusers.DiffusionPipeline.from_pretrained(pipeline)
    with pytest.MonkeyPatch.context() as patch:
        # transformers wants a peft that is not released, for other things than this.
        patch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "0.17.0")
        loaded.load_lora_weights(file)
    loaded.fuse_lora(components=[part for part in loaded._lora_loadable_modules if getattr(loaded, part, None)])
    loaded.unload_lora_weights()
    return {
        f"{part}/{name}": tensor
        for part, module in loaded.components.items()
        if isinstance(module, torch.nn.Module)
        for name, tensor in module.state_dict().items()
    }


def by_hubmerge(model: str, out: Path) -> dict[str, Tensor]:
    plan = make_plan(Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": model}]}))
    plan.require()
    merge(plan, out)
    return {
        f"{path.name}/{name}": one for path in out.iterdir() if path.is_dir() for name, one in weights(path).items()
    }


def assert_alike(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], plain: Path) -> None:
    changed = 0
    before = {
        f"{path.name}/{name}": one for path in plain.iterdir() if path.is_dir() for name, one in weights(path).items()
    }
    for name, tensor in found.items():
        torch.testing.assert_close(
            tensor, expected[name], atol=1e-6, rtol=0, msg=lambda told, name=name: f"{name}: {told}"
        )
        changed += not torch.allclose(tensor, before[name], atol=1e-3)
    assert changed > 8


def kohya_name(kind: str, part: str, module: str) -> str:
    """What kohya's trainer calls a module: of SDXL's UNet by its first authors' blocks."""
    short = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}[part]
    if kind == "sdxl" and part == "unet":
        module = original(f"{module}.weight").removeprefix("model.diffusion_model.").removesuffix(".weight")
    return (short if kind == "sdxl" else short.replace("te1", "te")) + module.replace(".", "_")


def kohya(kind: str, folder: Path, out: Path, alpha: Callable[[str], float]) -> Path:
    """The same factors by the names of kohya's trainer, with an alpha beside each."""
    made = {}
    for key, tensor in load_file(folder / FILE).items():
        part, _, rest = key.partition(".")
        module, _, side = rest.removesuffix(".weight").rpartition(".")
        name = kohya_name(kind, part, module)
        made[f"{name}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = tensor
        made[f"{name}.alpha"] = torch.tensor(alpha(name))
    save_file(made, out / "kohya.safetensors")
    return out / "kohya.safetensors"


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "flux"])
def test_of_diffusers(kind: str, made: Path, tmp_path: Path) -> None:
    model = f"{made / kind}+{made}/{kind}-lora"
    assert_alike(by_hubmerge(model, tmp_path / "out"), by_diffusers(made / kind, made / f"{kind}-lora"), made / kind)
    verify(ModelRef(str(tmp_path / "out")), recompute=True).require()


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_of_kohya(kind: str, made: Path, tmp_path: Path) -> None:
    """As diffusers adds it where all alphas are one; it takes no notice of others, and then as kohya's trainer does."""
    file = kohya(kind, made / f"{kind}-lora", tmp_path, lambda name: 2.0)
    found = by_hubmerge(f"{made / kind}+{file}", tmp_path / "out")
    assert_alike(found, by_diffusers(made / kind, file), made / kind)

    def alpha(name: str) -> float:
        return 1.0 + sum(map(ord, name)) % 5

    kohya(kind, made / f"{kind}-lora", tmp_path, alpha)
    found = by_hubmerge(f"{made / kind}+{file}", tmp_path / "each")
    factors, before = load_file(made / f"{kind}-lora" / FILE), weights(made / kind / "unet")
    modules = [key.removesuffix(".lora_A.weight") for key in factors if key.startswith("unet.") and ".lora_A." in key]
    for module in modules:
        a, b = factors[f"{module}.lora_A.weight"], factors[f"{module}.lora_B.weight"]
        name = module.removeprefix("unet.")
        plain = before[f"{name}.weight"]
        added = (b.flatten(1) @ a.flatten(1)).view(plain.shape) * alpha(kohya_name(kind, "unet", name)) / a.shape[0]
        torch.testing.assert_close(found[f"unet/{name}.weight"], plain + added, atol=1e-6, rtol=1e-6)
    assert len(modules) > 8
    kohya(kind, made / f"{kind}-lora", tmp_path, lambda name: 0.0)
    with pytest.raises(SourceError, match=r"alpha of .* is 0, so it adds nothing"):
        by_hubmerge(f"{made / kind}+{file}", tmp_path / "none")


def kohya_of_flux(out: Path) -> dict[str, Tensor]:
    """A LoRA on every module of FLUX's transformer as kohya's trainer saves it."""
    stored, generator = built("flux").transformer.state_dict(), torch.Generator().manual_seed(7)
    shapes = {name.removesuffix(".weight"): one.shape for name, one in stored.items() if one.ndim == 2}
    joined = joined_names(shapes)
    assert {one for ours in joined.values() for one in ours} == shapes.keys()
    wanted = {
        f"lora_unet_{first.replace('.', '_')}": (sum(shapes[one][0] for one in ours), shapes[ours[0]][1])
        for first, ours in joined.items()
    }
    state = {}
    for number, (name, (rows, columns)) in enumerate(wanted.items()):
        state[f"{name}.lora_down.weight"] = torch.randn(3, columns, generator=generator) * 0.3
        state[f"{name}.lora_up.weight"] = torch.randn(rows, 3, generator=generator) * 0.3
        # Of its last layer diffusers takes no notice of alphas.
        state[f"{name}.alpha"] = torch.tensor(3.0 if "final_layer" in name else 1.0 + number % 5)
    save_file(state, out)
    return state


def test_of_kohya_on_flux(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is one module to kohya's trainer is up to four in diffusers, whose own reading is the measure."""
    code = getsource(lora_conversion_utils._convert_kohya_flux_lora_to_diffusers)
    # It knows the widths of FLUX.1 alone.
    here = code.replace("[3072, 3072, 3072, 12288]", "[16, 16, 16, 64]")
    assert here != code
    space = dict(vars(lora_conversion_utils))
    exec(here, space)
    name = "_convert_kohya_flux_lora_to_diffusers"

    def whole(state: dict[str, Tensor]) -> dict[str, Tensor]:
        # What lies outside the blocks it names without its part, and then drops.
        return {f"transformer.{key.removeprefix('transformer.')}": one for key, one in space[name](state).items()}

    monkeypatch.setattr(f"diffusers.loaders.lora_pipeline.{name}", whole)
    file, flux = tmp_path / "kohya.safetensors", made / "flux"
    state = kohya_of_flux(file)
    found = by_hubmerge(f"{flux}+{file}", tmp_path / "out")
    assert_alike(found, by_diffusers(flux, file), flux)
    verify(ModelRef(str(tmp_path / "out")), recompute=True).require()
    # Text encoders, of which diffusers refuses the first and drops T5: to the trainer the third, of FLUX the second.
    places = {
        "te1_text_model_encoder_layers_0_self_attn_q_proj": "text_encoder/text_model.encoder.layers.0.self_attn.q_proj",
        "te3_encoder_block_0_layer_0_SelfAttention_o": "text_encoder_2/encoder.block.0.layer.0.SelfAttention.o",
    }
    factors = {"down": torch.ones(3, 16), "up": torch.ones(16, 3)}
    texts = {f"lora_{name}.lora_{side}.weight": one.clone() for name in places for side, one in factors.items()}
    save_file(texts, file)
    added = by_hubmerge(f"{flux}+{file}", tmp_path / "texts")
    for place in places.values():
        part, _, name = f"{place}.weight".partition("/")
        ours = weights(flux / part)
        key = name if name in ours else name.removeprefix("text_model.")
        torch.testing.assert_close(added[f"{part}/{key}"], ours[key] + 3)
    up = "lora_unet_double_blocks_1_img_attn_qkv.lora_up.weight"
    save_file({**state, up: state[up][:-1].contiguous()}, file)
    with pytest.raises(SourceError, match=r"double_blocks_1_img_attn_qkv of 47 rows, which has 16 \+ 16 \+ 16 there"):
        open_source(f"{flux}+{file}")


def test_in_a_recipe_with_components_and_of_one_part(made: Path, tmp_path: Path) -> None:
    """The part alone that is merged, with a weight; what the LoRA changes beside it is told."""
    a, file = made / "sd15", made / "sd15-lora"
    document: dict[str, Any] = {
        "merge_method": "task_arithmetic",
        "base_model": str(a),
        "components": {"unet": {"models": [{"model": f"{a}+{file}", "parameters": {"weight": 0.5}}]}},
    }
    merge(Recipe.from_dict(document), tmp_path / "whole")
    part = {
        **document,
        "base_model": f"{a}#unet",
        "models": [{"model": f"{a}#unet+{file}", "parameters": {"weight": 0.5}}],
    }
    del part["components"]
    plan = make_plan(Recipe.from_dict(part))
    assert any("also changes text_encoder" in one.message for one in plan.warnings)
    merge(plan, tmp_path / "part")
    fused = by_diffusers(a, file)
    for folder in ("whole", "part"):
        for name, tensor in weights(tmp_path / folder / "unet").items():
            half = torch.lerp(weights(a / "unet")[name], fused[f"unet/{name}"], 0.5)
            torch.testing.assert_close(tensor, half, atol=1e-6, rtol=0)
        assert (tmp_path / folder / "text_encoder" / "model.safetensors").read_bytes() == (
            a / "text_encoder" / "model.safetensors"
        ).read_bytes()


def test_an_adapter_of_peft_on_one_part(made: Path, tmp_path: Path) -> None:
    """With adapter_config.json, and convolutions among its modules."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(made / "sd15" / "unet")
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=TARGETS["unet"], init_lora_weights=False)
    torch.manual_seed(2)
    adapted = peft.get_peft_model(unet, config)
    adapted.save_pretrained(tmp_path / "lora")
    expected = adapted.merge_and_unload().state_dict()
    found = by_hubmerge(f"{made / 'sd15'}#unet+{tmp_path}/lora", tmp_path / "out")
    before = weights(made / "sd15" / "unet")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[f"unet/{name}"], tensor, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(
        found["unet/mid_block.resnets.0.conv1.weight"], before["mid_block.resnets.0.conv1.weight"]
    )


def test_first_names_are_those_that_diffusers_converts() -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = built("sdxl").unet
    modules = {name.removesuffix(".weight") for name in unet.state_dict() if name.endswith(".weight")}
    found = first_names(modules)
    assert found.keys() == modules
    stored = {name: name.rpartition(".") for name in unet.state_dict()}
    named = {f"model.diffusion_model.{found[module]}.{kind}": name for name, (module, _, kind) in stored.items()}
    converted = convert_ldm_unet_checkpoint(named, dict(unet.config))
    assert converted == {name: name for name in stored}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: {"unet.conv_in.lora_C.weight": torch.ones(2, 2)}, "which is no factor of a LoRA"),
        (
            lambda state: {name: one for name, one in state.items() if "lora_B" not in name},
            "only a part of what it adds",
        ),
        (
            lambda state: {name.replace("unet.down", "unet.dawn"): one for name, one in state.items()},
            "which is not there",
        ),
        (lambda state: {name.replace("unet.", "prior."): one for name, one in state.items()}, "which is not there"),
        (lambda state: {**state, "unet.x.dora_scale": torch.ones(2)}, "which is no factor of a LoRA"),
        (lambda state: {name: one.to(torch.int64) for name, one in state.items()}, "which is no factor of a LoRA"),
        (lambda state: {**state, "unet.x.alpha": torch.tensor(1.0)}, "no alpha for"),
        (lambda state: {**state, "unet.x.alpha": torch.ones(3)}, "expected one number"),
        (lambda state: {name: one[:0] if "lora_A" in name else one[:, :0] for name, one in state.items()}, "no factor"),
    ],
)
def test_what_is_no_lora_of_it(change: Any, told: str, made: Path, tmp_path: Path) -> None:
    save_file(change(load_file(made / "sd15-lora" / FILE)), tmp_path / FILE)
    with pytest.raises(SourceError, match=told):
        open_source(f"{made / 'sd15'}+{tmp_path}")


def test_several_files_are_named(made: Path, tmp_path: Path) -> None:
    state = load_file(made / "sd15-lora" / FILE)
    for name in "ab":
        save_file(state, tmp_path / f"{name}.safetensors")
    with pytest.raises(SourceError, match="name one of them"):
        open_source(f"{made / 'sd15'}+{tmp_path}")
    named = open_source(f"{made / 'sd15'}+{tmp_path}/b.safetensors")
    assert named.adapter is not None and len(named.adapter.changes) > 8
    with pytest.raises(SourceError, match="trained on another model"):
        open_source(f"{made / 'flux'}+{tmp_path}/b.safetensors")


def test_what_a_recipe_does_not_read_of_a_lora_is_told(made: Path, tmp_path: Path) -> None:
    """A part that it does not change, a part that is not merged, and nothing at all; no word where all is read."""
    a, both = str(made / "sd15"), f"{made / 'sd15'}+{made}/sd15-lora"
    state = load_file(made / "sd15-lora" / FILE)
    save_file({name: one for name, one in state.items() if name.startswith("unet.")}, tmp_path / FILE)
    one = f"{a}+{tmp_path}"

    def told(models: dict[str, Any], base: str = a) -> list[str]:
        document = {"merge_method": "task_arithmetic", "base_model": base, "components": models}
        plan = make_plan(Recipe.from_dict(document))
        plan.require()
        return [one.message for one in plan.warnings if not one.message.startswith("No licence")]

    def merged(model: str) -> dict[str, Any]:
        return {"models": [{"model": model, "parameters": {"weight": 0.5}}]}

    assert told({"unet": merged(both), "text_encoder": merged(both)}) == []
    assert told({"unet": merged(one)}) == []
    (beside,) = told({"unet": merged(one), "text_encoder": merged(one)})
    assert beside.startswith("In the module text_encoder: ") and "changes nothing of it, but unet" in beside
    (copied,) = told({"unet": merged(one), "text_encoder": one})
    assert copied == beside
    (nothing,) = told({"text_encoder": merged(one)})
    assert "changes nothing of what is made of" in nothing and "it changes unet" in nothing
    (left,) = told({"unet": merged(both)})
    assert "also changes text_encoder" in left and "does not come into the result" in left
    # What is put around the part that is merged has it, too.
    assert told({"text_encoder": merged(a)}, both) == []
    plain = {"merge_method": "linear", "models": [{"model": both, "parameters": {"weight": 1}}]}
    assert len(make_plan(Recipe.from_dict(plain)).warnings) == 1


def test_layers_that_a_lora_changes_are_in_no_slice(tiny_llama, tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config))
    weight = weights(model)["model.layers.1.self_attn.q_proj.weight"]
    a, b = torch.ones(2, weight.shape[1]), torch.ones(weight.shape[0], 2)
    name = "base_model.model.model.layers.1.self_attn.q_proj"
    save_file({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}, tmp_path / "lora" / "adapter_model.safetensors")

    def told(first: int) -> list[str]:
        source = {"model": f"{model}+{tmp_path}/lora", "layer_range": [first, first + 1]}
        recipe = Recipe.from_dict({"merge_method": "passthrough", "slices": [{"sources": [source]}] * 2})
        return [one.message for one in make_plan(recipe).warnings if "changes nothing" in one.message]

    assert told(1) == []
    (nothing,) = told(0)
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 0}))
    with pytest.raises(SourceError, match="has the lora_alpha 0 and the rank 2; expected numbers other than 0"):
        told(1)
    assert "it changes model.layers.1.self_attn.q_proj.weight" in nothing
