"""Mixtures whose experts are stored in one tensor or in one each: merged with the same bytes."""

import shutil
from pathlib import Path

import pytest
import torch
from hubtools import publish
from safetensors.torch import save_file
from streamtools import weights

from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan


def average(*models: object) -> Recipe:
    return Recipe.from_dict({"merge_method": "linear", "models": [{"model": str(model)} for model in models]})


def mixture(folder: Path, kind: str, seed: int) -> Path:
    from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    shared = {
        "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_experts_per_tok": 2,
    }  # fmt: skip
    torch.manual_seed(seed)
    if kind == "mixtral":
        model = MixtralForCausalLM(MixtralConfig(num_local_experts=3, **shared))
    else:
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(num_experts=3, moe_intermediate_size=12, head_dim=8, **shared))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    memory = Path(shutil.copytree(folder, folder.parent / f"{folder.name}-memory"))
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, memory / "model.safetensors", {"format": "pt"})
    return memory


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_same_bytes_whichever_way_they_are_stored(kind: str, hub, tmp_path: Path) -> None:
    in_memory = [mixture(tmp_path / f"{kind}-{seed}", kind, seed) for seed in (1, 2)]
    in_files = [tmp_path / f"{kind}-{seed}" for seed in (1, 2)]
    assert weights(in_memory[0]).keys() != weights(in_files[0]).keys()
    for first, second in (in_files, in_memory):
        expected = merge(average(first, second), tmp_path / f"expected-{first.name}").tensors
        other = tmp_path / (second.name.removesuffix("-memory") if "memory" in second.name else f"{second.name}-memory")
        plan = make_plan(average(first, other))
        assert any("stores its experts otherwise than the first" in one.message for one in plan.warnings)
        assert merge(plan, tmp_path / f"out-{first.name}").tensors == expected
        repo_id = f"alice/{other.name}".replace("_", "-")
        publish(repo_id, {path.name: path.read_bytes() for path in other.iterdir()})
        ranged = make_plan(average(first, repo_id), ranged=True)
        assert merge(ranged, tmp_path / f"ranged-{first.name}").tensors == expected
