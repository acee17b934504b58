"""What the server derives from a commit's files: card, tags, library, task, parameter counts."""

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ..generated.model import INDEX
from .cards import as_list, read_metadata
from .commits import Commit
from .jsonvalue import plain
from .objects import Objects

LARGEST_TEXT = 4 << 20  # bytes of a README or JSON file that is looked into
LARGEST_HEADER = 100_000_000  # bytes of a safetensors header (the format's own limit)
LARGEST_RANK, LARGEST_COUNT = 64, 1 << 63  # dimensions of a tensor, and elements along one or in all
_REMEMBERED = 1024
_FORMATS = {".safetensors": "safetensors", ".bin": "pytorch", ".gguf": "gguf", ".onnx": "onnx", ".parquet": "parquet"}
_TASKS = (
    ("ForCausalLM", "text-generation"),
    ("ForConditionalGeneration", "image-text-to-text"),
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForMaskedLM", "fill-mask"),
    ("ForImageClassification", "image-classification"),
)


@dataclass(frozen=True)
class Facts:
    """Everything about a commit that a listing or a repository's page tells."""

    card: dict[str, Any]
    config: dict[str, Any]
    tags: tuple[str, ...]
    library: str | None
    task: str | None
    safetensors: dict[str, Any] | None  # {"parameters": {dtype: count}, "total": count}


class FactBook:
    """Facts by commit, worked out once: a commit never changes."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: OrderedDict[tuple[str, str], Facts] = OrderedDict()
        self._guard = Lock()

    def of(self, type: str, commit: Commit) -> Facts:
        """The facts of a commit of a "model", "dataset" or "space"."""
        key = (type, commit.id)
        with self._guard:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        facts = self._derive(type, commit)
        with self._guard:
            self._known[key] = facts
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return facts

    def _derive(self, type: str, commit: Commit) -> Facts:
        card = read_metadata(self.text(commit, "README.md") or "")
        config = self._json(commit, "config.json")
        library = card.get("library_name") or _library(type, commit, config)
        task = card.get("pipeline_tag") or _task(config)
        tags = _tags(type, commit, card, config, library, task)
        return Facts(card, self._short_config(commit, config), tags, library, task, self._parameters(commit))

    def text(self, commit: Commit, path: str) -> str | None:
        """A text file's content; None where it is missing or too large."""
        entry = commit.files.get(path)
        if entry is None or entry.size > LARGEST_TEXT:
            return None
        return self._objects.read(entry.sha256).decode(errors="replace")

    def _json(self, commit: Commit, path: str) -> dict[str, Any]:
        try:
            value = plain(json.loads(self.text(commit, path) or "{}"))
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def _short_config(self, commit: Commit, config: dict[str, Any]) -> dict[str, Any]:
        short: dict[str, Any] = {
            key: config[key] for key in ("architectures", "model_type", "quantization_config") if key in config
        }
        tokenizer = self._json(commit, "tokenizer_config.json")
        kept = ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")
        if tokenizer:
            short["tokenizer_config"] = {key: tokenizer[key] for key in kept if key in tokenizer}
        return short

    def safetensors_headers(self, commit: Commit, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The header of each of these files.

        Raises:
            ValueError: a file is missing or is not safetensors.
        """
        headers = {}
        for path in paths:
            entry = commit.files.get(path)
            if entry is None:
                raise ValueError(f"{path} is missing")
            headers[path] = self._header(entry.sha256, path)
        return headers

    def _header(self, oid: str, name: str) -> dict[str, Any]:
        prefix = self._objects.read(oid, 0, 8)
        length = int.from_bytes(prefix, "little") if len(prefix) == 8 else 0
        header = self._objects.read(oid, 8, 8 + length) if 0 < length <= LARGEST_HEADER else b""
        if not length or len(header) != length:
            raise ValueError(f"{name} has no complete safetensors header")
        try:
            value = json.loads(header)
        except (ValueError, RecursionError):
            raise ValueError(f"{name} has no readable safetensors header") from None
        if not isinstance(value, dict):
            raise ValueError(f"{name} has no readable safetensors header")
        return value

    def shards(self, commit: Commit, index: str = INDEX) -> list[str]:
        """The files that an index names, sorted; empty where there is no (valid) index."""
        weight_map = self._json(commit, index).get("weight_map")
        return sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []

    def index(self, commit: Commit, path: str) -> dict[str, Any]:
        """The index of a sharded checkpoint without its weight_map."""
        return {key: value for key, value in self._json(commit, path).items() if key != "weight_map"}

    def _parameters(self, commit: Commit) -> dict[str, Any] | None:
        paths = self.shards(commit)
        if not paths:
            single = "model.safetensors"
            at_root = [path for path in commit.files if path.endswith(".safetensors") and "/" not in path]
            paths = [single] if single in commit.files else at_root
        counts: dict[str, int] = {}
        try:
            for header in self.safetensors_headers(commit, paths).values():
                for dtype, count in count_parameters(header):
                    counts[dtype] = counts.get(dtype, 0) + count
        except ValueError:
            return None
        return {"parameters": counts, "total": sum(counts.values())} if counts else None


def count_parameters(header: dict[str, Any]) -> Iterable[tuple[str, int]]:
    """(dtype, number of elements) of every tensor of a header; ValueError where it is malformed."""
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        count = 1
        try:
            shape, dtype = tensor["shape"], tensor["dtype"]
        except (TypeError, KeyError):
            raise ValueError(f"tensor {name} has no shape or dtype") from None
        if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > LARGEST_RANK:
            raise ValueError(f"tensor {name} has no readable shape or dtype")
        for length in shape:
            if type(length) is not int or not 0 <= length <= LARGEST_COUNT or count > LARGEST_COUNT:
                raise ValueError(f"tensor {name} has no readable shape")
            count *= length
        yield dtype, count


def _library(type: str, commit: Commit, config: dict[str, Any]) -> str | None:
    if type != "model":
        return None
    if "adapter_config.json" in commit.files:
        return "peft"
    if "model_index.json" in commit.files:
        return "diffusers"
    return "transformers" if "model_type" in config else None


def _task(config: dict[str, Any]) -> str | None:
    for architecture in as_list(config.get("architectures")):
        for ending, task in _TASKS:
            if str(architecture).endswith(ending):
                return task
    return None


def _tags(
    type: str, commit: Commit, card: dict[str, Any], config: dict[str, Any], library: str | None, task: str | None
) -> tuple[str, ...]:
    """The tags that list_models filters by, in the Hub's spelling."""
    tags: list[Any] = [library]
    suffixes = {path[path.rfind(".") :] for path in commit.files if "." in path}
    tags += [tag for suffix, tag in _FORMATS.items() if suffix in suffixes]
    tags += [config.get("model_type"), task, *as_list(card.get("tags"))]
    if type == "model" and config.get("quantization_config"):
        tags.append("quantized")
    languages = [str(language) for language in as_list(card.get("language"))]
    tags += languages if type == "model" else [f"language:{language}" for language in languages]
    tags += [f"dataset:{name}" for name in as_list(card.get("datasets"))]
    bases = [str(base) for base in as_list(card.get("base_model"))]
    tags += [f"base_model:{base}" for base in bases]
    if relation := card.get("base_model_relation"):
        tags += [f"base_model:{relation}:{base}" for base in bases]
    if licence := card.get("license"):
        tags.append(f"license:{licence}")
    return tuple(dict.fromkeys(str(tag) for tag in tags if tag))
