"""Makes the files beside it: one small weight in each layout, packed and unpacked by the programs that people use.

Not run by the tests, which only read what it made: `python make.py` wants auto-gptq 0.7.1, autoawq 0.2.9, bitsandbytes
0.50.2, compressed-tensors 0.20.1 and gguf 0.19.0. Each tensor is called CASE/NAME; CASE/expected is what the program
itself unpacks, and CASE/shape its shape.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).parent
Tensors = dict[str, Tensor]


def random(rows: int, columns: int, seed: int) -> Tensor:
    """A weight as models have them."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05


def module(name: str, file: str):
    """A file of a package whose own imports want a GPU."""
    root = Path(importlib.util.find_spec(name).submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location(f"only_{name}", root / file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def gptq() -> Tensors:
    plain = module("auto_gptq", "nn_modules/qlinear/qlinear_cuda_old.py")
    with_order = module("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py")
    found: Tensors = {}
    for bits, ordered in ((2, True), (3, True), (4, True), (4, False), (8, True)):
        outputs, inputs, group = 32, 64, 32
        weight = random(outputs, inputs, bits).half().float()
        order = torch.arange(inputs) // group
        if not ordered:
            order = order[torch.randperm(inputs, generator=torch.Generator().manual_seed(1))]
        scales, zeros = torch.empty(outputs, 2), torch.empty(outputs, 2)
        for number in range(2):
            part = weight[:, order == number]
            low, high = part.amin(1).clamp(max=-1e-3), part.amax(1).clamp(min=1e-3)
            scales[:, number] = ((high - low) / (2**bits - 1)).half().float()
            zeros[:, number] = (-low / scales[:, number]).round().clamp(1, 2**bits - 1)
        used = scales[:, order]
        weight = (((weight / used).round() + zeros[:, order]).clamp(0, 2**bits - 1) - zeros[:, order]) * used
        layer = torch.nn.Linear(inputs, outputs, bias=False)
        layer.weight.data = weight
        kind = plain if ordered else with_order
        packed = kind.QuantLinear(bits, group, inputs, outputs, False, weight_dtype=torch.float32)
        packed.pack(layer, scales.clone(), zeros.clone(), order.to(torch.int32))
        expected = packed(torch.eye(inputs)).t().contiguous()
        case = f"gptq-{bits}" + ("" if ordered else "-in-another-order")
        found |= {
            f"{case}/qweight": packed.qweight,
            f"{case}/qzeros": packed.qzeros,
            f"{case}/scales": packed.scales.half(),
            f"{case}/expected": expected,
        }
        if not ordered:
            found[f"{case}/g_idx"] = order.to(torch.int32)
    return found


def awq() -> Tensors:
    module_of = module("awq", "utils/packing_utils.py")
    sys.modules["awq_ext"] = None
    outputs, inputs, group = 32, 64, 32
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randint(0, 16, (inputs, outputs), generator=generator)
    zeros = torch.randint(0, 16, (inputs // group, outputs), generator=generator)
    scales = torch.rand(inputs // group, outputs, generator=generator).half() * 0.02

    def packed(values: Tensor) -> Tensor:
        words = torch.zeros(values.shape[0], outputs // 8, dtype=torch.int64)
        for place, column in enumerate(module_of.AWQ_ORDER):
            words |= values[:, column::8] << 4 * place
        return words.to(torch.int32)

    qweight, qzeros = packed(numbers), packed(zeros)
    expected = module_of.dequantize_gemm(qweight, qzeros, scales, 4, group)
    return {
        "awq/qweight": qweight,
        "awq/qzeros": qzeros,
        "awq/scales": scales,
        "awq/expected": expected.float().t().contiguous(),
    }


def bitsandbytes() -> Tensors:
    import bitsandbytes.functional as bnb
    from bitsandbytes.nn import Params4bit

    found: Tensors = {}
    for kind, nested, storage, rows in (
        ("nf4", False, torch.uint8, 16),
        ("nf4", True, torch.uint8, 88),  # more than 256 factors
        ("fp4", True, torch.bfloat16, 16),
    ):
        weight = random(rows, 192, 3)
        one = Params4bit(
            weight, requires_grad=False, quant_type=kind, compress_statistics=nested, quant_storage=storage
        )
        one = one.to("cpu")
        case = f"{kind}{'-nested' if nested else ''}"
        found[f"{case}/weight"] = one.data
        for name, tensor in one.quant_state.as_dict(packed=True).items():
            found[f"{case}/weight.{name}"] = tensor
        found[f"{case}/expected"] = bnb.dequantize_4bit(one.data, one.quant_state).float()
    weight = random(32, 64, 4).half()
    numbers, factors, _ = bnb.int8_vectorwise_quant(weight)
    found |= {
        "int8/weight": numbers,
        "int8/SCB": factors,
        "int8/weight_format": torch.tensor(0, dtype=torch.uint8),
        "int8/expected": bnb.int8_vectorwise_dequant(numbers, factors).float(),
    }
    return found


def compressed() -> Tensors:
    from compressed_tensors.compressors.mxfp4.base import MXFP4PackedCompressor
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    found: Tensors = {}

    def add(case: str, compressor: type, state: Tensors, **said: object) -> None:
        scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**said))
        packed = compressor.compress(state, scheme)
        expected = compressor.decompress(dict(packed), scheme)["weight"]
        found.update({f"{case}/{name}": tensor.data for name, tensor in packed.items()})
        found[f"{case}/expected"] = expected.data.float()

    rows, width = 36, 96
    for bits, group, symmetric in ((4, 32, True), (4, 32, False), (3, 48, False), (8, None, True)):
        weight, count = random(rows, width, bits), width // group if group else 1
        parts = weight.view(rows, count, -1)
        low, high = parts.amin(2), parts.amax(2)
        scale = 2 * parts.abs().amax(2) / (2**bits - 1) if symmetric else (high - low) / (2**bits - 1)
        zero = torch.zeros(rows, count) if symmetric else -(2 ** (bits - 1)) - low / scale
        limit = 2 ** (bits - 1)
        state = {
            "weight": weight,
            "weight_scale": scale,
            "weight_zero_point": zero.round().clamp(-limit, limit - 1).to(torch.int8),
        }
        strategy = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
        case = f"rows-{bits}{'' if symmetric else '-with-zeros'}"
        add(case, PackedQuantizationCompressor, state, num_bits=bits, type="int", symmetric=symmetric, **strategy)
    weight = random(rows, width, 9)
    whole = torch.tensor([448 * 6 / float(weight.abs().max())])
    scale = (weight.view(rows, -1, 16).abs().amax(2) / 6 * whole).to(torch.float8_e4m3fn).float()
    add(
        "nvfp4", NVFP4PackedCompressor, {"weight": weight, "weight_scale": scale, "weight_global_scale": whole},
        num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16,
    )  # fmt: skip
    scale = torch.exp2((weight.view(rows, -1, 32).abs().amax(2) / 6).log2().ceil())
    add(
        "mxfp4", MXFP4PackedCompressor, {"weight": weight, "weight_scale": scale},
        num_bits=4, type="float", symmetric=True, strategy="group", group_size=32,
    )  # fmt: skip
    return found


def mxfp4() -> Tensors:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    generator = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (2, 10, 3, 16), generator=generator).to(torch.uint8)
    scales = torch.randint(115, 128, (2, 10, 3), generator=generator).to(torch.uint8)
    expected = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    return {"experts/gate_up_proj_blocks": blocks, "experts/gate_up_proj_scales": scales, "experts/expected": expected}


def gguf() -> Tensors:
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    found: Tensors = {}
    generator = np.random.default_rng(1)
    for number in (0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 29, 30):
        kind = GGMLQuantizationType(number)
        _, nbytes = GGML_QUANT_SIZES[kind]
        with np.errstate(all="ignore"):
            blocks = generator.integers(0, 256, (400, nbytes), dtype=np.uint8)
            values = np.stack([dequantize(block, kind).reshape(-1) for block in blocks]).astype(np.float32)
        usable = np.isfinite(values).all(1) & (np.abs(values).max(1) < 1e4)
        few = 3 if values.shape[1] > 1 else 64
        found[f"{kind.name}/numbers"] = torch.from_numpy(blocks[usable][:few].reshape(-1))
        found[f"{kind.name}/expected"] = torch.from_numpy(values[usable][:few].reshape(-1))
    return found


if __name__ == "__main__":
    for name in sys.argv[1:] or ["gptq", "awq", "bitsandbytes", "compressed", "mxfp4", "gguf"]:
        made = {key: tensor.contiguous() for key, tensor in globals()[name]().items()}
        save_file(made, HERE / f"{name}.safetensors")
        print(name, (HERE / f"{name}.safetensors").stat().st_size)
