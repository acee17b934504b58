"""Sibling models to merge: bfloat16 Llamas of random weights, each the first one plus small changes.

They are written tensor by tensor, so that making one takes the memory of its largest tensor, not of the model.
"""

import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory

from hubmerge.localhub import LlamaShape

SPREAD = 0.02  # standard deviation of the first model's weights, as transformers initialises them
CHANGE = 0.01  # standard deviation of what a sibling adds


def shape_of(hidden: int, layers: int, vocab: int = 32000) -> LlamaShape:
    """A Llama with heads of 64, four queries to a key; `hidden` is a multiple of 256."""
    if hidden < 256 or hidden % 256 or layers < 1:
        raise ValueError(f"hidden must be a multiple of 256 and layers at least 1, got {hidden}, {layers}")
    return LlamaShape(hidden, hidden * 11 // 4, layers, hidden // 64, hidden // 256, vocab)


SIZES = {
    "tiny": shape_of(256, 2, vocab=4000),
    "0.15B": shape_of(1024, 8),
    "0.85B": shape_of(2048, 16),
    "3B": shape_of(3072, 28),
}


def make_siblings(root: Path, shape: LlamaShape, count: int, shard_bytes: int) -> list[Path]:
    """The folders of `count` siblings under `root`; those that an earlier call finished there are used again."""
    group = root.resolve() / f"llama-{shape.hidden}x{shape.layers}-{shape.vocab}-{shard_bytes // 10**6}mb"
    folders = [group / f"model{number}" for number in range(count)]
    for number, folder in enumerate(folders):
        if (folder / "config.json").is_file():  # written last: a folder without it was not finished
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_model(folder, shape, number, shard_bytes)
    return folders


@dataclass(frozen=True)
class SeeingShape:
    """A LLaVA: a language model of the shape `language` behind a tower as CLIP has it, with patches of 14 pixels."""

    language: LlamaShape

    @property
    def config(self) -> dict[str, Any]:
        """What its config.json says, but for the dtype."""
        tower = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "image_size": 336}
        tower |= {"num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14, "projection_dim": 768}
        return {
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "text_config": self.language.config,
            "vision_config": tower,
            "image_token_index": self.language.vocab - 1,
        }

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape."""
        from transformers import LlavaConfig, LlavaForConditionalGeneration

        with torch.device("meta"):
            model = LlavaForConditionalGeneration(LlavaConfig.from_dict(self.config))
        return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def make_seeing(root: Path, shape: LlamaShape, shard_bytes: int) -> Path:
    """The folder of a model under `root` that sees, whose language model has the shape of the siblings."""
    folder = root.resolve() / f"llava-{shape.hidden}x{shape.layers}-{shape.vocab}-{shard_bytes // 10**6}mb"
    if not (folder / "config.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_model(folder, SeeingShape(shape), 0, shard_bytes)
    return folder


def make_adapters(base: Path, shape: LlamaShape, count: int, rank: int) -> list[Path]:
    """The folders of `count` LoRAs beside the model `base`, in bfloat16, on all its linear layers but the head."""
    from safetensors.torch import save_file

    folders = [base.with_name(f"lora{number}-rank{rank}") for number in range(1, count + 1)]
    names = [name for name in shape.tensors if name.endswith("_proj.weight")]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted({_module(n) for n in names})}
    for number, folder in enumerate(folders, 1):
        folder.mkdir(exist_ok=True)
        generator, factors = torch.Generator().manual_seed(number), {}
        for name in names:
            rows, columns = shape.tensors[name]
            module = f"base_model.model.{name.removesuffix('.weight')}"
            for side, size in (("A", (rank, columns)), ("B", (rows, rank))):
                values = torch.randn(size, generator=generator).mul_(CHANGE).to(torch.bfloat16)
                factors[f"{module}.lora_{side}.weight"] = values
        save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        more = {"task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), "bias": "none"}
        (folder / "adapter_config.json").write_text(json.dumps(config | more, indent=2))
    return folders


def _module(name: str) -> str:
    return name.split(".")[-2]


def more_sources(models: list[Path], count: int, root: Path) -> list[Path]:
    """`count` sources out of fewer models: the siblings again under other names in `root`, as hard links to them."""
    sources = models[:count]
    while len(sources) < count:
        source = models[1 + (len(sources) - len(models)) % (len(models) - 1)]
        folder = root / f"source{len(sources)}"
        folder.mkdir()
        for path in source.iterdir():
            os.link(path, folder / path.name)
        sources.append(folder)
    return sources


def weight_files(folder: Path) -> list[Path]:
    """The shards of a model."""
    return sorted(folder.glob("*.safetensors"))


def _write_model(folder: Path, shape: LlamaShape | SeeingShape, number: int, shard_bytes: int) -> None:
    # The Hub library's own splitting, which save_pretrained uses: the same names and the same cuts.
    split = split_state_dict_into_shards_factory(
        shape.tensors,
        get_storage_size=lambda dimensions: 2 * math.prod(dimensions),
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=shard_bytes,
    )
    tensors = shape.tensors
    seeds = {name: index for index, name in enumerate(tensors)}
    for filename, names in split.filename_to_tensors.items():
        with open(folder / filename, "wb") as file:
            header, ordered = _header({name: tensors[name] for name in names})
            file.write(header)
            for name in ordered:
                file.write(_values(tensors[name], number, seeds[name]).view(torch.uint8).numpy().data)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True))
    (folder / "config.json").write_text(json.dumps(shape.config | {"dtype": "bfloat16"}, indent=2))


def _header(tensors: dict[str, tuple[int, ...]]) -> tuple[bytes, list[str]]:
    """A safetensors header for bfloat16 tensors and the order in which their bytes follow: by name, as saved files."""
    entries: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end, ordered = 0, sorted(tensors)
    for name in ordered:
        begin, end = end, end + 2 * math.prod(tensors[name])
        entries[name] = {"dtype": "BF16", "shape": tensors[name], "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, ordered


def _values(shape: tuple[int, ...], number: int, seed: int) -> torch.Tensor:
    """One tensor of model `number`: the first model's, which `seed` alone decides, plus this sibling's changes."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator).mul_(SPREAD) if len(shape) > 1 else torch.ones(shape)
    base = base.to(torch.bfloat16)
    if number == 0:
        return base
    generator.manual_seed((number << 32) + seed)
    return torch.randn(shape, generator=generator).mul_(CHANGE).add_(base).to(torch.bfloat16)
