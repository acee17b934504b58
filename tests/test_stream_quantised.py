"""Weights in few bits: the numbers that the programs which packed them unpack, and merges of the same bytes as theirs.

tests/quantised/ holds small weights that those programs packed, beside what they unpack (make.py there).
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hubtools import publish
from safetensors.torch import load_file, save_file
from streamtools import weights
from test_stream_merge import Siblings, recipe
from torch import Tensor

from hubmerge.errors import SourceError
from hubmerge.evaluate.models import load_model
from hubmerge.hub import open_source
from hubmerge.hub.source import Source
from hubmerge.reference import ModelRef
from hubmerge.stream.compatibility import check_source
from hubmerge.stream.executor import merge
from hubmerge.stream.mapped import map_tensors
from hubmerge.stream.plan import make_plan, weights_of
from hubmerge.stream.weights import Reads

MADE = Path(__file__).parent / "quantised"
HOW: dict[str, dict] = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 32},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True},
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "compressed": {"quant_method": "compressed-tensors"},
    "mxfp4": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
}


def how_of(program: str, case: str) -> dict:
    """What config.json says of such weights."""
    if program != "compressed":
        return HOW[program]
    kind, _, rest = case.partition("-")
    said = {"type": "int", "num_bits": int(rest[0])} if kind == "rows" else {"type": "float", "num_bits": 4}
    layout = "pack-quantized" if kind == "rows" else f"{kind}-pack-quantized"
    return {**HOW[program], "format": layout, "config_groups": {"group_0": {"weights": said}}}


NOTHING = torch.zeros(9, dtype=torch.uint8)
STEM = "model.layers.0.mlp.up_proj"
ROUNDED = {"nf4": 2e-7, "nf4-nested": 2e-7, "fp4-nested": 2e-7, "int8": 2e-7, "nvfp4": 2**-7}
"""Those whose program multiplies in another order than is written down, or (NVFP4) in bfloat16, and by how much."""


def cases() -> list[tuple[str, str]]:
    return [
        (program, case)
        for program in HOW
        for case in dict.fromkeys(name.partition("/")[0] for name in load_file(MADE / f"{program}.safetensors"))
    ]


def stored(program: str, case: str) -> tuple[dict[str, Tensor], Tensor]:
    """What a program packed, under its names beside `STEM`, and what it unpacks."""
    found = {
        name.partition("/")[2]: tensor
        for name, tensor in load_file(MADE / f"{program}.safetensors").items()
        if name.partition("/")[0] == case
    }
    expected = found.pop("expected")
    return {f"{STEM}.{name}": tensor for name, tensor in found.items()}, expected


def folder(path: Path, tensors: dict[str, Tensor], how: dict | None, **config: object) -> Path:
    path.mkdir(exist_ok=True)
    document = {"model_type": "llama", "dtype": "float16", **config}
    if how is not None:
        document["quantization_config"] = how
    (path / "config.json").write_text(json.dumps(document))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "model.safetensors")
    return path


def read_all(source: Source, name: str, step: int) -> Tensor:
    """A weight read in pieces of `step` elements."""
    read, mapped = weights_of(source), dict(map_tensors(source))
    reads = Reads(lambda extent: mapped[extent.tensor.name].view(-1)[extent.start : extent.stop])
    tensor = read.tensors[name]
    pieces = [
        read.read(name, start, min(start + step, tensor.parameters), reads).clone()
        for start in range(0, tensor.parameters, step)
    ]
    return torch.cat(pieces).view(tensor.shape)


@pytest.mark.parametrize(("program", "case"), cases())
def test_the_numbers_that_the_program_unpacks(program: str, case: str, tmp_path: Path) -> None:
    tensors, expected = stored(program, case)
    source = open_source(ModelRef.parse(str(folder(tmp_path / "model", tensors, how_of(program, case)))))
    name = f"{STEM}.gate_up_proj" if program == "mxfp4" else f"{STEM}.weight"
    assert list(source.weights) == [name]
    assert (source.weights[name].shape, source.weights[name].dtype) == (tuple(expected.shape), "F16")
    for step in (expected.numel(), 1000, 77):
        found = read_all(source, name, step)
        if case in ROUNDED:
            torch.testing.assert_close(found, expected, rtol=ROUNDED[case], atol=0)
        else:
            # AutoAWQ multiplies in float16.
            assert torch.equal(found.to(torch.float16).float() if program == "awq" else found, expected)
    assert "quantization_config" not in source.config


def test_modelopt_multiplies_where_compressed_tensors_divides(tmp_path: Path) -> None:
    tensors, _ = stored("compressed", "nvfp4")
    models = [folder(tmp_path / "one", tensors, how_of("compressed", "nvfp4"))]
    tensors[f"{STEM}.weight"] = tensors.pop(f"{STEM}.weight_packed")
    tensors[f"{STEM}.weight_scale_2"] = 1 / tensors.pop(f"{STEM}.weight_global_scale")
    models.append(folder(tmp_path / "other", tensors, {"quant_method": "modelopt", "quant_algo": "NVFP4"}))
    sources = [open_source(ModelRef.parse(str(model))) for model in models]
    found = [read_all(source, f"{STEM}.weight", 1000) for source in sources]
    torch.testing.assert_close(*found, rtol=2e-7, atol=0)
    assert "in NVFP4; they are unpacked" in next(check_source(sources[1])).message


def test_int8_in_groups_with_zeros(tmp_path: Path) -> None:
    numbers = torch.arange(-96, 96, dtype=torch.int8).view(4, 48)
    scale, zero = torch.rand(4, 3) + 0.5, torch.arange(12, dtype=torch.int8).view(4, 3)
    tensors = {
        f"{STEM}.weight": numbers, f"{STEM}.weight_scale": scale, f"{STEM}.weight_zero_point": zero
    }  # fmt: skip
    how = {"quant_method": "compressed-tensors", "format": "int-quantized"}
    how["config_groups"] = {"group_0": {"weights": {"type": "int", "num_bits": 8}}}
    source = open_source(ModelRef.parse(str(folder(tmp_path / "model", tensors, how))))
    spread = [one.float().repeat_interleave(16, 1) for one in (scale, zero)]
    assert list(source.weights) == [f"{STEM}.weight"]
    assert torch.equal(read_all(source, f"{STEM}.weight", 50), (numbers - spread[1]) * spread[0])


def packed_model(model: Path, out: Path, program: str, how: dict) -> tuple[Path, Path]:
    """A tiny model with its up projections packed, and one with the numbers that they stand for in float32."""
    plain, small = weights(model), weights(model)
    tensors, expected = stored(program, {"gptq": "gptq-4", "awq": "awq", "bitsandbytes": "nf4"}[program])
    for name in [name for name in plain if name.endswith("up_proj.weight")]:
        assert plain[name].shape == expected.shape
        plain[name] = expected
        del small[name]
        small |= {one.replace(STEM, name.removesuffix(".weight")): tensor for one, tensor in tensors.items()}
    folders = []
    for kind, state in (("packed", small), ("plain", plain)):
        folders.append(Path(shutil.copytree(model, out / kind)))
        save_file({name: one.contiguous().clone() for name, one in state.items()}, out / kind / "model.safetensors")
    document = json.loads((model / "config.json").read_bytes()) | {"quantization_config": how}
    (folders[0] / "config.json").write_text(json.dumps(document))
    return folders[0], folders[1]


@pytest.fixture(scope="module")
def wide(tiny_llama, tmp_path_factory) -> Siblings:
    """A base and two siblings whose up projections are as large as the packed weights."""
    root = tmp_path_factory.mktemp("wide")
    base = tiny_llama(root / "base", seed=1, hidden_size=64, intermediate_size=32)
    others = {
        name: tiny_llama(root / name, seed=seed, sibling_of=base) for seed, name in ((2, "math"), (3, "japanese"))
    }
    return {"base": base, **others}


@pytest.mark.parametrize("program", ["gptq", "awq"])
def test_a_merge_has_the_bytes_of_one_of_plain_numbers(program: str, wide: Siblings, hub, tmp_path: Path) -> None:
    packed, plain = packed_model(wide["math"], tmp_path, program, HOW[program])
    repo_id = f"alice/in-{program}"
    publish(repo_id, {path.name: path.read_bytes() for path in packed.iterdir()})
    expected = merge(recipe({**wide, "math": plain}), tmp_path / "out-plain").tensors
    if program == "awq":  # whose program rounded to float16 what it shows
        expected = {name: one for name, one in expected.items() if "up_proj" not in name}
    found = merge(recipe({**wide, "math": packed}), tmp_path / "out-packed").tensors
    assert expected.items() <= found.items()
    plan = make_plan(recipe({**wide, "math": repo_id}), ranged=True)
    [said] = [one.message for one in plan.warnings if "unpacked" in one.message]
    assert said.startswith(f"{repo_id} stores 3 of its tensors in 4 bits ({program.upper()}, a factor for each 32); ")
    assert merge(plan, tmp_path / "streamed").tensors == found
    states = [load_model(str(one), dtype="float32")[0].state_dict() for one in (packed, plain)]
    name = "model.layers.1.self_attn.q_proj.weight" if program == "awq" else f"{STEM}.weight"
    assert torch.equal(states[0][name], states[1][name])


def test_what_older_files_say_beside_config_json(tmp_path: Path) -> None:
    for program, file, says in (
        ("gptq", "quantize_config.json", {"bits": 4, "group_size": 32, "desc_act": False}),
        ("awq", "quant_config.json", {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}),
    ):
        tensors, expected = stored(program, {"gptq": "gptq-4"}.get(program, program))
        tensors[f"{STEM}.bias"] = torch.zeros(32)  # which Llama has not: AutoGPTQ and AutoAWQ wrote some
        model = folder(tmp_path / program, tensors, None)
        with pytest.raises(SourceError, match=r"stores \S+qweight, which is quantised, and says nowhere how; use"):
            open_source(ModelRef.parse(str(model)))
        for other in ("bitsandbytes", "mxfp4"):
            lying = folder(tmp_path / f"{program}-as-{other}", tensors, {"quant_method": other, "load_in_4bit": True})
            with pytest.raises(SourceError, match="quantised"):
                open_source(ModelRef.parse(str(lying)))
        (model / file).write_text(json.dumps(says))
        source = open_source(ModelRef.parse(str(model)))
        assert list(source.weights) == [f"{STEM}.weight"]
        assert torch.equal(read_all(source, f"{STEM}.weight", 500).half(), expected.half())


@pytest.mark.parametrize(
    ("program", "how", "changes", "reason"),
    [
        ("gptq", {"checkpoint_format": "marlin"}, {}, r"is quantised \(gptq, marlin\) in a way that cannot be read"),
        ("awq", {"version": "gemv"}, {}, r"is quantised \(awq, gemv\) in a way that cannot be read"),
        ("gptq", {"quant_method": "hqq"}, {}, r"is quantised \(hqq\)"),
        ("gptq", {}, {"qzeros": None}, "without a fitting qzeros; use the model that it was made from"),
        ("gptq", {}, {"scales": torch.ones(3, 32).half()}, "shapes that are not those of GPTQ"),
        ("gptq", {}, {"g_idx": torch.zeros(5, dtype=torch.int32)}, "shapes that are not those of GPTQ"),
        ("awq", {}, {"qweight": torch.zeros(64, 5, dtype=torch.int32)}, "shapes that are not those of AWQ"),
        ("bitsandbytes", {}, {"weight": torch.zeros(7, dtype=torch.uint8)}, r"do not fit its own, \[16, 192\]"),
        ("bitsandbytes", {}, {"weight.quant_map": None}, "do not fit its own"),
        ("bitsandbytes", {}, {"weight.quant_state.bitsandbytes__nf4": NOTHING}, "quant_state"),
        ("bitsandbytes", {}, {"weight.quant_state.bitsandbytes__x": NOTHING}, "nf4 or fp4"),
        ("rows-4", {}, {"weight_shape": None}, "packed, without a fitting weight_shape"),
        ("rows-4", {}, {"weight_shape": torch.tensor([36, -96])}, "packed, in shapes that do not fit together"),
        ("rows-4", {}, {"weight_scale": torch.ones(36, 5)}, "packed, in shapes that do not fit together"),
        ("nvfp4", {}, {"weight_scale": torch.ones(36, 6)}, "in 4 bits with scales that do not fit it"),
        ("mxfp4", {}, {"gate_up_proj_scales": None}, "in blocks and scales that do not fit together"),
    ],
)  # fmt: skip
def test_other_layouts_are_refused(program: str, how: dict, changes: dict, reason: str, tmp_path: Path) -> None:
    case = {"gptq": "gptq-4", "bitsandbytes": "nf4", "mxfp4": "experts"}.get(program, program)
    program = program if program in HOW else "compressed"
    tensors, _ = stored(program, case)
    tensors |= {f"{STEM}.{name}": tensor for name, tensor in changes.items()}
    left = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    with pytest.raises(SourceError, match=reason):
        open_source(ModelRef.parse(str(folder(tmp_path / "model", left, how_of(program, case) | how))))


def test_what_only_the_numbers_show(tmp_path: Path) -> None:
    tensors, _ = stored("gptq", "gptq-4-in-another-order")
    tensors[f"{STEM}.g_idx"] = tensors[f"{STEM}.g_idx"] + 1
    source = open_source(ModelRef.parse(str(folder(tmp_path / "groups", tensors, HOW["gptq"]))))
    with pytest.raises(SourceError, match=f"{STEM}.weight of .* puts an input into a group that it does not have"):
        read_all(source, f"{STEM}.weight", 1000)
    tensors, _ = stored("bitsandbytes", "nf4")
    tensors, _ = stored("bitsandbytes", "int8")
    tensors[f"{STEM}.weight_format"] = torch.tensor(2, dtype=torch.uint8)
    with pytest.raises(SourceError, match="in the order of some GPU, and not row by row"):
        open_source(ModelRef.parse(str(folder(tmp_path / "format", tensors, HOW["bitsandbytes"]))))
    tensors, _ = stored("awq", "awq")
    tensors[f"{STEM}.scales"][0, 0] = 60000.0
    source = open_source(ModelRef.parse(str(folder(tmp_path / "large", tensors, HOW["awq"]))))
    assert read_all(source, f"{STEM}.weight", 1000).abs().max() > 1e5  # float32 holds what float16 would not


def test_models_that_turn_their_matrices(tmp_path: Path) -> None:
    tensors, _ = stored("gptq", "gptq-4")
    with pytest.raises(SourceError, match="models of the kind gpt2 store their matrices turned"):
        open_source(ModelRef.parse(str(folder(tmp_path / "model", tensors, HOW["gptq"], model_type="gpt2"))))


def test_a_lora_on_top(wide: Siblings, tmp_path: Path) -> None:
    packed, plain = packed_model(wide["math"], tmp_path, "gptq", HOW["gptq"])
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    factors = {
        f"base_model.model.{STEM}.lora_{one}.weight": torch.randn(shape, generator=torch.Generator().manual_seed(1))
        for one, shape in (("A", (2, 64)), ("B", (32, 2)))
    }
    save_file(factors, lora / "adapter_model.safetensors")
    results = [
        merge(recipe({**wide, "math": f"{one}+{lora}"}), tmp_path / f"out-{one.name}") for one in (packed, plain)
    ]
    assert results[0].tensors == results[1].tensors
    states = [load_model(f"{one}+{lora}", dtype="float32")[0].state_dict() for one in (packed, plain)]
    assert torch.equal(states[0][f"{STEM}.weight"], states[1][f"{STEM}.weight"])
