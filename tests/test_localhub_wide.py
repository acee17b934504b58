"""Made-up models of the Hub's widest: as many tensors and numbers as the published ones, in 8 bits where those are."""

import math

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file

from hubmerge.localhub import LlamaShape, siblings
from hubmerge.localhub.errors import HubError
from hubmerge.localhub.generated.model import GeneratedModel
from hubmerge.localhub.generated.patterns import eight_bits, pattern
from hubmerge.localhub.generated.wide import BLOCK, DeepSeekShape, QwenMoeShape
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

SMALL = {
    "deepseek": DeepSeekShape(256, 384, 3, 1, 4, 128, 2, 192, 64, 128, 64, 512),
    "qwen": QwenMoeShape(LlamaShape(256, 384, 2, 4, 2, 512), head=64, experts=4, chosen=2, width=128),
}


@pytest.mark.parametrize(
    ("size", "numbers", "weights"),
    [("405B", 405_853_388_800, 1_137), ("235B", 235_093_634_560, 36_945), ("671B", 671_026_419_200, 45_337 + 58)],
)
def test_they_have_as_many_numbers_as_the_published_ones(size: str, numbers: int, weights: int) -> None:
    base, code, math_ = siblings(size).values()
    assert base.tensors == code.tensors == math_.tensors
    plain = {name: shape for name, (_, shape) in base.tensors.items() if not name.endswith("_scale_inv")}
    assert (sum(map(math.prod, plain.values())), len(plain)) == (numbers, weights)
    assert [(one.seed, one.base_seed) for one in (base, code, math_)] == [(0, None), (1, 0), (2, 0)]


@pytest.mark.parametrize("kind", SMALL)
def test_transformers_builds_the_same_tensors_of_their_configs(kind: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = SMALL[kind]
    known = {name: value for name, value in shape.config.items() if name != "quantization_config"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**known))
    theirs = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    ours = {name: size for name, (_, size) in shape.tensors.items() if not name.endswith("_scale_inv")}
    apart = {name: size for name, size in ours.items() if ".experts." not in name}
    assert apart == {name: size for name, size in theirs.items() if ".experts." not in name}
    assert sum(map(math.prod, ours.values())) == sum(map(math.prod, theirs.values()))  # theirs hold all experts in one


def test_numbers_in_8_bits_are_the_nearest_as_torch_rounds() -> None:
    values = np.concatenate([np.random.RandomState(0).standard_normal(50_000), [0, 447, -448, 460, 2.0**-9, -1e-9]])
    codes = eight_bits(values.astype("<f4"))
    found = torch.from_numpy(codes).view(torch.float8_e4m3fn).float()
    expected = torch.from_numpy(values.astype("<f4")).clamp(-448, 448).to(torch.float8_e4m3fn).float()
    ties = (found - torch.from_numpy(values).float()).abs() == (expected - torch.from_numpy(values).float()).abs()
    assert torch.equal(found[~ties], expected[~ties]) and found.isfinite().all()
    assert pattern("F8_E4M3", 1, 0).nbytes == pattern("BF16", 1, 0).nbytes // 2


def test_a_wide_model_in_8_bits_is_merged(hub, tmp_path) -> None:
    shape = SMALL["deepseek"]
    names = [f"alice/wide-{name}" for name in "abc"]
    for number, name in enumerate(names):
        hub.generate(name, GeneratedModel(shape.config, shape.tensors, number, 0 if number else None))
    recipe = {"merge_method": "linear", "dtype": "float32", "models": names, "parameters": {"weight": 1}}
    plan = make_plan(Recipe.from_dict(recipe), ranged=True)
    for tensor in plan.tensors:  # counted whole, as it is read in blocks
        whole = [(one.stored, one.start, one.stop) for one in plan.stage.needs_all(tensor)]
        blocks = {(one.stored, one.start, one.stop) for one in plan.stage.needs(tensor, 0, tensor.parameters)}
        assert len(whole) == len({stored for stored, _, _ in blocks})
        assert sum(stop - start for _, start, stop in whole) == sum(stop - start for _, start, stop in blocks)
    merge(plan, tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert merged.keys() == {name for name in shape.tensors if not name.endswith("_scale_inv")}
    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    stored = [load_file(api.hf_hub_download(name, "model.safetensors", cache_dir=tmp_path)) for name in names]
    for name in ("model.layers.1.mlp.experts.3.down_proj.weight", "model.layers.2.self_attn.kv_a_proj_with_mqa.weight"):
        rows, columns = merged[name].shape
        factors = [one[f"{name}_scale_inv"].repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1) for one in stored]
        plain = [one[name].float() * factor[:rows, :columns] for one, factor in zip(stored, factors, strict=True)]
        torch.testing.assert_close(merged[name], torch.stack(plain).mean(0))
        assert 0.01 < float(plain[0].std()) < 0.04


def test_a_size_that_nobody_knows_is_refused() -> None:
    with pytest.raises(HubError, match=r"no model of size 700B to make up: choose one of 1B, .*405B, 235B, 671B"):
        siblings("700B")
