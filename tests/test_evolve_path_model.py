"""The live path is its export, for every family; and it is the parent itself where nothing is changed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from streamtools import rewrite, weights

from hubmerge.errors import PlanError
from hubmerge.evaluate.generation import generate
from hubmerge.evolve.spaces.families import FAMILIES, REFUSED, family_of
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.workers.path_model import PathModel, layer_count
from hubmerge.hub.source import open_source
from hubmerge.recipe import Output
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

LAYERS = ((0, 0), (1, 2), (0, 1), (0, 1), (1, 0), (1, 0), (0, 2))
SCALES = (1.0, 0.4, -1.5, 2.5, -3.0, 0.7, -1.2)  # their product is negative after the last, and up to 3.2 before
IDS = torch.arange(24).view(2, 12) * 7 % 61 + 3

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
SLIDING = {"sliding_window": 5, "head_dim": 8}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
OWN: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 8},
    "gemma2": {**SLIDING, "query_pre_attn_scalar": 8},
    "gemma3_text": {**SLIDING, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "gpt_neox": {"hidden_act": "gelu"},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "granite": {
        "residual_multiplier": 0.3,
        "embedding_multiplier": 2.0,
        "attention_multiplier": 0.2,
        "logits_scaling": 3.0,
    },
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "ministral": {"head_dim": 8, "sliding_window": 5},
    "mistral": {"sliding_window": 5},
    "mixtral": {"num_local_experts": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "phi": {"num_key_value_heads": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "smollm3": {"no_rope_layers": [1, 0, 1]},
}


@pytest.fixture(scope="session")
def build_pair(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """A function `(model_type)` that saves two models with random weights and vocabularies that differ.

    `trained`: signals well above the norms' eps, and no bias or norm at its neutral value; else as transformers starts.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    def build(kind: str, trained: bool = True, **changes: Any) -> list[Path]:
        folders = []
        for seed in range(2):
            torch.manual_seed(seed)
            settings = {**(GPT2 if kind == "gpt2" else SMALL), **OWN.get(kind, {}), **changes}
            size = len(tiny_tokenizer) + 8 * seed
            config = AutoConfig.for_model(
                kind, vocab_size=size, bos_token_id=1, eos_token_id=2, pad_token_id=0, **settings
            )
            model = AutoModelForCausalLM.from_config(config)
            with torch.no_grad():
                for name, parameter in model.named_parameters() if trained else ():
                    spread = 0.3 if parameter.ndim > 1 else 0.2
                    parameter.normal_(0, spread)
                    if parameter.ndim == 1 and name.endswith("weight") and not kind.startswith("gemma"):
                        parameter.add_(1)
            folders.append(tmp_path_factory.mktemp(kind) / f"m{seed}")
            model.save_pretrained(folders[-1])
            tiny_tokenizer.save_pretrained(folders[-1])
        return folders

    return build


@pytest.fixture(scope="session")
def llamas(build_pair: Callable[..., list[Path]]) -> list[Path]:
    return build_pair("llama")


def through(folders: list[Path], layers: tuple = LAYERS, scales: tuple | None = None, **settings: Any) -> LayerPath:
    return LayerPath(
        tuple(ModelRef(str(f)) for f in folders), layers, scales or (1.0,) * len(layers), Output(**settings)
    )


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor = IDS, **settings: Any) -> torch.Tensor:
    return model(input_ids=ids, **settings).logits


def reloaded(path: LayerPath, out: Path) -> Any:
    from transformers import AutoModelForCausalLM

    merge(path.recipe(family_of(open_source(path.models[0]).config)), out)
    return AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()


