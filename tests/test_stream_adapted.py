"""LoRAs on top of models: merged here block by block, without a copy, they are what PEFT makes of them."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from hubmerge.errors import HubmergeError, NotFoundError, PlanError, SourceError
from hubmerge.evaluate.models import load_model
from hubmerge.evolve.run import evolve
from hubmerge.evolve.spaces.families import FAMILIES
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.workers.path_model import PathModel
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.hub.source import open_source
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.lora import Adapted
from hubmerge.stream.plan import make_plan
from hubmerge.stream.weights import Reads, Stored

peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`:UserWarning"),
]

LINEAR = ["q_proj", "v_proj", "down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"layers.1.self_attn.q_proj": 5}, "alpha_pattern": {"down_proj": 40}},
    "embedding": {"target_modules": ["embed_tokens", "lm_head", "k_proj"]},
}


def lora(model: Path, out: Path, seed: int = 0, **settings: Any) -> tuple[Path, dict[str, Tensor]]:
    """A LoRA with random factors on the model in a folder, and the weights that PEFT makes of both, in float32."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = peft.LoraConfig(
        **{"r": 3, "lora_alpha": 7, "target_modules": LINEAR, "init_lora_weights": False, **settings}
    )
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), config)
    adapted.save_pretrained(out, save_embedding_layers=False)
    return out, dict(adapted.merge_and_unload().state_dict())


@pytest.fixture
def base(tiny_llama, tmp_path: Path) -> Path:
    """A model with a head of its own, in which blocks end in the middle of rows."""
    return tiny_llama(tmp_path / "base", hidden_size=512, intermediate_size=700, tie_word_embeddings=False)


def on_top(model: Path, *adapters: Path) -> list[str]:
    return [f"{model}+{adapter}" for adapter in adapters]


def merged(out: Path, document: dict[str, Any], **how: Any) -> dict[str, Tensor]:
    recipe = Recipe.from_dict(document)
    merge(make_plan(recipe, **how), out)
    return load_file(out / "model.safetensors")


def alone(name: str) -> dict[str, Any]:
    return {"merge_method": "linear", "models": [{"model": name, "parameters": {"weight": 1.0}}]}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_peft_merges(kind: str, base: Path, tmp_path: Path) -> None:
    adapter, expected = lora(base, tmp_path / "lora", **KINDS[kind])
    found = merged(tmp_path / "out", alone(*on_top(base, adapter)))
    stored = load_file(base / "model.safetensors")
    changed = [name for name in found if not torch.equal(found[name], stored[name])]
    assert len(changed) >= 5
    assert found.keys() <= expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_factors_that_torch_saved(base: Path, tmp_path: Path) -> None:
    adapter, _ = lora(base, tmp_path / "lora")
    expected = merged(tmp_path / "safe", alone(*on_top(base, adapter)))
    factors = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    turned = {name: one.t().contiguous().t() if "lora_A" in name else one for name, one in factors.items()}
    torch.save(turned, adapter / "adapter_model.bin")
    found = merged(tmp_path / "torch", alone(*on_top(base, adapter)))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_stored_the_other_way_round(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    sizes = {"vocab_size": 64, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes))
    model.save_pretrained(tmp_path / "gpt2")
    adapter, expected = lora(
        tmp_path / "gpt2", tmp_path / "lora", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True
    )
    source = open_source(ModelRef.parse(f"{tmp_path / 'gpt2'}+{adapter}"))
    assert source.adapter is not None and len(source.adapter.changes) == 6
    adapted, stored = Adapted(Stored(source), source.adapter), load_file(tmp_path / "gpt2" / "model.safetensors")

    def read(name: str, start: int, stop: int) -> torch.Tensor:
        reads = Reads(lambda extent: stored[extent.tensor.name].flatten()[extent.start : extent.stop])
        return adapted.read(name, start, stop, reads)

    for name in source.adapter.changes:
        flat = stored[name].flatten()
        whole = read(name, 0, flat.numel())
        torch.testing.assert_close(whole.view(stored[name].shape), expected[name], rtol=1e-5, atol=1e-6)
        for start, stop in ((0, 1), (5, 7), (23, 25), (24, 48), (100, flat.numel())):
            assert torch.equal(read(name, start, stop), whole[start:stop])


