"""Merging folders: the same values as the formulas, the same bytes however it is run, and models that load."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamtools import naive, rewrite, weights

from hubmerge.errors import Interrupted, PlanError, ResourceError, SourceError
from hubmerge.progress import Event
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

Siblings = dict[str, Path]


def load(folder: Path):
    """The model by plain transformers, which must find every tensor it wants and none that it does not."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model


def recipe(siblings: Siblings, method: str = "ties", **changes: object) -> Recipe:
    document: dict = {
        "merge_method": method,
        "base_model": str(siblings["base"]),
        "models": [
            {"model": str(siblings["math"]), "parameters": {"weight": 0.7, "density": 0.6}},
            {"model": str(siblings["japanese"]), "parameters": {"weight": 0.5, "density": 0.4}},
        ],
        **changes,
    }
    return Recipe.from_dict({key: value for key, value in document.items() if value is not None})


SETTINGS: dict[str, tuple[dict, list[dict]]] = {
    "linear": ({}, [{"weight": 0.7}, {"weight": 0.5}]),
    "task_arithmetic": ({}, [{"weight": 0.7}, {"weight": -0.5}]),
    "ties": ({}, [{"weight": 0.7, "density": 0.6}, {"weight": 0.5, "density": 0.4}]),
    "dare_linear": ({}, [{"weight": 0.7, "density": 0.6}, {"weight": 0.5, "density": 0.4}]),
    "dare_ties": ({}, [{"weight": 0.7, "density": 0.6}, {"weight": 0.5, "density": 0.4}]),
    "slerp": ({"t": 0.3}, [{}]),
}


@pytest.mark.parametrize("method", SETTINGS)
def test_values_are_those_of_the_formulas(method: str, siblings: Siblings, tmp_path: Path) -> None:
    shared, models = SETTINGS[method]
    names = ["math", "japanese"][: len(models)]
    entries = [{"model": str(siblings[n]), "parameters": p} for n, p in zip(names, models, strict=True)]
    merge(recipe(siblings, method, models=entries, parameters=shared), tmp_path / "out", shard_size=9000)
    stored = {name: weights(folder) for name, folder in siblings.items()}
    per_model = {key: [values[key] for values in models] for key in models[0]}
    merged = weights(tmp_path / "out")
    assert merged.keys() == stored["base"].keys()
    for name, tensor in merged.items():
        expected = naive(method, name, [stored[n][name] for n in names], stored["base"][name], **shared, **per_model)
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=1e-6)
    model = load(tmp_path / "out")
    assert model(torch.arange(5)[None]).logits.isfinite().all()


@pytest.mark.parametrize(("dtype", "tied"), [("bfloat16", True), ("float16", False), ("float32", False)])
def test_dtypes_and_heads_of_siblings(dtype: str, tied: bool, tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", seed=1, dtype=dtype, tie_word_embeddings=tied)
    other = tiny_llama(tmp_path / "other", seed=2, dtype=dtype, sibling_of=base)
    models = [{"model": str(base)}, {"model": str(other), "parameters": {"weight": 3}}]
    average = Recipe.from_dict({"merge_method": "linear", "models": models})
    merge(average, tmp_path / "out")
    ours, first, second = weights(tmp_path / "out"), weights(base), weights(other)
    assert ours.keys() == first.keys()
    assert ("lm_head.weight" in ours) is not tied
    for name, tensor in ours.items():
        exact = (first[name].float() + 3 * second[name].float()) / 4
        assert tensor.dtype == getattr(torch, dtype)
        # The float32 result may fall on the other side of a rounding boundary.
        torch.testing.assert_close(tensor, exact.to(tensor.dtype), rtol=1e-2 if dtype != "float32" else 1e-6, atol=1e-6)
    assert load(tmp_path / "out").dtype == getattr(torch, dtype)


def family(name: str) -> object:
    """A tiny model whose tensors and settings are named otherwise than Llama's."""
    import transformers as t

    size = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    if name == "gemma3":
        return t.Gemma3ForCausalLM(t.Gemma3TextConfig(**size, **heads, sliding_window=8))
    if name == "mixtral":
        return t.MixtralForCausalLM(t.MixtralConfig(**size, **heads, num_local_experts=4))
    return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=64, n_embd=16, n_layer=3, n_head=2, n_positions=32))


@pytest.mark.parametrize("name", ["gemma3", "mixtral", "gpt2"])
def test_other_families_merge_stack_and_load(name: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        family(name).save_pretrained(tmp_path / str(seed))
    first, second = str(tmp_path / "0"), str(tmp_path / "1")
    entry = {"model": second, "parameters": {"weight": 0.5, "density": 0.5}}
    whole = {"merge_method": "ties", "base_model": first, "models": [entry]}
    pieces = [{"sources": [{"model": m, "layer_range": r}]} for m, r in ((first, [0, 2]), (second, [1, 3]))]
    stack = {"merge_method": "passthrough", "slices": pieces}
    for folder, document, count in (("whole", whole, 3), ("stack", stack, 4)):
        merge(Recipe.from_dict(document), tmp_path / folder, shard_size=9000)
        model = load(tmp_path / folder)
        assert model.config.num_hidden_layers == count
        assert model(torch.arange(5)[None]).logits.isfinite().all()


def test_out_dtype_is_written_and_told(siblings: Siblings, tmp_path: Path) -> None:
    merge(recipe(siblings, dtype="float32", out_dtype="bfloat16"), tmp_path / "out")
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    merge(recipe(siblings), tmp_path / "whole")
    rounded = {name: tensor.bfloat16() for name, tensor in weights(tmp_path / "whole").items()}
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in weights(tmp_path / "out").items())


