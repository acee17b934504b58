"""Models in GGUF: the numbers that llama.cpp's own reader has, and merges of the same bytes as of safetensors."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from gguftools import F16, Q4_0, Q8_0, write_gguf
from hubtools import publish
from safetensors.torch import load_file, save_file
from test_stream_merge import Siblings, recipe

from hubmerge.errors import PlanError, SourceError
from hubmerge.evaluate.models import load_model
from hubmerge.hub import open_source
from hubmerge.hub.gguf.naming import ARCHITECTURES
from hubmerge.hub.listing import Licence
from hubmerge.hub.quantised.ggml import TYPES
from hubmerge.reference import ModelRef
from hubmerge.stream.carried import Carried
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.unpacking.ggml import dequantise
from hubmerge.terminal import show_plan

MADE = load_file(Path(__file__).parent / "quantised" / "gguf.safetensors")
TOKENS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": [*(chr(place) for place in range(33, 96)), "AB"],
    "tokenizer.ggml.token_type": [1] * 60 + [3, 4, 6, 1],
    "tokenizer.ggml.scores": [0.5] * 64,
    "tokenizer.ggml.merges": ["A B"],
    "tokenizer.ggml.bos_token_id": 60,
    "tokenizer.ggml.eos_token_id": 61,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.chat_template": "{{ messages }}",
}
KINDS = {"embed_tokens": F16, "down_proj": Q4_0, "proj": Q8_0}


@pytest.mark.parametrize("kind", TYPES.values(), ids=lambda kind: kind.name)
def test_the_numbers_that_gguf_unpacks(kind) -> None:
    found = dequantise(MADE[f"{kind.name}/numbers"], kind)
    torch.testing.assert_close(found, MADE[f"{kind.name}/expected"], rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def wide(tiny_llama, tmp_path_factory) -> Siblings:
    """A base and two siblings whose rows are whole blocks, with fewer keys than queries."""
    root = tmp_path_factory.mktemp("wide")
    base = tiny_llama(root / "base", seed=1, hidden_size=64, num_attention_heads=4, num_hidden_layers=2)
    others = {
        name: tiny_llama(root / name, seed=seed, sibling_of=base) for seed, name in ((2, "math"), (3, "japanese"))
    }
    return {"base": base, **others}


def in_gguf(model: Path, out: Path, **settings) -> tuple[Path, Path]:
    """A model in GGUF alone, and one in safetensors with the numbers that it stands for."""
    stands = write_gguf(model, out / "gguf" / "model-q8.gguf", KINDS, **settings)
    plain = Path(shutil.copytree(model, out / "plain"))
    save_file({name: tensor.contiguous() for name, tensor in stands.items()}, plain / "model.safetensors")
    return out / "gguf", plain


def test_same_bytes_as_from_safetensors(wide: Siblings, hub, tmp_path: Path) -> None:
    small, plain = in_gguf(wide["math"], tmp_path)
    expected = merge(recipe({**wide, "math": plain}), tmp_path / "expected").tensors
    plan = make_plan(recipe({**wide, "math": small}))
    assert merge(plan, tmp_path / "folder").tensors == expected
    assert any("in GGUF (Q4_0, Q8_0); they are unpacked" in one.message for one in plan.warnings)
    content = (small / "model-q8.gguf").read_bytes()
    publish("alice/in-gguf", {"model-q8.gguf": content, "model-q2.gguf": b"GGUF"})
    with pytest.raises(SourceError, match=r"has 2 GGUF files; name the one that is meant: alice/in-gguf/model-q2.gguf"):
        open_source(ModelRef.parse("alice/in-gguf"))
    ranged = make_plan(recipe({**wide, "math": "alice/in-gguf/model-q8.gguf"}), ranged=True)
    assert merge(ranged, tmp_path / "ranged").tensors == expected
    named = recipe({**wide, "math": small / "model-q8.gguf"})
    assert merge(named, tmp_path / "named").tensors == expected


def test_what_the_header_tells(wide: Siblings, tmp_path: Path) -> None:
    small, plain = in_gguf(wide["math"], tmp_path)
    config = open_source(ModelRef.parse(str(small))).config
    theirs = json.loads((plain / "config.json").read_bytes())
    same = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    assert {key: config[key] for key in (*same, "head_dim", "vocab_size", "tie_word_embeddings")} == {
        key: theirs[key] for key in (*same, "head_dim", "vocab_size", "tie_word_embeddings")
    }
    assert config["rms_norm_eps"] == pytest.approx(theirs["rms_norm_eps"])
    with pytest.raises(SourceError, match="a tokenizer of a kind that is not read from GGUF, so it cannot be asked"):
        load_model(str(small))
    for other in ({"name": "of a web page"}, {**theirs, "model_type": "bert"}):
        (small / "config.json").write_text(json.dumps(other))
        with pytest.raises(
            SourceError, match=r"holds a llama, and config\.json beside it says model_type: .*of its own"
        ):
            open_source(ModelRef.parse(str(small / "model-q8.gguf")))
    (small / "config.json").write_text(json.dumps({**theirs, "rms_norm_eps": 0.5}))
    assert open_source(ModelRef.parse(str(small))).config["rms_norm_eps"] == 0.5


def test_files_of_one_folder_are_told_apart_with_their_licences(wide: Siblings, tmp_path: Path, capsys) -> None:
    told = {"general.license": "other", "general.license.name": "mine", "general.license.link": "https://example.org"}
    write_gguf(wide["math"], tmp_path / "one.gguf", KINDS, more=told)
    write_gguf(wide["math"], tmp_path / "two.gguf", KINDS, more={"general.license": "mit"})
    plan = make_plan(recipe({"base": wide["base"], "math": tmp_path / "one.gguf", "japanese": tmp_path / "two.gguf"}))
    assert plan.sources[1].licence == Licence("other", "mine", "https://example.org")
    show_plan(plan)
    shown = "".join(capsys.readouterr().out.split())
    assert "one.gguf" in shown and "two.gguf" in shown and "No licence is stated by ./base" not in shown
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert open_source(ModelRef.parse(str(tmp_path / "one.gguf"))).licence.id == "apache-2.0"


def test_mistral_is_llama_to_llama_cpp(wide: Siblings, tmp_path: Path) -> None:
    small, plain = in_gguf(wide["math"], tmp_path)
    base = Path(shutil.copytree(wide["base"], tmp_path / "base"))
    config = json.loads((base / "config.json").read_bytes())
    mistral = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None}
    (base / "config.json").write_text(json.dumps({**config, **mistral}))
    make_plan(recipe({**wide, "base": base, "math": small, "japanese": small})).require()
    with pytest.raises(PlanError, match="is a llama model and"):
        make_plan(recipe({**wide, "base": base, "math": plain, "japanese": plain})).require()


def test_norms_with_one_added(wide: Siblings, tmp_path: Path) -> None:
    small, plain = in_gguf(wide["math"], tmp_path, name="gemma", more={"gemma.attention.key_length": 16})
    assert open_source(ModelRef.parse(str(small))).config["model_type"] == "gemma"
    shutil.copy(plain / "config.json", small)
    results = [merge(recipe({**wide, "math": one}), tmp_path / f"out-{one.name}").tensors for one in (small, plain)]
    assert results[0] == results[1]


def test_a_merge_of_bare_files_can_be_asked(wide: Siblings, tmp_path: Path) -> None:
    from ggufmodels import bytewise

    from hubmerge.gguf.tokens import keys_of

    tokenizer, rows = bytewise(), len(bytewise())
    files = {}
    for name in ("base", "math"):
        model = load_model(str(wide[name]))[0]
        model.resize_token_embeddings(rows, mean_resizing=False)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        told = keys_of(Carried(open_source(str(tmp_path / name))), {}, rows, name).keys
        files[name] = tmp_path / f"{name}-gguf" / "model.gguf"
        write_gguf(tmp_path / name, files[name], {}, more=told)
    result = merge(recipe({"base": files["base"], "math": files["math"], "japanese": files["base"]}), tmp_path / "out")
    assert result.tensors
    answers = [load_model(str(one))[1] for one in (files["base"].parent, tmp_path / "out", tmp_path / "base")]
    asked = [{"role": "user", "content": "It's 3 o'clock."}]
    prompts = [one.apply_chat_template(asked, tokenize=True)["input_ids"] for one in answers]
    assert prompts[0] == prompts[1] == prompts[2]
    assert not (files["base"].parent / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"general.architecture": "mamba"}, "is a 'mamba' in GGUF, which is not read; use the model"),
        ({"llama.rope.scaling.type": "yarn"}, "does not tell all of its configuration"),
        ({"llama.rope.scaling.type": "linear"}, "does not tell all of its configuration"),
        ({"llama.rope.freq_base": -1.0}, "differs from layer to layer in its heads or positions"),
        ({"llama.expert_count": 4, "llama.expert_used_count": 2}, r"lacks blk\.0\.ffn_down_exps\.weight"),
        ({"llama.expert_count": 5000}, "is a 'llama' with experts in GGUF, which is not read"),
        ({"llama.attention.head_count_kv": [2, 2]}, "differs from layer to layer in num_key_value_heads"),
        ({"llama.block_count": "two"}, "does not tell llama.block_count"),
        ({"split.count": 2}, "is one of several parts of a model; join them"),
        ({"llama.attention.head_count": 3}, "has 64 rows, not those of its heads"),
        ({"general.alignment": 0}, "is damaged at byte"),
        ({"llama.block_count": 9}, r"tells of 9 blocks and holds \d"),
        ({"llama.feed_forward_length": 96}, r"holds blk\.0\.ffn_up of \[\d+, 64\], not the \[96, 64\]"),
        ({"llama.embedding_length": 96, "llama.attention.head_count": 4}, r"holds blk\.0\.ffn_up of"),
    ],
)
def test_what_is_refused(more: dict, reason: str, wide: Siblings, tmp_path: Path) -> None:
    write_gguf(wide["math"], tmp_path / "model.gguf", {}, more=more)
    with pytest.raises(SourceError, match=reason):
        open_source(ModelRef.parse(str(tmp_path)))


def test_experts_in_a_tensor_each_as_older_files_have_them() -> None:
    known = ARCHITECTURES["mixtral"]
    place = "model.layers.3.block_sparse_moe.experts"
    assert known.names("blk.3.ffn_down.7.weight", 8) == [f"{place}.7.w2.weight"]
    assert known.names("blk.3.ffn_gate_exps.weight", 2) == [f"{place}.{one}.w1.weight" for one in (0, 1)]
    assert (
        known.names("blk.3.ffn_gate.weight", 2) is None
        and ARCHITECTURES["llama"].names("blk.3.ffn_gate.0.weight") is None
    )
    assert known.stored(f"{place}.7.w3.weight") == ("blk.3.ffn_up_exps.weight", 7)
    assert known.stored("model.layers.3.mlp.gate.weight") == known.stored("model.layers.3.block_sparse_moe.gate.weight")


def test_a_block_without_a_matrix_is_not_made_up(wide: Siblings, tmp_path: Path) -> None:
    from streamtools import rewrite

    lacking = shutil.copytree(wide["math"], tmp_path / "lacking")
    rewrite(lacking, {"model.layers.1.mlp.down_proj.weight": None})
    write_gguf(lacking, tmp_path / "model.gguf", {})
    with pytest.raises(SourceError, match=r"lacks blk\.1\.ffn_down\.weight, which its other blocks have"):
        open_source(ModelRef.parse(str(tmp_path / "model.gguf")))


@pytest.mark.parametrize("tokens", [{}, TOKENS])
def test_harmed_files(tokens: dict, wide: Siblings, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(wide["math"], file, KINDS, more=tokens)
    content = file.read_bytes()
    header = 2000 + content.index(b"output_norm")
    generator = torch.Generator().manual_seed(1)
    for _ in range(100 if tokens else 300):
        harmed = bytearray(content)
        for at in torch.randint(0, header, (3,), generator=generator).tolist():
            harmed[at] = int(torch.randint(0, 256, (1,), generator=generator))
        cut = int(torch.randint(0, len(content), (1,), generator=generator))
        for one in (harmed, content[:cut]):
            file.write_bytes(one)
            with suppress(SourceError):
                open_source(ModelRef.parse(str(tmp_path)))
