"""GGUF files of tiny models, written as llama.cpp's converter writes them."""

import json
import struct
from pathlib import Path

import torch
from streamtools import weights
from torch import Tensor

from hubmerge.hub.gguf.naming import ARCHITECTURES

F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, value: object) -> bytes:
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, list) and isinstance(value[0], str):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    if isinstance(value, list):
        kind, form = (6, "f") if isinstance(value[0], float) else (5, "i")
        return text(key) + struct.pack(f"<IIQ{len(value)}{form}", 9, kind, len(value), *value)
    if isinstance(value, bool):
        return text(key) + struct.pack("<I?", 7, value)
    return text(key) + (struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value))


def packed(tensor: Tensor, kind: int) -> tuple[bytes, Tensor]:
    """The bytes of a tensor, and the numbers that they stand for."""
    if kind in (F32, F16):
        stored = tensor.to(torch.float16 if kind == F16 else torch.float32)
        return stored.numpy().tobytes(), stored.float()
    blocks = tensor.reshape(-1, 32)
    most = 127 if kind == Q8_0 else 7
    factors = (blocks.abs().amax(1, keepdim=True) / most).half()
    numbers = (blocks / factors.float()).round().clamp(-most, most)
    if kind == Q8_0:
        content = numbers.to(torch.int8).view(torch.uint8)
    else:
        shifted = (numbers + 8).to(torch.uint8)
        content = shifted[:, :16] | shifted[:, 16:] << 4
    whole = torch.cat([factors.view(torch.uint8), content], 1)
    return whole.numpy().tobytes(), (numbers * factors.float()).view(tensor.shape)


def paired(tensor: Tensor, heads: int) -> Tensor:
    """The rows of queries or keys as llama.cpp has them."""
    return tensor.view(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def write_gguf(
    folder: Path, file: Path, kinds: dict[str, int], name: str = "llama", more: dict | None = None
) -> dict[str, Tensor]:
    """Writes a model of transformers' as GGUF; `kinds`: the format of tensors by part of their name. Returns what the
    file stands for, by transformers' names."""
    config = json.loads((folder / "config.json").read_bytes())
    known = ARCHITECTURES[name]
    names = {ours: theirs for theirs, ours in known.layer.items()}
    names |= {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    told = {
        "general.architecture": name,
        f"{name}.embedding_length": config["hidden_size"],
        f"{name}.feed_forward_length": config["intermediate_size"],
        f"{name}.block_count": config["num_hidden_layers"],
        f"{name}.context_length": config["max_position_embeddings"],
        f"{name}.attention.head_count": config["num_attention_heads"],
        f"{name}.attention.head_count_kv": config["num_key_value_heads"],
        f"{name}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        f"{name}.rope.freq_base": 10000.0,
        "tokenizer.ggml.tokens": ["a"] * config["vocab_size"],
        **(more or {}),
    }
    header, data, stands = b"", b"", {}
    state = weights(folder)
    for ours, tensor in state.items():
        stem, _, last = ours.rpartition(".")
        before, _, inner = stem.partition("layers.")
        layer, _, rest = inner.partition(".")
        theirs = f"blk.{layer}.{names[rest]}.{last}" if inner else f"{names[before]}.{last}"
        kind = next((one for part, one in kinds.items() if part in ours), F32)
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(theirs.split(".")[-2])
        turned = known.paired and heads is not None
        stored = paired(tensor.float(), config[heads]) if turned else tensor.float()
        stored = stored - known.norms if ours.endswith("norm.weight") else stored
        content, numbers = packed(stored, kind)
        if turned:
            numbers = numbers.view(config[heads], -1, 2, *numbers.shape[1:]).transpose(1, 2).reshape(numbers.shape)
        stands[ours] = numbers + known.norms if ours.endswith("norm.weight") else numbers
        data += b"\0" * (-len(data) % 32)
        shape = tuple(reversed(tensor.shape))
        header += text(theirs) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        data += content
    head = b"GGUF" + struct.pack("<IQQ", 3, len(state), len(told)) + b"".join(pair(*one) for one in told.items())
    whole = head + header
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(whole + b"\0" * (-len(whole) % 32) + data)
    return stands
