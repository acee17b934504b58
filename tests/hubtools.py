"""Little checkpoints as bytes, and repositories of the embedded Hub made from them."""

import json
from collections.abc import Callable, Mapping

import numpy as np
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.numpy import save

INDEX = "model.safetensors.index.json"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8}


def shard(names: list[str], seed: int = 0, width: int = 8) -> bytes:
    """A safetensors file of float32 tensors, each width x width."""
    random = np.random.default_rng(seed)
    return save({name: random.standard_normal((width, width)).astype(np.float32) for name in names})


def checkpoint(
    shards: int = 1, seed: int = 0, width: int = 8, front_matter: str = "license: apache-2.0"
) -> dict[str, bytes]:
    """The files of a model with one tensor a shard, "layer.0" in the first."""
    files = {
        "config.json": json.dumps(CONFIG).encode(),
        "README.md": f"---\n{front_matter}\n---\n# A model\n".encode(),
    }
    if shards == 1:
        return {**files, "model.safetensors": shard(["layer.0"], seed, width)}
    weight_map = {f"layer.{i}": f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)}
    files |= {file: shard([name], seed + i, width) for i, (name, file) in enumerate(weight_map.items())}
    return {**files, INDEX: json.dumps({"metadata": {}, "weight_map": weight_map}).encode()}


def publish(repo_id: str, files: Mapping[str, bytes], token: str = "hf_alice", private: bool = False) -> str:
    """Commits `files` to a repository, made where it does not exist; returns the commit."""
    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    return api.create_commit(repo_id, operations=operations, commit_message="Files").oid


def on_path(part: str, fault: object, times: int = 10**9) -> Callable[[object], object]:
    """A `LocalHub.faults` that gives `fault` to the first `times` requests whose path holds `part`."""
    left = [times]

    def faults(request: object) -> object:
        if part not in request.url.path or left[0] == 0:  # type: ignore[attr-defined]
            return None
        left[0] -= 1
        return fault

    return faults