def test_the_page_names_every_family() -> None:
    page = (Path(__file__).parent.parent / "docs" / "evolve.md").read_text(encoding="utf-8")
    assert f"Families, by `model_type`: {', '.join(sorted(FAMILIES))}. Refused:" in " ".join(page.split())
    refused = page.split("Refused:")[1].split("\n\n")[0]
    assert all(kind in refused for kind in REFUSED if kind != "gemma3") and not set(REFUSED) & set(FAMILIES)


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_a_family_without_paths_is_refused_with_its_reason(kind: str) -> None:
    from transformers import CONFIG_MAPPING

    assert kind in CONFIG_MAPPING  # the name that files have
    with pytest.raises(PlanError, match=f"Paths through {kind} models are not supported: ") as refused:
        family_of({"model_type": kind})
    assert REFUSED[kind] in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "trained"),
    [
        pytest.param(kind, trained, marks=() if trained or kind == "llama" else pytest.mark.thorough)
        for kind in sorted(FAMILIES)
        for trained in (True, False)
    ],
)
def test_the_live_path_is_its_export(
    kind: str,
    trained: bool,
    build_pair: Callable[..., list[Path]],
    tmp_path: Path,
    record_property: Callable[[str, Any], None],
) -> None:
    folders = build_pair(kind, trained)
    path = through(folders, scales=SCALES)
    live = PathModel(path.models)
    live.load(path)
    ours = logits(live.model)
    vanilla = reloaded(path, tmp_path / "out")
    theirs = logits(vanilla)
    assert type(vanilla) is type(live.model)
    assert vanilla.config.get_text_config().num_hidden_layers == len(LAYERS)
    error = float((ours - theirs).abs().max() / theirs.abs().max())
    record_property("error", error)
    print(f"\n{kind}: {error:.1e}")
    assert error < 1e-5
    # The scales matter: the test above would notice if they, or their signs, were lost.
    live.load(through(folders))
    assert float((logits(live.model) - ours).abs().max() / ours.abs().max()) > 0.05
    live.load(through(folders, scales=tuple(map(abs, SCALES))))
    assert float((logits(live.model) - ours).abs().max() / ours.abs().max()) > 0.05
    # With a cache, every occurrence of a layer keeps its own keys and values.
    live.load(path)
    prompts = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "max_new_tokens": 8, "do_sample": False}
    cached, plain = (live.model.generate(**prompts, use_cache=use) for use in (True, False))
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "gpt2", "qwen3"])
def test_the_parents_own_path_is_the_parent_bit_for_bit(kind: str, build_pair: Callable[..., list[Path]]) -> None:
    from transformers import AutoModelForCausalLM

    folders = build_pair(kind)
    live = PathModel(tuple(ModelRef(str(f)) for f in folders))
    live.load(through(folders, scales=SCALES))
    live.load(through(folders, ((0, 0), (0, 1), (0, 2))))
    parents = [AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32).eval() for f in folders]
    assert torch.equal(logits(live.model), logits(parents[0]))
    for folder, parent in zip(folders, parents, strict=True):
        tokenizer = live.load_source(ModelRef(str(folder)))
        assert len(tokenizer) == 64
        assert live.model.config.vocab_size == parent.config.vocab_size
        assert torch.equal(logits(live.model), logits(parent))


def test_no_weight_is_copied(llamas: list[Path]) -> None:
    live = PathModel(tuple(ModelRef(str(f)) for f in llamas))
    live.load(through(llamas))
    before = {p.data_ptr() for p in live.model.parameters()}
    longer = through(llamas, ((0, 0), *[(1, 1)] * 40, (0, 2)), (1.0, *[0.9] * 41))
    live.load(longer)
    stack = live.model.model.layers
    assert [layer.self_attn.layer_idx for layer in stack] == list(range(42))
    first, second = (dict(stack[n].named_parameters()) for n in (1, 2))
    assert {n: p.data_ptr() for n, p in first.items()} == {n: p.data_ptr() for n, p in second.items()}
    live.load(through(llamas))
    assert {p.data_ptr() for p in live.model.parameters()} == before


