"""What a user's program calls of mergekit, answered by hubmerge: configurations, merges, models' names, tensors."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

INSIDE = "asks for mergekit's insides"


class Refused(ValueError, RuntimeError):
    """hubmerge's refusal, of the kinds that mergekit raises."""


class Values(dict):
    """Plain values whose keys are attributes, as a configuration has them."""

    def __init__(self, **given: Any) -> None:
        super().__init__({key: _deep(value) for key, value in given.items()})

    @classmethod
    def model_validate(cls, raw: dict[str, Any]) -> "Values":
        return cls(**raw)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in ("model_copy", "model_dump", "input_parameters", "shared_parameters"):
            pytest.skip(INSIDE)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = _deep(value)


def _deep(value: Any) -> Any:
    if isinstance(value, dict):
        return value if isinstance(value, Values) else Values(**{str(key): item for key, item in value.items()})
    return [_deep(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """Without what is not given."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def run_merge(config: Values, out_path: str, options: Values | None = None, **_: Any) -> None:
    """mergekit's entry: the recipe merged into a folder."""
    from hubmerge import Recipe, make_plan
    from hubmerge.errors import HubmergeError
    from hubmerge.stream.executor import merge

    document = _plain(config)
    if (options or {}).get("unsafe_truncate_embeddings") and not {"tokenizer", "tokenizer_source"} & document.keys():
        document["tokenizer_source"] = "shortest"  # what hubmerge calls it: a recipe says all that makes its result
    try:
        plan = make_plan(Recipe.from_dict(document))
        plan.require()
        for finding in plan.warnings:
            logging.getLogger("hubmerge").warning(finding.message)
        merge(plan, Path(out_path))
    except HubmergeError as exc:
        raise Refused(str(exc)) from exc


class ModelPath(dict):
    """A model without its LoRA."""

    def __init__(self, path: str, revision: str | None = None) -> None:
        super().__init__(path=path, revision=revision)


class ModelReference:
    """A model by name, as hubmerge reads it."""

    def __init__(self, ref: Any) -> None:
        self._ref = ref
        self.model = ModelPath(ref.repo_id, ref.revision)
        self.lora = ModelPath(ref.lora.repo_id, ref.lora.revision) if ref.lora else None

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        from hubmerge import ModelRef
        from hubmerge.errors import HubmergeError

        try:
            return cls(ModelRef.parse(text))
        except HubmergeError as exc:
            raise Refused(str(exc)) from exc

    model_validate = parse

    def __str__(self) -> str:
        return str(self._ref)


class LazyTensorLoader:
    """What lies in a folder, read by hubmerge: copied from there into memory by a merge that changes nothing."""

    def __init__(self, folder: Path) -> None:
        from hubmerge import Recipe, make_plan
        from hubmerge.stream.compute import merge_tensor
        from hubmerge.stream.reader import Reader

        if not (folder / "config.json").exists():
            (folder / "config.json").write_text(
                json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
            )
        plan = make_plan(Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(folder)}]}))
        self._tensors: dict[str, torch.Tensor] = {}
        reader = Reader(plan.stage, plan.tensors)
        for tensor in plan.tensors:
            with reader.reading(tensor) as read:
                self._tensors[tensor.name] = merge_tensor(plan.stage.method, tensor, read)
        reader.close()
        self.index = Values(tensor_paths=dict.fromkeys(self._tensors, ""))

    @classmethod
    def from_disk(cls, path: str) -> "LazyTensorLoader":
        return cls(Path(path))

    def get_tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]