def test_a_tied_and_an_untied_model_give_an_untied_one(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    tied = tiny_llama(tmp_path / "tied", seed=1, tie_word_embeddings=True)
    untied = tiny_llama(tmp_path / "untied", seed=2, tie_word_embeddings=False)
    average = Recipe.from_dict({"merge_method": "linear", "models": [{"model": str(tied)}, {"model": str(untied)}]})
    result = merge(average, tmp_path / "out")
    ours, first, second = weights(tmp_path / "out"), weights(tied), weights(untied)
    expected = (first["model.embed_tokens.weight"] + second["lm_head.weight"]) / 2
    torch.testing.assert_close(ours["lm_head.weight"], expected)
    assert any("ties its head" in problem.message for problem in result.plan.warnings)
    model = load(tmp_path / "out")
    assert torch.equal(model.lm_head.weight, ours["lm_head.weight"])
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_same_bytes_for_any_shard_size_and_thread_count(siblings: Siblings, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    runs = []
    try:
        for number, (shard_size, count) in enumerate([(10**9, 1), (1, 2), (9000, 2)]):
            torch.set_num_threads(count)
            runs.append(merge(recipe(siblings, "dare_ties"), tmp_path / str(number), shard_size=shard_size))
    finally:
        torch.set_num_threads(threads)
    assert runs[0].tensors == runs[1].tensors == runs[2].tensors
    assert [len(run.plan.shards) for run in runs] == [1, 29, 5]
    for name, tensor in weights(tmp_path / "1").items():
        assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == runs[0].tensors[name]
    assert (tmp_path / "0/model.safetensors").is_file()
    assert not list((tmp_path / "0").glob("*.index.json"))
    assert load(tmp_path / "2").dtype == torch.float32


def test_shards_are_those_that_safetensors_itself_would_accept(siblings: Siblings, tmp_path: Path) -> None:
    result = merge(recipe(siblings), tmp_path / "out", shard_size=9000)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    stored = weights(tmp_path / "out")
    assert index["weight_map"].keys() == stored.keys() == result.tensors.keys()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in stored.values()) == result.plan.output_bytes
    for shard in result.plan.shards:
        assert shard.nbytes <= 9000 or len(shard.names) == 1
        assert (tmp_path / "out" / shard.file).read_bytes()[8:].startswith(b'{"__metadata__":{"format":"pt"}')


def test_integers_are_copied_where_equal(siblings: Siblings, tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", seed=1)
    other = tiny_llama(tmp_path / "other", seed=2)
    for folder in (base, other):
        rewrite(folder, {"model.steps": torch.tensor([3, 4]), "model.flag": torch.tensor(True)})
    average = Recipe.from_dict({"merge_method": "linear", "models": [{"model": str(base)}, {"model": str(other)}]})
    merge(average, tmp_path / "out")
    assert weights(tmp_path / "out")["model.steps"].tolist() == [3, 4]
    assert weights(tmp_path / "out")["model.flag"].item() is True
    rewrite(other, {"model.steps": torch.tensor([3, 5])})
    with pytest.raises(SourceError, match=r"model\.steps holds integers"):
        merge(average, tmp_path / "out2")


def test_tokenizer_template_and_generation_settings_are_carried_over(
    siblings: Siblings, tiny_tokenizer: object, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    merge(recipe(siblings), tmp_path / "out", files={"README.md": b"# Card\n"})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    assert tokenizer.chat_template == tiny_tokenizer.chat_template
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == tokenizer.eos_token_id
    assert (tmp_path / "out/README.md").read_bytes() == b"# Card\n"
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}!"
    merge(recipe(siblings, chat_template=template), tmp_path / "own")
    assert AutoTokenizer.from_pretrained(tmp_path / "own").chat_template == template


def test_manifest_says_what_the_model_was_made_from(siblings: Siblings, tmp_path: Path) -> None:
    result = merge(recipe(siblings), tmp_path / "out", shard_size=9000)
    manifest = json.loads((tmp_path / "out/hubmerge.json").read_text())
    assert Recipe.from_dict(manifest["recipe"]) == result.plan.recipe
    for file, shard in manifest["shards"].items():
        content = (tmp_path / "out" / file).read_bytes()
        header = content[: 8 + int.from_bytes(content[:8], "little")]
        assert (len(content), hashlib.sha256(header).hexdigest()) == (shard["nbytes"], shard["header"])
    recorded = {name: digest for shard in manifest["shards"].values() for name, digest in shard["tensors"].items()}
    assert recorded == result.tensors


def test_progress_counts_every_byte(siblings: Siblings, tmp_path: Path) -> None:
    events: list[Event] = []
    result = merge(recipe(siblings), tmp_path / "out", shard_size=9000, progress=events.append)
    done = [event.done for event in events]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, result.plan.output_bytes)
    assert {(event.stage, event.unit, event.total) for event in events} == {("merge", "B", result.plan.output_bytes)}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(
    bad: float, siblings: Siblings, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    broken = tiny_llama(tmp_path / "broken", seed=5, sibling_of=siblings["base"])
    name = "model.layers.1.mlp.up_proj.weight"
    tensor = weights(broken)[name]
    tensor[3, 2] = bad
    rewrite(broken, {name: tensor})
    with pytest.raises(SourceError, match=rf"{name} of {broken} has NaN or infinite values"):
        merge(recipe({**siblings, "math": broken}), tmp_path / "out", shard_size=4000)
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left
    assert all(name == ".hubmerge" or name.startswith("model-0000") for name in left), "nothing looks finished"
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_result_too_large_for_its_dtype_is_named(siblings: Siblings, tmp_path: Path) -> None:
    entries = [{"model": str(siblings["math"]), "parameters": {"weight": 1e9}}]
    with pytest.raises(SourceError, match=r"too large for F16; set out_dtype to bfloat16 or float32"):
        merge(recipe(siblings, "task_arithmetic", models=entries, out_dtype="float16"), tmp_path / "out")


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_shard_cut_short_is_refused_before_anything_is_written(
    size: int, siblings: Siblings, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    cut = tiny_llama(tmp_path / "cut", seed=5, sibling_of=siblings["base"])
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[:size])
    with pytest.raises(SourceError, match=r"model\.safetensors of .*cut.*fetch it again"):
        merge(recipe({**siblings, "math": cut}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shard_cut_short_after_planning_is_refused(
    siblings: Siblings, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    cut = tiny_llama(tmp_path / "cut", seed=5, sibling_of=siblings["base"])
    plan = make_plan(recipe({**siblings, "math": cut}))
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[:20_000])
    with pytest.raises(SourceError, match="changed while it was being used"):
        merge(plan, tmp_path / "out")
    assert not (tmp_path / "out/config.json").exists()


def test_too_little_disk_is_said_before_the_work(
    siblings: Siblings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(recipe(siblings))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(ResourceError, match=r"has 1 MB free and the merge needs .*; make room or choose another"):
        merge(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [problem.error for problem in make_plan(recipe(siblings), out=tmp_path / "out").errors] == [ResourceError]


def test_a_full_disk_in_the_middle_is_one_sentence_and_can_be_resumed(
    siblings: Siblings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hubmerge.stream.writer as writer

    plan = make_plan(recipe(siblings), shard_size=9000)
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 16:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left on device; make room"):
        merge(plan, tmp_path / "out")
    monkeypatch.undo()
    result = merge(plan, tmp_path / "out")
    assert result.kept > 0
    assert result.tensors == merge(plan, tmp_path / "whole").tensors


def test_the_result_cannot_replace_a_source(siblings: Siblings) -> None:
    with pytest.raises(PlanError, match="is one of the models to merge"):
        merge(recipe(siblings), siblings["math"], overwrite=True)


def test_interrupted_work_stops_cleanly_and_goes_on(siblings: Siblings, tmp_path: Path) -> None:
    plan = make_plan(recipe(siblings), shard_size=9000)

    def stop(event: Event) -> None:
        if event.done > 20_000:
            raise Interrupted("Stopped.")

    with pytest.raises(Interrupted):
        merge(plan, tmp_path / "out", progress=stop)
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert not (tmp_path / "out/config.json").exists()
    told: list[Event] = []
    result = merge(plan, tmp_path / "out", progress=told.append)
    assert result.kept == 2
    there = sum(shard.nbytes for shard in plan.shards[:2])
    assert {event.kept for event in told if event.stage == "merge" and event.done > there} == {there}
    assert result.tensors == merge(plan, tmp_path / "whole").tensors


def test_in_slices_a_filter_is_about_the_names_that_each_model_has(siblings: Siblings, tmp_path: Path) -> None:
    by_layer = [{"filter": "layers.1.", "value": 3.0}, {"value": 1.0}]
    sources = [
        {"model": str(siblings["math"]), "layer_range": [1, 2]},
        {"model": str(siblings["japanese"]), "layer_range": [0, 1]},
    ]
    document = {"merge_method": "linear", "parameters": {"weight": by_layer}, "slices": [{"sources": sources}]}
    merge(Recipe.from_dict(document), tmp_path / "out")
    first, second = weights(siblings["math"]), weights(siblings["japanese"])
    for part in ("mlp.up_proj.weight", "self_attn.q_proj.weight"):
        merged = weights(tmp_path / "out")[f"model.layers.0.{part}"]
        expected = (3 * first[f"model.layers.1.{part}"] + second[f"model.layers.0.{part}"]) / 4
        assert torch.allclose(merged, expected, atol=1e-7)
