"""Models as GGUF files: every kind of model comes back as it was, what llama.cpp computes otherwise is refused."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ggufmodels import MODELS, build, bytewise, pieces
from huggingface_hub import HfApi
from streamtools import rewrite, weights
from transformers import AutoModelForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from hubmerge.errors import HubmergeError, PlanError, RecipeError, SourceError
from hubmerge.evaluate.models import load_model
from hubmerge.gguf import conversion
from hubmerge.gguf.formats import BLOCK, FORMATS, allowed, find_format
from hubmerge.gguf.settings import keys_of
from hubmerge.gguf.tensors import ROWS
from hubmerge.hub import open_source
from hubmerge.hub.gguf.naming import ARCHITECTURES
from hubmerge.hub.source import Source
from hubmerge.reference import ModelRef
from hubmerge.stream.architecture import completed
from hubmerge.zoo.publish import publish

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")


def written(folder: Path, kind: str, out: Path) -> Path:
    conversion.write_gguf(conversion.plan_gguf(open_source(str(folder)), kind), out)
    return out


@pytest.mark.parametrize("name", MODELS)
def test_each_kind_of_model_comes_back(name: str, tmp_path: Path) -> None:
    folder, model = build(tmp_path / "own", name)
    file = written(folder, "F32", tmp_path / "made" / "model.gguf")
    assert [one.name for one in file.parent.iterdir()] == ["model.gguf"]
    # Without anything of ours: llama.cpp's own reader and its own names.
    read = gguf.GGUFReader(file)
    arch = MODELS[name][0]
    numbers = {key: index for index, key in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[ARCHITECTURES[arch].name], model.config.num_hidden_layers)
    stored = {tensor.name for tensor in read.tensors}
    for ours in weights(folder):
        stem, _, last = re.sub(r"experts\.\d+\.", "experts.", ours).rpartition(".")
        theirs = names.get_name(stem.replace("block_sparse_moe.experts", "block_sparse_moe.experts"), ("",))
        if "block_sparse_moe.experts" in stem:  # the converter renames these by itself, as listed there
            theirs = names.get_name(stem.replace("model.", "").replace("block_sparse_moe", "feed_forward"), ("",))
        assert f"{theirs}.{last}" in stored
    # And read by us, as transformers computes with it.
    again, tokenizer = load_model(str(file), dtype="float32")
    ids = tokenizer("It's 12 apples and 3 pears.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_holds_what_it_promises(kind: str, tmp_path: Path) -> None:
    folder, _ = build(tmp_path / "own", "llama")
    sizes = {name: written(folder, name, tmp_path / f"{name}.gguf").stat().st_size for name in ("F32", kind)}
    share = {"F32": 1, "F16": 1 / 2, "BF16": 1 / 2, "Q8_0": 34 / 128}.get(kind, 24 / 128)
    assert sizes[kind] < sizes["F32"] * share + 60_000
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / f"{kind}.gguf").tensors}
    assert read["blk.0.ffn_up.weight"].tensor_type.name == kind
    assert read["blk.0.attn_norm.weight"].tensor_type.name == "F32"
    assert read["token_embd.weight"].tensor_type.name == (FORMATS[kind].others or kind)


@pytest.mark.parametrize("kind", [one for one in FORMATS if one.startswith("Q")])
def test_what_is_allowed_is_enough_and_not_much_more(kind: str) -> None:
    numbers = (
        torch.randn(4096, BLOCK, generator=torch.Generator().manual_seed(3)) * torch.logspace(-6, 4, 4096)[:, None]
    )
    packed = gguf.quants.quantize(numbers.numpy(), gguf.GGMLQuantizationType[kind])
    off = (torch.from_numpy(gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])) - numbers).abs()
    most = allowed(numbers, FORMATS[kind])
    assert bool((off <= most).all()) and float((off / most).max()) > 0.4


def test_no_more_than_some_rows_are_held(tmp_path: Path, monkeypatch) -> None:
    folder, _ = build(tmp_path / "own", "llama", vocab_size=40_000)
    read, seen = Source.read_range, []

    def counted(source: Source, file: str, start: int, stop: int) -> memoryview:
        seen.append(stop - start)
        return read(source, file, start, stop)

    planned = conversion.plan_gguf(open_source(str(folder)), "Q8_0")
    monkeypatch.setattr(Source, "read_range", counted)
    conversion.write_gguf(planned, tmp_path / "m.gguf")
    assert 2 * max(seen) < 64 * 40_000 * 4 and max(seen) <= 4 * ROWS
    assert sum(seen) > 2 * 64 * 40_000 * 4, "written once and compared once"


def test_what_reading_back_finds(tmp_path: Path, monkeypatch) -> None:
    folder, _ = build(tmp_path / "own", "llama")
    planned = conversion.plan_gguf(open_source(str(folder)), "Q8_0")
    quantize = gguf.quants.quantize

    def harmed(rows, kind):
        made = quantize(rows, kind)
        if made.shape[0] == 96:
            made[5, 7] ^= 64
        return made

    monkeypatch.setattr(gguf.quants, "quantize", harmed)
    with pytest.raises(
        PlanError, match=r"blk\.0\.ffn_gate\.weight of m\.gguf was read back otherwise than Q8_0 allows"
    ):
        conversion.write_gguf(planned, tmp_path / "m.gguf")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["own"]


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        (
            "llama",
            {"hidden_act": "gelu"},
            "has hidden_act: 'gelu', and llama.cpp computes such models with 'silu' alone",
        ),
        (
            "llama",
            {"model_type": "opt"},
            "is a opt model, which is not written as GGUF; the kinds that are: llama, mistral",
        ),
        ("qwen2", {"use_sliding_window": True}, "has use_sliding_window: True"),
        ("qwen3_moe", {"norm_topk_prob": False}, "has norm_topk_prob: False"),
        (
            "gemma2",
            {"query_pre_attn_scalar": 7},
            "has query_pre_attn_scalar: 7, and llama.cpp computes such models with 32",
        ),
        ("gemma2", {"layer_types": ["full_attention"] * 3}, "that llama.cpp does not know"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "positions by dynamic",
        ),
    ],
)
def test_what_llama_cpp_computes_otherwise(name: str, settings: dict, reason: str, tmp_path: Path) -> None:
    folder, _ = build(tmp_path / "own", name)
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | settings))
    with pytest.raises(SourceError, match=re.escape(reason)):
        conversion.plan_gguf(open_source(str(folder)), "Q8_0")


def test_a_window_that_llama_cpp_ignores_is_told(tmp_path: Path) -> None:
    folder, _ = build(tmp_path / "own", "mistral", sliding_window=16)
    planned = conversion.plan_gguf(open_source(str(folder)), "BF16")
    assert planned.remarks == ("llama.cpp lets such models see all positions, and not the last 16 alone.",)


def test_weights_that_cannot_be_stored(tmp_path: Path) -> None:
    folder, _ = build(tmp_path / "own", "llama")
    large = weights(folder)["model.layers.1.mlp.up_proj.weight"].clone()
    large[3, 3] = 70_000
    rewrite(folder, {"model.layers.1.mlp.up_proj.weight": large})
    with pytest.raises(SourceError, match=r"layers\.1\.mlp\.up_proj\.weight of .* float16 .*; write BF16"):
        written(folder, "F16", tmp_path / "m.gguf")
    written(folder, "BF16", tmp_path / "m.gguf")
    large[3, 3] = float("nan")
    rewrite(folder, {"model.layers.1.mlp.up_proj.weight": large})
    with pytest.raises(SourceError, match="has NaN or infinite values"):
        written(folder, "BF16", tmp_path / "n.gguf")
    rewrite(folder, {"model.layers.1.mlp.up_proj.weight": None, "model.layers.1.mlp.odd.weight": large})
    with pytest.raises(SourceError, match=r"has model\.layers\.1\.mlp\.odd\.weight, for which llama\.cpp has no place"):
        conversion.plan_gguf(open_source(str(folder)), "BF16")


def test_formats_that_only_llama_cpp_writes() -> None:
    with pytest.raises(RecipeError, match=r"Q4_K_M is written by llama.cpp's own program alone: write BF16, then run"):
        find_format("Q4_K_M")
    with pytest.raises(RecipeError, match=r"There is no format 'Q9' of GGUF here.* it is one of F32, F16"):
        find_format("Q9")
    assert find_format("q8_0") is FORMATS["Q8_0"]


def test_pieces_are_written(tmp_path: Path) -> None:
    folder, _ = build(tmp_path / "own", "llama", pieces(), bos_token_id=1, eos_token_id=2, pad_token_id=None)
    file = written(folder, "Q8_0", tmp_path / "m.gguf")
    _, tokenizer = load_model(str(file))
    assert tokenizer("It's 121 こんにちは")["input_ids"] == pieces()("It's 121 こんにちは")["input_ids"]


def test_the_command_and_the_flag(call, tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "other")):
        folder, _ = build(tmp_path / name, "llama")
        drawn = torch.Generator().manual_seed(seed)
        noise = {k: t + 0.01 * torch.randn(t.shape, generator=drawn) for k, t in weights(folder).items()}
        rewrite(folder, noise)
    models = [{"model": str(tmp_path / name)} for name in ("one", "other")]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"merge_method": "linear", "models": models, "dtype": "bfloat16"}))
    done = call("merge", recipe, "--out", tmp_path / "out", "--gguf", "Q8_0")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "out" / "out-Q8_0.gguf"
    assert f"Written {file}" in done.stdout and "read back and compared" in done.stdout
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- gguf\n" in card and "library_name: transformers" in card and "llama-cli -m out-Q8_0.gguf" in card
    done = call("merge", recipe, "--out", tmp_path / "out", "--gguf", "Q8_0")
    assert done.returncode == 0 and f"Already there: {file}" in done.stdout
    assert call("verify", tmp_path / "out").returncode == 0
    done = call("merge", recipe, "--out", tmp_path / "other-out", "--gguf", "Q4_K_M")
    assert done.returncode == 2 and "llama-quantize" in done.stderr and not (tmp_path / "other-out").exists()
    assert call("merge", recipe, "--push", "alice/out", "--gguf", "Q8_0").returncode == 2
    done = call("gguf", tmp_path / "out", "--type", "Q4_0", "--out", tmp_path / "small.gguf")
    assert done.returncode == 0, done.stderr
    done = call("gguf", tmp_path / "out", "--type", "BF16", "--out", tmp_path / "small.gguf")
    assert done.returncode == 2 and "is there already, and is not this model in BF16" in done.stderr
    done = call("gguf", tmp_path / "out", "--out", tmp_path / "small.txt")
    assert done.returncode == 2 and "small.txt is no GGUF file and no folder" in done.stderr
    assert not (tmp_path / "small.txt").exists()
    (tmp_path / "folder.gguf").mkdir()
    assert call("gguf", tmp_path / "out", "--out", tmp_path / "folder.gguf").returncode == 0
    assert (tmp_path / "folder.gguf" / "out-Q8_0.gguf").is_file()
    # A file of few bits is a model like others.
    assert call("gguf", tmp_path / "small.gguf", "--type", "BF16", "--out", tmp_path / "large.gguf").returncode == 0


def test_a_configuration_of_another_model(tmp_path: Path) -> None:
    folder, _ = build(tmp_path / "own", "llama")
    config = json.loads((folder / "config.json").read_text())
    for key, told, held in (("num_hidden_layers", 2, 3), ("hidden_size", 32, 64)):
        (folder / "config.json").write_text(json.dumps({**config, key: told, "head_dim": 16}))
        with pytest.raises(SourceError, match=rf"config\.json of .*own says {key}: {told}, its weights say {held}"):
            conversion.plan_gguf(open_source(str(folder)), "F32")


def test_a_model_without_its_head_is_told_so(tmp_path: Path) -> None:
    folder, model = build(tmp_path / "own", "llama")
    model.model.save_pretrained(folder)
    with pytest.raises(
        SourceError, match=r"in place of model\..*: it was saved without its head, .* save the whole model"
    ):
        conversion.plan_gguf(open_source(str(folder)), "F32")


def test_a_gguf_of_a_merge_before_is_not_pushed(call, hub, tmp_path: Path) -> None:
    models = []
    for seed in range(2):
        folder, _ = build(tmp_path / f"model-{seed}", "llama")
        drawn = torch.Generator().manual_seed(seed)
        rewrite(folder, {k: t + 0.05 * torch.randn(t.shape, generator=drawn) for k, t in weights(folder).items()})
        models.append({"model": str(folder), "parameters": {"weight": 1 + seed}})
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    document = {"merge_method": "linear", "models": models, "dtype": "bfloat16"}
    recipe.write_text(json.dumps(document))
    assert call("merge", recipe, "--out", out, "--gguf", "Q8_0").returncode == 0
    assert call("gguf", out, "--type", "F16", "--out", out / "out-F16.gguf").returncode == 0
    done = call("push", out, "alice/fresh-gguf")
    assert done.returncode == 0, done.stderr
    shutil.copy(out / "out-Q8_0.gguf", tmp_path / "mine.gguf")
    models[0]["parameters"]["weight"] = 5
    recipe.write_text(json.dumps(document))
    assert call("merge", recipe, "--out", out, "--overwrite").returncode == 0
    assert not [*out.glob("*.gguf")], "what was made of a merge goes with it"
    for name in ("out-F16.gguf", "out-Q8_0.gguf"):
        shutil.copy(tmp_path / "mine.gguf", out / name)
    assert call("merge", recipe, "--out", out, "--overwrite").returncode == 0
    for name in ("out-F16.gguf", "out-Q8_0.gguf"):
        done = call("push", out, "alice/stale-gguf")
        assert done.returncode == 2 and f"{name} in {out} is another model than" in " ".join(done.stderr.split())
        (out / name).unlink()
    content = written(out, "Q8_0", tmp_path / "whole.gguf").read_bytes()
    (out / "broken.gguf").write_bytes(content[:1000])
    done = call("push", out, "alice/stale-gguf")
    assert done.returncode == 2 and "broken.gguf" in done.stderr and "Traceback" not in done.stderr
    (out / "broken.gguf").write_bytes(content)
    done = call("push", out, "alice/stale-gguf")
    assert done.returncode == 0, done.stderr


def test_the_page_runs(call, hub, tmp_path: Path, monkeypatch) -> None:
    publish(hub.endpoint, "hf_alice")
    page = (Path(__file__).parent.parent / "docs" / "gguf.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(yaml|bash)\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(blocks["yaml"], encoding="utf-8")
    for line in blocks["bash"].replace("you/", "alice/").splitlines():
        done = call(*line.split()[1:])
        assert done.returncode == 0, done.stderr
    made = {"merged/merged-Q8_0.gguf", "merged-BF16.gguf", "zoo-math-Q4_0.gguf", "merged-F16.gguf"}
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.gguf")} == made
    call("push", "merged", "alice/merged")
    assert "merged-Q8_0.gguf" in {file.rfilename for file in HfApi().model_info("alice/merged").siblings}
    card = HfApi().model_info("alice/merged").card_data.to_dict()
    done = call("gguf", "merged", "--type", "Q4_0", "--push", "alice/merged")
    assert done.returncode == 2 and "alice/merged holds a model (hubmerge.json), whose card" in done.stderr
    assert HfApi().model_info("alice/merged").card_data.to_dict() == card and not Path("merged-Q4_0.gguf").exists()
    assert call("gguf", "alice/merged", "--type", "Q5_0", "--push", "alice/merged-GGUF").returncode == 0
    pushed = HfApi().model_info("alice/merged-GGUF")
    assert {"merged-F16.gguf", "merged-Q5_0.gguf"} < {file.rfilename for file in pushed.siblings}
    card = pushed.card_data.to_dict()
    assert card["library_name"] == "gguf" and card["base_model"] == ["alice/merged"] and "gguf" in card["tags"]
    assert card["base_model_relation"] == "quantized" and card["license"] == "apache-2.0"
    # From there a file is a model like others.
    assert open_source("alice/merged-GGUF/merged-Q5_0.gguf").config["model_type"] == "llama"


def test_without_the_package(tmp_path: Path, monkeypatch) -> None:
    folder, _ = build(tmp_path / "own", "llama")
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HubmergeError, match=r"run pip install 'hubmerge\[gguf\]'"):
        conversion.plan_gguf(open_source(str(folder)), "Q8_0")


@pytest.mark.parametrize("name", MODELS)
def test_keys_say_what_the_configuration_says(name: str, tmp_path: Path) -> None:
    """What is told in two ways by transformers (Qwen's number of experts) is told once here."""
    kind, _ = MODELS[name]
    folder, model = build(tmp_path / "own", name)
    config = completed(json.loads((folder / "config.json").read_text()))
    keys, _, _ = keys_of(config, ARCHITECTURES[kind], "it")
    assert keys["block_count"] == model.config.num_hidden_layers
    assert keys["attention.head_count_kv"] == 2 and keys["embedding_length"] == 64
    assert ("expert_count" in keys) == bool(ARCHITECTURES[kind].experts)
    assert isinstance(model, AutoModelForCausalLM._model_mapping[type(model.config)])


def test_the_language_model_of_one_that_sees(tmp_path: Path) -> None:
    plain, _ = build(tmp_path / "plain", "llama")
    config = LlavaConfig(
        text_config=json.loads((plain / "config.json").read_text()),
        vision_config={"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32}
        | {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8, "projection_dim": 8},
        image_token_index=519,
    )
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "seeing")
    bytewise().save_pretrained(tmp_path / "seeing")
    with pytest.raises(SourceError, match=r"is a llava model, .* inside write .*/seeing#language_model"):
        conversion.plan_gguf(open_source(str(tmp_path / "seeing")), "BF16")
    file = tmp_path / "part.gguf"
    part = open_source(f"{tmp_path / 'seeing'}#language_model")
    conversion.write_gguf(conversion.plan_gguf(part, "F32"), file)
    assert open_source(str(file)).config["hidden_size"] == 64


def test_a_model_whose_head_is_its_embedding(tmp_path: Path) -> None:
    folder, _ = build(tmp_path / "own", "gemma")
    shutil.copytree(folder, tmp_path / "headed")
    rewrite(tmp_path / "headed", {"lm_head.weight": weights(folder)["model.embed_tokens.weight"]})
    with pytest.raises(SourceError, match=r"has lm_head\.weight, for which llama\.cpp has no place in a gemma"):
        conversion.plan_gguf(open_source(str(tmp_path / "headed")), "BF16")
    assert len(bytewise()) < 520


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("org/model", "model-Q8_0.gguf"),
        ("org/several/one-Q4_0.gguf", "one-Q8_0.gguf"),
        ("org/several/one-bf16.gguf", "one-bf16-Q8_0.gguf"),
        ("org/several/own.safetensors", "own-Q8_0.gguf"),
    ],
)
def test_a_file_of_several_gives_its_own_name(model: str, name: str) -> None:
    ref = ModelRef.parse(model)
    source = SimpleNamespace(ref=ref, is_folder=False, title=ref.title)
    assert conversion.file_name(SimpleNamespace(source=source, format=SimpleNamespace(name="Q8_0"))) == name