def test_bytes_do_not_depend_on_the_way(base: Path, tmp_path: Path) -> None:
    names = on_top(base, *(lora(base, tmp_path / f"lora{n}", n)[0] for n in (1, 2)))
    document = {
        "merge_method": "ties",
        "base_model": str(base),
        "models": [{"model": name, "parameters": {"weight": 0.6, "density": 0.5}} for name in names],
    }
    first = merged(tmp_path / "one", document, threads=1)
    second = merged(tmp_path / "three", document, threads=3, shard_size=40_000_000)
    assert all(torch.equal(first[name], second[name]) for name in first)
    resident = ResidentModel(make_plan(Recipe.from_dict(document)))
    for name, parameter in resident.model.named_parameters():
        assert torch.equal(parameter, first[name]), name
    # The same as a merge of the models that were first written out whole.
    whole = [tmp_path / f"whole{n}" for n in range(2)]
    for folder, name in zip(whole, names, strict=True):
        merged(folder, alone(name))
    document["models"] = [
        {**entry, "model": str(folder)} for entry, folder in zip(document["models"], whole, strict=True)
    ]
    third = merged(tmp_path / "whole", document)
    assert all(torch.equal(first[name], third[name]) for name in first)


def test_a_bfloat16_model_is_rounded_once(tiny_llama, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "half", dtype="bfloat16", tie_word_embeddings=False)
    adapter, expected = lora(base, tmp_path / "lora")
    found = merged(tmp_path / "out", alone(*on_top(base, adapter)))
    for name, tensor in found.items():
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor, expected[name].to(torch.bfloat16), rtol=2**-8, atol=0)


def test_a_plan_tells_what_goes_in(base: Path, tmp_path: Path) -> None:
    adapter, _ = lora(base, tmp_path / "lora", r=8)
    plan = make_plan(Recipe.from_dict(alone(*on_top(base, adapter))))
    bare = make_plan(Recipe.from_dict(alone(str(base))))
    assert plan.sources[0].name == f"{base}+{adapter}" and bare.sources[0].name == str(base)
    assert plan.output_bytes == bare.output_bytes and plan.key != bare.key
    assert plan.peak_memory > bare.peak_memory
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "org/other"}))
    plan = make_plan(Recipe.from_dict(alone(*on_top(base, adapter))))
    assert any(f"{adapter} was trained on org/other, not on {base}" in p.message for p in plan.warnings)
    with pytest.raises(SourceError, match=rf"is an adapter, not a whole model; .*: org/other\+{adapter}\."):
        open_source(ModelRef(str(adapter)))


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "dora": ({"use_dora": True}, r"more than a LoRA: it scales the weights' columns \(use_dora\)"),
    "biases": ({"bias": "lora_only"}, r"more than a LoRA: it changes biases"),
    "modules": ({"modules_to_save": ["lm_head"]}, r"more than a LoRA: it replaces whole modules"),
    "kind": ({"peft_type": "IA3"}, "an adapter of the kind 'IA3'"),
    "alpha": ({"lora_alpha": "many"}, "lora_alpha should be a number"),
    "endless": ({"alpha_pattern": {"(a+)+b": 1}}, "alpha_pattern whose keys are no names"),
    "patterns": ({"alpha_pattern": [1]}, "alpha_pattern should be numbers by names"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_more_than_a_lora_is_refused(name: str, base: Path, tmp_path: Path) -> None:
    adapter, _ = lora(base, tmp_path / "lora")
    changes, message = BROKEN[name]
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | changes))
    with pytest.raises(SourceError, match=message):
        open_source(ModelRef.parse(f"{base}+{adapter}"))


