"""A LoRA out of a model and its base: the nearest there is, as peft loads it and as recipes add it back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file
from torch import Tensor

from hubmerge.errors import HubmergeError, Interrupted, PlanError, ResourceError
from hubmerge.extract import factoring
from hubmerge.extract.adapter import Extraction, extract, recipe_of
from hubmerge.extract.kept import Kept
from hubmerge.extract.lowrank import low_rank
from hubmerge.planning import plan_again
from hubmerge.publish import merge
from hubmerge.published import read_again
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.verify import verify

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

RANK = 3


def tuned(base: Path, folder: Path, change: Callable[[str, Tensor, torch.Generator], Tensor]) -> Path:
    """A model with each float tensor of `base` changed by what `change` gives."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, generator = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(change(name, parameter, generator))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def thin(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """A change of rank 3 of each matrix, and none of anything else."""
    if tensor.ndim != 2:
        return torch.zeros(())
    left, right = (torch.randn(size, RANK, generator=generator) for size in tensor.shape)
    return 0.05 * left @ right.T


def full(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    return 0.02 * torch.randn(tensor.shape, generator=generator)


@pytest.fixture(scope="module")
def base(tiny_llama, tmp_path_factory) -> Path:
    return tiny_llama(
        tmp_path_factory.mktemp("extract") / "base", hidden_size=32, num_key_value_heads=1, tie_word_embeddings=False
    )


@pytest.fixture(scope="module")
def models(base, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tuned")
    return {"thin": tuned(base, root / "thin", thin), "full": tuned(base, root / "full", full)}


def made(base: Path, model: Path, out: Path | None = None, **how) -> Extraction:
    asked = {key: how.pop(key) for key in ("rank", "energy", "dtype", "whole") if key in how}
    extraction = extract(recipe_of(ModelRef.parse(str(model)), ModelRef.parse(str(base)), **asked), **how)
    if out is not None:
        merge(extraction.plan, out)
    return extraction


def matrices(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if tensor.ndim == 2}


def with_peft(base: Path, adapter: Path) -> "torch.nn.Module":
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(model, adapter)
    assert not adapted.load_adapter(adapter, "again").missing_keys
    return adapted.eval()


def added_back(base: Path, adapter: Path, out: Path) -> dict[str, Tensor]:
    merge(Recipe("passthrough", Recipe.from_dict(alone(f"{base}+{adapter}")).models), out)
    return matrices(out)


def alone(name: str) -> dict:
    return {"merge_method": "passthrough", "models": [{"model": name}]}


def test_what_has_that_rank_comes_back_whole(base, models, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    extraction = made(base, models["thin"], tmp_path / "lora", rank=8)
    assert {module.facts.rank for module in extraction.modules} == {RANK} and extraction.energy > 1 - 1e-6
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["r"] == RANK
    back, wanted = added_back(base, tmp_path / "lora", tmp_path / "back"), matrices(models["thin"])
    for name, tensor in wanted.items():
        assert torch.allclose(back[name], tensor, atol=2e-6), name
    ids = torch.arange(4, 30)[None]
    with torch.no_grad():
        ours = with_peft(base, tmp_path / "lora")(ids).logits
        theirs = AutoModelForCausalLM.from_pretrained(models["thin"], dtype=torch.float32).eval()(ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_it_is_as_near_as_any_of_its_rank(base, models, tmp_path) -> None:
    extraction = made(base, models["full"], tmp_path / "lora", rank=4)
    back = added_back(base, tmp_path / "lora", tmp_path / "back")
    before, wanted = matrices(base), matrices(models["full"])
    assert {f"{one.candidate.module}.weight" for one in extraction.modules} == wanted.keys()
    for module in extraction.modules:
        name = f"{module.candidate.module}.weight"
        change = (wanted[name] - before[name]).double().numpy()
        values = np.linalg.svd(change, compute_uv=False)
        best = np.sqrt((values[4:] ** 2).sum())
        assert np.linalg.norm((wanted[name] - back[name]).double().numpy()) <= best * 1.0001, name
        assert module.facts.energy == pytest.approx((values[:4] ** 2).sum() / (values**2).sum(), rel=1e-4)


def test_an_energy_gives_each_module_the_rank_that_it_needs(base, models, tmp_path) -> None:
    extraction = made(base, models["full"], tmp_path / "lora", energy=0.6)
    before, wanted = matrices(base), matrices(models["full"])
    for module in extraction.modules:
        name = f"{module.candidate.module}.weight"
        squares = np.linalg.svd((wanted[name] - before[name]).double().numpy(), compute_uv=False) ** 2
        assert module.facts.rank == int((squares.cumsum() / squares.sum() < 0.6).sum()) + 1, name
    assert len({module.facts.rank for module in extraction.modules}) > 1
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["rank_pattern"] == config["alpha_pattern"] != {}
    back = added_back(base, tmp_path / "lora", tmp_path / "back")
    merged = with_peft(base, tmp_path / "lora").merge_and_unload().state_dict()
    for name, tensor in back.items():
        assert torch.allclose(merged[name], tensor, atol=2e-6), name


def test_norms_are_told_of_or_saved_whole(base, models, tmp_path) -> None:
    told = " ".join(one.message for one in made(base, models["full"], rank=2).plan.warnings)
    assert "7 tensor(s) of norms differ" in told and "--whole" in told
    made(base, models["full"], tmp_path / "lora", rank=2, whole=True)
    adapted = with_peft(base, tmp_path / "lora").merge_and_unload().state_dict()
    for name, tensor in load_file(models["full"] / "model.safetensors").items():
        if tensor.ndim == 1:
            assert torch.equal(adapted[name], tensor), name


def test_layers_that_store_their_weights_the_other_way_round(tmp_path, tiny_tokenizer) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tiny_tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    model = tuned(
        tmp_path / "base", tmp_path / "tuned", lambda *one: thin(*one) if ".h." in one[0] else torch.zeros(())
    )
    extraction = made(tmp_path / "base", model, tmp_path / "lora", rank=4)
    assert extraction.energy > 1 - 1e-6 and len(extraction.modules) == 8
    merged = with_peft(tmp_path / "base", tmp_path / "lora").merge_and_unload().state_dict()
    back = added_back(tmp_path / "base", tmp_path / "lora", tmp_path / "back")
    for name, tensor in matrices(model).items():
        assert torch.allclose(merged[name], tensor, atol=2e-6) and torch.allclose(back[name], tensor, atol=2e-6), name


def test_only_what_changed_is_named(base, tmp_path) -> None:
    model = tuned(base, tmp_path / "m", lambda *one: thin(*one) if "1.self_attn.q_proj" in one[0] else torch.zeros(()))
    extraction = made(base, model, tmp_path / "lora", rank=4)
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["model.layers.1.self_attn.q_proj"] and extraction.unchanged == 22
    with_peft(base, tmp_path / "lora")


def test_a_run_that_broke_goes_on_and_threads_change_nothing(base, models, tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(factoring, "low_rank", lambda *one, **how: asked.append(0) or low_rank(*one, **how))

    def stop(event) -> None:
        if event.done >= 5:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        made(base, models["full"], rank=4, work=tmp_path / "work", threads=1, progress=stop)
    first = len(asked)
    made(base, models["full"], tmp_path / "on", rank=4, work=tmp_path / "work", threads=1)
    assert 5 <= first < 23 and len(asked) == 23
    made(base, models["full"], tmp_path / "anew", rank=4, threads=3)
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("on", "anew")]
    assert files[0] == files[1]


def test_two_runs_of_one_pair_do_not_take_each_others_folder(base, models, tmp_path) -> None:
    first = Kept(tmp_path / "work")
    with pytest.raises(ResourceError, match="extracted by another run"):
        Kept(tmp_path / "work")
    first.close()
    Kept(tmp_path / "work").clear()


def test_what_is_no_model_of_the_base_is_refused(base, tiny_llama, tmp_path) -> None:
    deep = tiny_llama(tmp_path / "deep", num_hidden_layers=4)
    with pytest.raises(PlanError, match="has 4 layers and"):
        made(base, deep, rank=2)
    config = json.loads((base / "config.json").read_text())
    other = shutil.copytree(base, tmp_path / "other")
    (other / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    with pytest.raises(PlanError, match="is a mistral model and"):
        made(base, other, rank=2)
    with pytest.raises(ResourceError, match="There is no device"):
        made(base, base, rank=2, device="warp")


def test_the_command_pushes_it_and_it_is_verified(call, hub, base, models, tmp_path) -> None:
    run = call("extract-lora", models["full"], "--base", base, "--rank", 4, "--push", "alice/lora-of-full")
    assert run.returncode == 0 and "Name it in recipes" in run.stdout and "energy kept" in run.stdout, run.stderr
    again = call("extract-lora", models["full"], "--base", base, "--rank", 4, "--out", tmp_path / "lora")
    assert "Extracted into" in again.stdout
    card = (tmp_path / "lora" / "README.md").read_text()
    assert "library_name: peft" in card and "q_proj" in card and str(base.parent) not in card
    assert call("verify", "alice/lora-of-full").returncode == 0
    found = verify(ModelRef.parse(str(tmp_path / "lora")), recompute=True, read=read_again, plan=plan_again)
    assert found.ok and found.unreproduced == ()
    back = added_back(base, Path("alice/lora-of-full"), tmp_path / "back")
    assert back.keys() == matrices(base).keys()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "by its rank, such as 16, or by energy"),
        ({"energy": 1.5}, "up to 1"),
        ({"rank": 4, "memory": 1000}, "more than may be held; raise that .--memory"),
    ],
)
def test_what_cannot_be_is_said(base, models, how, said) -> None:
    with pytest.raises(HubmergeError, match=said):
        made(base, models["full"], **how)


def test_a_model_that_is_its_base_has_nothing(base, models, siblings) -> None:
    with pytest.raises(HubmergeError, match="nothing to extract"):
        made(base, tuned(base, base.parent / "same", _none), rank=2)
    with pytest.raises(HubmergeError, match="name the base that the model was tuned from"):
        made(siblings["base"], models["full"], rank=2)


def _none(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.zeros(())


def test_an_adapter_in_a_folder_is_pushed_as_it_is(call, hub, base, models, tmp_path) -> None:
    lora = tmp_path / "lora"
    made(base, models["thin"], lora, rank=4)
    (lora / "optimizer.pt").write_bytes(b"a pickle")
    (lora / "hubmerge.json").unlink()  # as others make one
    run = call("push", lora, "alice/lora-of-mine")
    assert run.returncode == 0, run.stderr
    there = set(HfApi().list_repo_files("alice/lora-of-mine"))
    assert {"adapter_config.json", "adapter_model.safetensors"} <= there and "optimizer.pt" not in there
    back = added_back(base, Path("alice/lora-of-mine"), tmp_path / "back")
    assert all(
        torch.equal(tensor, added)
        for tensor, added in zip(added_back(base, lora, tmp_path / "here").values(), back.values(), strict=True)
    )
    weights = lora / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for broken, said in ((whole[:-9], "adapter_model.safetensors"), (None, "has no adapter_model.safetensors")):
        weights.unlink() if broken is None else weights.write_bytes(broken)
        run = call("push", lora, "alice/lora-broken")
        assert run.returncode == 2 and said in run.stderr, run.stderr
    assert not HfApi().repo_exists("alice/lora-broken")
