"""Mixtures of experts of dense models: loaded by transformers they route as asked, and equal experts are the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hubmerge.errors import HubmergeError
from hubmerge.experts.document import GATE_MODES, Moe
from hubmerge.experts.mixture import make_gates, plan_moe
from hubmerge.hub.card import render
from hubmerge.planning import plan_again
from hubmerge.publish import card_of, merge
from hubmerge.published import read_again
from hubmerge.reference import ModelRef
from hubmerge.reproduce import reproduce
from hubmerge.stream.verify import verify

ZOO = Path(__file__).parent.parent / "hubmerge" / "zoo" / "checkpoints"
IDS = torch.arange(4, 40)[None]
PROMPTS = [["1 2 3 w1", "4 5"], ["w20 w21 w22", "w23 w24 7"], ["9 9 9"]]
DENSE: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "deepseek_v3": {
        "first_k_dense_replace": 2,
        "q_lora_rank": None,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 32,
    },
}


@pytest.fixture(scope="module")
def dense(tiny_tokenizer, tmp_path_factory) -> Callable[..., Path]:
    """A function `(kind, seed=0)` that gives a tiny dense model of a family, made once."""
    from transformers import AutoConfig, AutoModelForCausalLM

    root = tmp_path_factory.mktemp("dense")

    def build(kind: str, seed: int = 0) -> Path:
        folder = root / f"{kind}-{seed}"
        if not folder.exists():
            torch.manual_seed(seed)
            config = AutoConfig.for_model(
                kind,
                vocab_size=len(tiny_tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=128,
                initializer_range=0.3,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=0,
                **DENSE[kind],
            )
            AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
            tiny_tokenizer.save_pretrained(folder)
        return folder

    return build


def document(base: Path, experts: list[Path], **more: Any) -> dict[str, Any]:
    named = [
        {"source_model": str(one), "positive_prompts": prompts} for one, prompts in zip(experts, PROMPTS, strict=False)
    ]
    return {"base_model": str(base), "experts": named, **more}


def made(out: Path, document: dict[str, Any]) -> Any:
    """The mixture, written and loaded by transformers, with nothing missing and nothing left."""
    from transformers import AutoModelForCausalLM

    merge(plan_moe(Moe.from_dict(document)), out)
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True, dtype=torch.float32)
    assert not any(info.values()), info
    return model.eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize(
    ("kind", "architecture", "model_type"),
    [
        ("llama", None, "mixtral"),
        ("mistral", None, "mixtral"),
        ("qwen2", None, "qwen2_moe"),
        ("llama", "qwen", "qwen2_moe"),
        ("mistral", "qwen", "qwen2_moe"),
        ("qwen3", None, "qwen3_moe"),
    ],
)
def test_equal_experts_are_the_dense_model(kind, architecture, model_type, dense, tmp_path) -> None:
    base = dense(kind)
    model = made(tmp_path / "moe", document(base, [base] * 3, architecture=architecture, experts_per_token=2))
    assert model.config.model_type == model_type
    assert torch.allclose(logits(model), logits(loaded(base)), atol=1e-5)


@pytest.mark.parametrize(("kind", "scale"), [("llama", 1.0), ("qwen2", 0.3), ("deepseek_v3", None)])
def test_a_shared_expert_adds_to_what_the_others_do(kind, scale, dense, tmp_path) -> None:
    base, other = dense(kind), dense(kind, 1)
    shared = {"source_model": str(other)} | ({} if scale is None else {"residual_scale": scale})
    model = made(tmp_path / "moe", document(base, [base] * 2, shared_experts=[shared]))
    reference, beside = loaded(base), loaded(other)
    for layer, more in zip(reference.model.layers, beside.model.layers, strict=True):
        own = layer.mlp.forward
        layer.mlp.forward = lambda x, own=own, more=more: own(x) + (1.0 if scale is None else scale) * more.mlp(x)
    assert torch.allclose(logits(model), logits(reference), atol=1e-4)


def test_experts_are_copied_and_all_else_is_the_base(dense, tmp_path) -> None:
    base, other = dense("llama"), dense("llama", 1)
    merge(plan_moe(Moe.from_dict(document(base, [base, other]))), tmp_path / "moe")
    found = load_file(tmp_path / "moe" / "model.safetensors")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (base, other))
    for layer in range(2):
        for dense_name, part in (("gate_proj", "w1"), ("up_proj", "w3"), ("down_proj", "w2")):
            for number, one in enumerate((ours, theirs)):
                name = f"model.layers.{layer}.block_sparse_moe.experts.{number}.{part}.weight"
                assert torch.equal(found.pop(name), one[f"model.layers.{layer}.mlp.{dense_name}.weight"])
        assert found.pop(f"model.layers.{layer}.block_sparse_moe.gate.weight").shape == (2, 16)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in found.items())


def test_a_prompt_goes_to_the_expert_that_it_is_for(dense, tiny_tokenizer, tmp_path) -> None:
    base = dense("llama")
    model = made(tmp_path / "moe", document(base, [base] * 3, experts_per_token=1))
    reference, seen = loaded(base), []
    for layer in reference.model.layers:
        layer.post_attention_layernorm.register_forward_hook(lambda module, inputs, out: seen.append(out[0].mean(0)))
    for expert, prompts in enumerate(PROMPTS):
        means = []
        for prompt in prompts:
            seen.clear()
            with torch.no_grad():
                reference(torch.tensor([tiny_tokenizer(prompt)["input_ids"]]))
            means.append(torch.stack(seen))
        for layer, place in enumerate(torch.stack(means).mean(0)):
            gate = model.model.layers[layer].mlp.gate.weight
            assert torch.allclose(gate[expert], torch.nn.functional.normalize(place, dim=0), atol=1e-5)
            assert int((gate @ place).argmax()) == expert


def test_embeddings_make_one_gate_for_every_layer(dense, tiny_tokenizer, tmp_path) -> None:
    base = dense("llama")
    model = made(tmp_path / "moe", document(base, [base] * 2, gate_mode="cheap_embed"))
    rows = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    mean = torch.stack([rows[tiny_tokenizer(text)["input_ids"]].mean(0) for text in PROMPTS[0]]).mean(0)
    for layer in model.model.layers:
        assert torch.allclose(layer.mlp.gate.weight[0], torch.nn.functional.normalize(mean, dim=0), atol=1e-5)


def test_random_gates_are_the_same_again_and_the_dtype_is_the_one_asked_for(dense, tmp_path) -> None:
    base = dense("llama")
    asked = {
        "base_model": str(base),
        "gate_mode": "random",
        "dtype": "bfloat16",
        "experts": [{"source_model": str(base)}] * 4,
    }
    files = []
    for name in ("one", "two"):
        merge(plan_moe(Moe.from_dict(asked), threads=1 if name == "one" else 3), tmp_path / name)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1]
    tensors = load_file(tmp_path / "one" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    gates = [tensor.float() for name, tensor in tensors.items() if "gate.weight" in name]
    assert not torch.equal(*gates) and 0.2 < torch.stack(gates).std() < 0.4


def test_the_first_generation_of_deepseek_names_the_code_that_it_needs(dense, tmp_path) -> None:
    import json

    base = dense("llama")
    plan = plan_moe(
        Moe.from_dict(document(base, [base] * 2, architecture="deepseek", shared_experts=[{"source_model": str(base)}]))
    )
    assert any("trust_remote_code" in one.message for one in plan.warnings)
    merge(plan, tmp_path / "moe")
    names = set(load_file(tmp_path / "moe" / "model.safetensors"))
    config = json.loads((tmp_path / "moe" / "config.json").read_text())
    assert {"model.layers.0.mlp.shared_experts.up_proj.weight", "model.layers.1.mlp.gate.weight"} < names
    assert config["n_routed_experts"] == 2 and config["auto_map"]["AutoConfig"].startswith("deepseek-ai/")


def test_the_command_and_its_verification(call, dense, hub, tmp_path) -> None:
    import yaml

    base = dense("llama")
    (tmp_path / "moe.yaml").write_text(yaml.safe_dump(document(base, [base, dense("llama", 1)])))
    shown = call("moe", tmp_path / "moe.yaml", "--dry-run")
    assert shown.returncode == 0 and "moe -> 29 tensors" in shown.stdout, shown.stdout
    assert call("moe", tmp_path / "moe.yaml", "--out", tmp_path / "out").returncode == 0
    assert call("moe", tmp_path / "moe.yaml", "--push", "alice/moe").returncode == 0
    assert "experts:" in (tmp_path / "out" / "README.md").read_text()
    again = verify(ModelRef.parse(str(tmp_path / "out")), recompute=True, read=read_again, plan=plan_again)
    assert again.ok and again.unreproduced == ()


def test_what_nothing_reads_is_told_as_of_a_recipe(dense) -> None:
    base = dense("llama")
    written = document(base, [base] * 2, archtecture="qwen", tokenizer_source="union")
    written["experts"][0] |= {"positve_prompts": []}
    told = [finding.message for finding in plan_moe(Moe.from_dict(written)).warnings]
    for one in (
        "Unknown key 'archtecture' in the mixture: did you mean 'architecture'? It is not read.",
        "Unknown key 'positve_prompts' in experts, number 1: did you mean 'positive_prompts'? It is not read.",
    ):
        assert one in told
    assert any("'tokenizer_source' in the mixture" in one for one in told)


def test_prompts_of_nothing_are_none(dense) -> None:
    base = dense("llama")
    blank = document(base, [base] * 2)
    for expert in blank["experts"]:
        expert["positive_prompts"] = ["", " "]
    assert all(not one.positive_prompts for one in Moe.from_dict({**blank, "gate_mode": "random"}).experts)
    with pytest.raises(HubmergeError, match="needs `positive_prompts`"):
        Moe.from_dict(blank)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experts": []}, "at least two"),
        ({"gate_mode": "hiden"}, "hidden"),
        ({"experts_per_token": 9}, "from 1 to 2"),
        ({"architecture": "qwen3"}, "not of llama"),
        ({"gate_mode": 3}, "must be text, got 3"),
    ],
)
def test_what_is_wrong_is_said(change, said, dense) -> None:
    base = dense("llama")
    with pytest.raises(HubmergeError, match=said):
        plan_moe(Moe.from_dict({**document(base, [base] * 2), **change}))


def test_prompts_that_cancel_out_are_refused(dense) -> None:
    base = dense("llama")
    given = document(base, [base] * 2)
    one, two = given["experts"]
    for negative in (two["positive_prompts"], two["positive_prompts"] * 2):
        with pytest.raises(HubmergeError, match=r"Expert 2 .* has the same .* its gate would be zeros"):
            Moe.from_dict({**given, "experts": [one, {**two, "negative_prompts": negative}]})
    Moe.from_dict({**given, "experts": [one, {**two, "negative_prompts": one["positive_prompts"]}]})
    Moe.from_dict(
        {**given, "gate_mode": "random", "experts": [one, {**two, "negative_prompts": two["positive_prompts"]}]}
    )


def test_models_that_do_not_fit_are_refused(dense, tiny_llama, tmp_path) -> None:
    base = dense("llama")
    wide = tiny_llama(tmp_path / "wide", hidden_size=16, intermediate_size=48, num_hidden_layers=2)
    with pytest.raises(HubmergeError, match="models of one size"):
        plan_moe(Moe.from_dict(document(base, [base, wide])))
    deep = tiny_llama(tmp_path / "deep", hidden_size=16, intermediate_size=32, num_hidden_layers=3)
    with pytest.raises(HubmergeError, match="has 3 layers and"):
        plan_moe(Moe.from_dict(document(base, [base, deep])))
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    biased = tiny_llama(tmp_path / "biased", mlp_bias=True, **shape)
    with pytest.raises(HubmergeError, match=r"biased has biases \(.*mlp"):
        plan_moe(Moe.from_dict(document(base, [base, biased])))
    words = tiny_llama(tmp_path / "words", **shape)
    tokens = json.loads((words / "tokenizer.json").read_text())
    vocabulary = tokens["model"]["vocab"]
    tokens["model"]["vocab"] = {text: (number + 1) % len(vocabulary) for text, number in vocabulary.items()}
    (words / "tokenizer.json").write_text(json.dumps(tokens | {"added_tokens": []}))
    told = plan_moe(Moe.from_dict(document(base, [base, words], gate_mode="random"))).warnings
    assert any("was trained on other tokens" in finding.message for finding in told)
    with pytest.raises(HubmergeError, match=r"always has a shared expert"):
        plan_moe(Moe.from_dict(document(dense("deepseek_v3"), [dense("deepseek_v3")] * 2)))
    with pytest.raises(HubmergeError, match="needs `positive_prompts`"):
        Moe.from_dict({"base_model": "a/b", "experts": [{"source_model": "a/b"}] * 2})


def test_its_card_says_what_it_is_and_how_it_is_made_again(dense) -> None:
    base, other = dense("llama"), dense("llama", 1)
    card = render(card_of(plan_moe(Moe.from_dict(document(base, [base, other], gate_mode="random")))))
    assert "# mixture of experts of local folder llama-1" in card
    assert (
        "This model is a mixture of experts of" in card and "hubmerge moe mergekit_moe_config.yml --out mixture" in card
    )


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("gate_mode", GATE_MODES)
def test_gates_come_out_the_same_whatever_is_at_work(gate_mode, dtype, tmp_path) -> None:
    base, *experts = (ZOO / name for name in ("base", "math", "japanese"))
    asked = document(base, experts, gate_mode=gate_mode) | ({"dtype": dtype} if dtype else {})
    for expert, prompt in zip(asked["experts"], ("Tom has 3 apples", "りんごが3こあります"), strict=True):
        expert["positive_prompts"] = [prompt]
    plan, threads = plan_moe(Moe.from_dict(asked)), torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # as a command has them; a merge computes its tensors on one each
        make_gates(plan)
    finally:
        torch.set_num_threads(threads)
    merge(plan, tmp_path / "moe")
    reproduce(ModelRef.parse(str(tmp_path / "moe"))).require()