def test_what_does_not_fit_its_model_is_refused(base: Path, tiny_llama, tmp_path: Path) -> None:
    adapter, _ = lora(base, tmp_path / "lora")
    other = tiny_llama(tmp_path / "other", hidden_size=256)
    fewer = tiny_llama(tmp_path / "fewer", hidden_size=512, intermediate_size=700, num_hidden_layers=1)
    with pytest.raises(SourceError, match=r"another model than .*other: .* has the shape \(256, 32\) there"):
        open_source(ModelRef.parse(f"{other}+{adapter}"))
    with pytest.raises(SourceError, match=r"it changes model.layers.1.*, which is not there"):
        open_source(ModelRef.parse(f"{fewer}+{adapter}"))
    tied = tiny_llama(tmp_path / "tied")
    whole, _ = lora(tied, tmp_path / "tied-lora", target_modules=["embed_tokens"])
    head, _ = lora(tied, tmp_path / "head-lora", target_modules=["lm_head"])
    for one, module in ((whole, "model.embed_tokens"), (head, "lm_head")):
        with pytest.raises(SourceError, match=rf"changes {module}, but {tied} has one tensor for embedding and head"):
            open_source(ModelRef.parse(f"{tied}+{one}"))
    # A head that is stored although the settings tie it is the model's own.
    stored, expected = lora(base, tmp_path / "stored-lora", target_modules=["lm_head"])
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    weights = merged(tmp_path / "stored-out", alone(f"{base}+{stored}"))
    torch.testing.assert_close(weights["lm_head.weight"], expected["lm_head.weight"])
    (base / "config.json").write_text(json.dumps(config))

    weights = load_file(adapter / "adapter_model.safetensors")
    name = next(iter(weights))
    save_file({**weights, "extra": torch.zeros(2)}, adapter / "adapter_model.safetensors")
    with pytest.raises(SourceError, match=r"holds extra .* which is no factor of a LoRA"):
        open_source(ModelRef.parse(f"{base}+{adapter}"))
    for odd in (weights[name].to(torch.int32), weights[name][..., None]):
        save_file({**weights, name: odd}, adapter / "adapter_model.safetensors")
        with pytest.raises(SourceError, match=r"which is no factor of a LoRA"):
            open_source(ModelRef.parse(f"{base}+{adapter}"))
    save_file({k: v for k, v in weights.items() if k != name}, adapter / "adapter_model.safetensors")
    with pytest.raises(SourceError, match="only a part"):
        open_source(ModelRef.parse(f"{base}+{adapter}"))
    save_file({**weights, name: torch.full_like(weights[name], torch.nan)}, adapter / "adapter_model.safetensors")
    with pytest.raises(SourceError, match="has NaN or infinite values"):
        merge(make_plan(Recipe.from_dict(alone(*on_top(base, adapter)))), tmp_path / "out")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"has no adapter_model\.safetensors"):
        open_source(ModelRef.parse(f"{base}+{adapter}"))
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(HubmergeError):
        open_source(ModelRef.parse(f"{base}+{adapter}"))


