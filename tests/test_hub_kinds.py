"""Which weight files are read, and which adapters are plain additions - as transformers and PEFT have it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from hubmerge.errors import SourceError
from hubmerge.hub.source import open_source
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:(PiSSA|OLoRA) changes the base weights:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`:UserWarning"),
]


@pytest.fixture
def base(tiny_llama: Callable[..., Path], tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "base", tie_word_embeddings=False)


def adapter(base: Path, out: Path, start: bool | str) -> dict[str, Tensor]:
    """Saves a LoRA that began so and was trained since; returns the weights that PEFT makes of it and its base."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=start)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn(parameter.shape), alpha=0.05)
    model.save_pretrained(out)
    return dict(model.merge_and_unload().state_dict())


def merged(base: Path, lora: Path, out: Path) -> dict[str, Tensor]:
    models = [{"model": f"{base}+{lora}", "parameters": {"weight": 1.0}}]
    merge(make_plan(Recipe.from_dict({"merge_method": "linear", "models": models})), out)
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal"])
def test_an_adapter_that_left_its_base_alone_is_added_to_it(start: bool | str, base: Path, tmp_path: Path) -> None:
    expected = adapter(base, tmp_path / "lora", start)
    for name, tensor in merged(base, tmp_path / "lora", tmp_path / "out").items():
        torch.testing.assert_close(tensor, expected[name], msg=name)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_of_a_base_of_its_own_is_refused(start: str, base: Path, tmp_path: Path) -> None:
    expected = adapter(base, tmp_path / "lora", start)
    with pytest.raises(SourceError, match=rf"began as '{start}' .* path_initial_model_for_weight_conversion"):
        merged(base, tmp_path / "lora", tmp_path / "out")
    # What would be wrong: taken for a plain one, it gives another model.
    file = tmp_path / "lora" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_lora_weights": True}))
    apart = merged(base, tmp_path / "lora", tmp_path / "out")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (apart[name] - expected[name]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "lora_ga"),
        ("init_lora_weights", 1),
        ("init_lora_weights", ["pissa"]),
        ("use_qalora", True),
        ("use_bdlora", {"nblocks": 2}),
        ("kasa_config", {"beta": 1}),
        ("arrow_config", {"top_k": 3}),
        ("ensure_weight_tying", True),
        ("of_next_year", 0.5),
    ],
)
def test_a_field_that_may_mean_more_is_refused(field: str, value: Any, base: Path, tmp_path: Path) -> None:
    adapter(base, tmp_path / "lora", True)
    file = tmp_path / "lora" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(SourceError, match=r"init_lora_weights|more than a LoRA"):
        open_source(ModelRef.parse(f"{base}+{tmp_path / 'lora'}"))


def test_of_two_sets_of_weights_the_one_that_transformers_reads_is_merged(
    base: Path, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    other = tiny_llama(tmp_path / "other", seed=5, tie_word_embeddings=False)
    shutil.copy(other / "model.safetensors", base / "model-00001-of-00001.safetensors")
    weights = load_file(other / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    recipe = Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(base)}]})
    plan = make_plan(recipe)
    assert any("the first is read, as transformers does" in problem.message for problem in plan.warnings)
    merge(plan, tmp_path / "out")
    expected = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
    for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items():
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "consolidated.safetensors"])
def test_a_lone_file_of_something_else_is_not_taken_for_the_model(name: str, base: Path) -> None:
    save_file({"x": torch.ones(2)}, base / name)
    assert "x" not in open_source(ModelRef.parse(str(base))).tensors
    (base / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="has no weights"):
        open_source(ModelRef.parse(str(base)))