def test_a_path_answers_as_its_checkpoint_does(llamas: list[Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = through(llamas, scales=SCALES, chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    live = PathModel(path.models)
    live.load(path)
    vanilla = reloaded(path, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompts = [f"w{i} {i} " * (i % 3 + 1) for i in range(9)]
    ours = generate(live.model, live.tokenizer, prompts, max_new_tokens=6)
    assert ours == generate(vanilla, tokenizer, prompts, max_new_tokens=6)
    assert len(set(ours)) > 1


def test_what_is_scored_is_rounded_as_what_is_written(llamas: list[Path], tmp_path: Path) -> None:
    path = through(llamas, out_dtype="bfloat16")
    live = PathModel(path.models)
    live.load(path)
    # Where a CPU computes in bfloat16 as well as the search does, the weights are the same anyway.
    assert torch.equal(logits(live.model.float()), logits(reloaded(path, tmp_path / "out")))


def test_the_first_model_gives_what_is_outside_the_layers(llamas: list[Path]) -> None:
    plan = make_plan(through(llamas).recipe(FAMILIES["llama"]))
    outside = {tensor.name: tensor.inputs[0][0] for tensor in plan.tensors if ".layers." not in tensor.name}
    assert outside == {"model.embed_tokens.weight": 0, "model.norm.weight": 0, "lm_head.weight": 0}
    assert plan.config["vocab_size"] == 64
    assert plan.config["num_hidden_layers"] == len(LAYERS)


@pytest.mark.parametrize(
    ("kind", "said", "full"),
    [
        ("gemma3_text", {"sliding_window_pattern": 2}, (1,)),
        ("gemma2", {}, (1,)),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}, (0, 1)),
    ],
)
def test_layers_keep_their_kind_where_the_configuration_does_not_list_it(
    kind: str, said: dict[str, Any], full: tuple[int, ...], build_pair: Callable[..., list[Path]], tmp_path: Path
) -> None:
    """Files of before transformers 4.53 only say how often, or how long, attention is full."""
    folders = build_pair(kind)
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        del config["layer_types"]
        (folder / "config.json").write_text(json.dumps({**config, **said}))
    path = through(folders)
    live = PathModel(path.models)
    live.load(path)
    vanilla = reloaded(path, tmp_path / "out")
    expected = ["full_attention" if layer in full else "sliding_attention" for _, layer in LAYERS]
    assert vanilla.config.layer_types == live.model.config.layer_types == expected
    assert torch.equal(logits(live.model), logits(vanilla))


def test_what_cannot_be_a_path_is_refused(
    llamas: list[Path], build_pair: Callable[..., list[Path]], tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    def make(*folders: Path) -> PathModel:
        return PathModel(tuple(ModelRef(str(f)) for f in folders))

    olmo = build_pair("olmo2")[0]
    with pytest.raises(PlanError, match="olmo2 models are not supported: its blocks read the residual stream"):
        make(olmo)
    with pytest.raises(PlanError, match="attention depends on the layer's number"):
        make(build_pair("gpt2", scale_attn_by_inverse_layer_idx=True)[0])
    with pytest.raises(PlanError, match="only models of one architecture"):
        make(llamas[0], build_pair("qwen3")[0])
    with pytest.raises(PlanError, match="hidden_size is 16 and 32"):
        make(llamas[0], tiny_llama(tmp_path / "small"))
    odd = build_pair("qwen2")
    rewrite(odd[1], dict.fromkeys((n for n in weights(odd[1]) if n.endswith("q_proj.bias")), None))
    with pytest.raises(PlanError, match=r"Layer 0 of .* has a layer with other tensors \(self_attn.q_proj.bias\)"):
        make(*odd)
    live = make(*llamas)
    assert live.layer_counts == (3, 3)
    assert layer_count(open_source(live.models[0])) == 3
    with pytest.raises(PlanError, match="layer 7 of"):
        live.load(through(llamas, ((0, 0), (1, 7), (0, 2))))
    with pytest.raises(PlanError, match="other models"):
        live.load(replace(through(llamas), models=live.models[::-1]))