@pytest.fixture(scope="module")
def published(hub, siblings: dict[str, Path], tmp_path_factory) -> list[str]:
    """Two LoRAs of one model, on the Hub: what each is called on top of it."""
    from huggingface_hub import HfApi

    root, api = tmp_path_factory.mktemp("adapters"), HfApi()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders = {f"alice/adapted-{n}": lora(siblings["base"], root / f"lora{n}", n)[0] for n in (1, 2)}
    folders["alice/adapted-base"] = siblings["base"]
    for repo_id, folder in folders.items():
        api.create_repo(repo_id, exist_ok=True)
        if folder != siblings["base"]:
            config = json.loads((folder / "adapter_config.json").read_text())
            (folder / "adapter_config.json").write_text(
                json.dumps(config | {"base_model_name_or_path": "alice/adapted-base"})
            )
            (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
        api.upload_folder(repo_id=repo_id, folder_path=folder)
    return [f"alice/adapted-base+alice/adapted-{n}" for n in (1, 2)]


def test_a_search_over_loras_of_the_hub(published: list[str], tiny_search, tmp_path: Path) -> None:
    search = tiny_search(base_model="alice/adapted-base", models=published, baselines=["average"])
    result = evolve(search, tmp_path / "run")
    assert [row.model for row in result.rows] == ["alice/adapted-base (base)", *published, "average", "evolved"]
    pinned = re.compile(r"alice/adapted-base@[0-9a-f]{40}\+alice/adapted-[12]@[0-9a-f]{40}")
    assert all(pinned.fullmatch(str(entry.model)) for entry in result.recipe.models)
    manifest = json.loads((result.folder / "hubmerge.json").read_text())
    assert [(one["model"], one["license"]) for one in manifest["sources"]] == [
        ("alice/adapted-base", None),
        ("alice/adapted-1", "cc-by-4.0"),
        ("alice/adapted-2", "cc-by-4.0"),
    ]
    card = (result.folder / "README.md").read_text()
    assert re.search(r"alice/adapted-1\).*\| LoRA \|", card) and "base_model:\n- alice/adapted-base\n" in card
    # What was scored is what was written, by range from the Hub as from files; again, nothing is done.
    again = merged(tmp_path / "ranged", result.recipe.to_dict(), ranged=True)
    written = load_file(result.folder / "model.safetensors")
    assert all(torch.equal(again[name], written[name]) for name in written)
    assert evolve(search, tmp_path / "run", resume=True).rows == result.rows


def test_a_path_through_layers_with_loras(published: list[str], tmp_path: Path) -> None:
    models = tuple(map(ModelRef.parse, published))
    path = LayerPath(models, ((0, 0), (1, 1), (1, 2), (0, 2)), (1.0, 1.2, 1.0, 0.9))
    live = PathModel(models)
    live.load(path)
    merge(path.recipe(FAMILIES["llama"]), tmp_path / "out")
    model, _ = load_model(str(tmp_path / "out"))
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        torch.testing.assert_close(live.model(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)


def test_a_loras_own_tokenizer_and_chat_template(base: Path, tmp_path: Path) -> None:
    template = "{% for message in messages %}<{{ message['content'] }}>{% endfor %}"
    adapter, _ = lora(base, tmp_path / "lora")
    plain, _ = lora(base, tmp_path / "plain", 1)
    names = on_top(base, adapter, plain)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(adapter)
    # Alone, or as the one that gives the tokenizer, its model answers as it was trained to.
    assert merged_tokenizer(tmp_path / "alone", alone(names[0])).chat_template == template
    assert load_model(names[0])[1].chat_template == template
    assert load_model(names[1])[1].chat_template == load_model(str(base))[1].chat_template != template
    entries = [{"model": name, "parameters": {"weight": 0.5}} for name in names]
    document = {"merge_method": "task_arithmetic", "base_model": str(base), "models": entries}
    plan = make_plan(Recipe.from_dict(document))
    (warned,) = [p.message for p in plan.warnings if "chat template" in p.message]
    assert warned == (
        f"{adapter} was trained with a chat template that the result does not have (it has another); "
        f"`tokenizer_source: {names[0]}` or `chat_template: auto` takes one."
    )
    document["tokenizer_source"] = names[0]
    assert not [p for p in make_plan(Recipe.from_dict(document)).findings if "chat template" in p.message]
    assert merged_tokenizer(tmp_path / "given", document).chat_template == template
    resident = ResidentModel(plan)
    assert resident.load_source(ModelRef.parse(names[0])).chat_template == template

    tokenizer.add_tokens([f"new{n}" for n in range(3)])
    tokenizer.save_pretrained(adapter)
    with pytest.raises(
        PlanError, match=rf"tokenizer of {adapter} has a token with the number \d+, .* `tokenizer_source: {base}`"
    ):
        make_plan(Recipe.from_dict(document)).require()


def merged_tokenizer(out: Path, document: dict[str, Any]) -> Any:
    merged(out, document)
    return AutoTokenizer.from_pretrained(out)


def test_a_model_is_loaded_with_its_lora(published: list[str], tmp_path: Path) -> None:
    merged(tmp_path / "out", alone(published[0]))
    (model, _), (loaded, tokenizer) = load_model(str(tmp_path / "out")), load_model(published[0])
    assert tokenizer is not None
    expected = model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in loaded.state_dict().items())


def test_a_model_with_two_loras_is_read_once(published: list[str], siblings, hub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    base = "alice/adapted-read-once"
    HfApi().create_repo(base, exist_ok=True)
    HfApi().upload_folder(repo_id=base, folder_path=siblings["base"])
    names = [name.replace("alice/adapted-base", base) for name in published]
    models = [{"model": name, "parameters": {"weight": 0.5, "density": 0.5}} for name in names]
    recipe = Recipe.from_dict({"merge_method": "ties", "base_model": base, "models": models})
    for lora_source in make_plan(recipe).sources:
        if lora_source.adapter is not None:
            lora_source.adapter.local_path()
    plans = [make_plan(recipe, ranged=ranged) for ranged in (True, False)]
    source = plans[0].sources[0]
    assert plans[0].fetch_bytes == source.nbytes
    assert plans[1].fetch_bytes == source.files["model.safetensors"].size
    hub.clear_log()
    merge(plans[0], tmp_path / "ranged")
    sent = sum(request.sent for request in hub.log if base in request.path and request.status == 206)
    assert sent == source.nbytes
    merge(plans[1], tmp_path / "files")
    ranged, files = (load_file(tmp_path / name / "model.safetensors") for name in ("ranged", "files"))
    assert all(torch.equal(ranged[name], files[name]) for name in files)


def test_a_lora_that_is_private_or_missing(published: list[str]) -> None:
    with pytest.raises(NotFoundError, match="alice/adapted-nowhere"):
        open_source(ModelRef.parse("alice/adapted-base+alice/adapted-nowhere"))
    with pytest.raises(SourceError, match=r"name it on top of its model: alice/adapted-base\+alice/adapted-1\."):
        open_source(ModelRef.parse("alice/adapted-1"))
