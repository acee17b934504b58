"""One model in memory that becomes any candidate in place, without touching the disk."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ResourceError, SourceError
from ..evaluate.models import best_device, first_line, free_memory, quiet
from ..hub.source import Source
from ..progress import Event, Progress, silent
from ..recipe import ModelEntry, ModelRef, Recipe
from ..stream.compute import merge_tensor
from ..stream.plan import Plan, make_plan
from ..stream.reader import load_tensor
from ..stream.tokenizer import carried_files


class ResidentModel:
    """A transformers model whose weights are replaced by those of one candidate after another.

    All source tensors are read once and kept, in their stored dtype, in memory. A candidate's weights come from
    `stream.compute.merge_tensor`, rounded to the output's dtype: what is scored is exactly what would be written.
    On a CPU the model computes in float32.

    plan: of any candidate (its sources are the ones kept; candidates may name other methods and subsets of them).
    Raises `ResourceError` where sources and model do not fit into memory, `PlanError` for models that do not fit
    together and `SourceError` for an architecture that transformers does not know.
    """

    def __init__(self, plan: Plan, *, device: str | None = None, progress: Progress = silent) -> None:
        plan.require()
        self.device = torch.device(device or best_device())
        self._sources: Mapping[ModelRef, Source] = {source.ref.pinned(source.commit): source for source in plan.sources}
        self._check_memory(plan)
        self._tensors = self._read_all(plan, progress)
        self.tokenizer = load_tokenizer(plan.tokenizer, plan.recipe.chat_template)
        self._generation = _generation_config(plan.tokenizer)
        self._targets: dict[str, Tensor] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.model: Any = None
        self._write(plan)

    def load(self, recipe: Recipe) -> None:
        """Makes the model the merge that `recipe` describes. Raises as `merge` does; the model is then undefined."""
        plan = make_plan(recipe, sources=self._sources)
        plan.require()
        self._write(plan)

    def load_source(self, ref: ModelRef) -> Any:
        """Makes the model one of the sources, and returns that source's own tokenizer."""
        source = self._sources[ref]
        self.load(Recipe("linear", models=(ModelEntry(ref),)))
        return load_tokenizer(source, None)

    @property
    def in_place(self) -> bool:
        """Whether candidates are written into the standing model; else each is built anew (renamed, fused weights)."""
        return bool(self._targets)

    def _write(self, plan: Plan) -> None:
        merged = self._merged(plan)
        if self._targets and {t.name: t.shape for t in plan.tensors} == self._shapes:
            with torch.no_grad():
                for name, tensor in merged:
                    self._targets[name].copy_(tensor)
            return
        self.model = self._build(plan, dict(merged))
        self._targets = _targets(self.model, plan)
        self._shapes = {tensor.name: tensor.shape for tensor in plan.tensors}

    def _merged(self, plan: Plan) -> Iterator[tuple[str, Tensor]]:
        sources = plan.sources

        def read(index: int, name: str, start: int, stop: int) -> Tensor:
            return self._tensors[sources[index].ref.pinned(sources[index].commit), name].view(-1)[start:stop]

        for tensor in plan.tensors:
            yield tensor.name, merge_tensor(plan.method, tensor, read)

    def _build(self, plan: Plan, state: dict[str, Tensor]) -> Any:
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

        try:
            settings = dict(plan.config)
            config = AutoConfig.for_model(settings.pop("model_type"), **settings)
            dtype = torch.float32 if self.device.type == "cpu" else _common_dtype(state)
            # With a state_dict and no name, from_pretrained also renames and fuses weights as it does for files.
            kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            with quiet():
                model = kind.from_pretrained(None, config=config, state_dict=state, dtype=dtype)
        except (ValueError, KeyError, ImportError) as exc:
            raise SourceError(f"transformers cannot build the merged model: {first_line(exc)}") from exc
        if self._generation is not None:
            model.generation_config = self._generation
        return model.to(self.device).eval()

    def _read_all(self, plan: Plan, progress: Progress) -> dict[tuple[ModelRef, str], Tensor]:
        kept = {}
        total, done = sum(source.nbytes for source in plan.sources), 0
        for source in plan.sources:
            for name, header in source.tensors.items():
                kept[source.ref.pinned(source.commit), name] = load_tensor(source, name)
                done += header.nbytes
                progress(Event("read", done, total, "B", note=source.name))
        return kept

    def _check_memory(self, plan: Plan) -> None:
        sources = sum(source.nbytes for source in plan.sources)
        standing = plan.parameters * 4 if self.device.type == "cpu" else plan.output_bytes
        # While the model is built, its merged weights exist twice.
        needed = sources + plan.output_bytes + (standing if self.device.type == "cpu" else 0)
        free = free_memory(torch.device("cpu"))
        if needed > free:
            raise ResourceError(
                f"The search keeps its {len(plan.sources)} models and one candidate in memory, which takes "
                f"{needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free."
            )
        if self.device.type == "cuda" and standing > (room := free_memory(self.device)):
            raise ResourceError(
                f"The candidate takes {standing / 1e9:.1f} GB of GPU memory; {room / 1e9:.1f} GB are free."
            )


def load_tokenizer(source: Source, chat_template: str | None) -> Any:
    """The tokenizer of a source as the merge would write it. Raises `SourceError` where it cannot be loaded."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="hubmerge-tokenizer-") as folder:
        _save(folder, {**carried_files(source, chat_template), "config.json": _config_bytes(source)})
        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as exc:
            raise SourceError(f"The tokenizer of {source.name} cannot be loaded: {first_line(exc)}") from exc


def _generation_config(source: Source) -> Any | None:
    from transformers import GenerationConfig

    text = source.read_text("generation_config.json")
    if text is None:
        return None
    with tempfile.TemporaryDirectory(prefix="hubmerge-generation-") as folder:
        _save(folder, {"generation_config.json": text.encode()})
        return GenerationConfig.from_pretrained(folder)


def _config_bytes(source: Source) -> bytes:
    return json.dumps(dict(source.config)).encode()


def _save(folder: str, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _targets(model: Any, plan: Plan) -> dict[str, Tensor]:
    """Where each merged tensor lives in the model; empty unless the model holds exactly these, under these names."""
    standing = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    targets = {tensor.name: standing.get(tensor.name) for tensor in plan.tensors}
    if any(found is None or tuple(found.shape) != tensor.shape for found, tensor in _pairs(targets, plan)):
        return {}
    # named_parameters lists tied weights once; a parameter that no merged tensor writes would keep old values.
    written = {id(found) for found in targets.values()}
    if any(id(parameter) not in written for parameter in model.parameters()):
        return {}
    return {name: found for name, found in targets.items() if found is not None}


def _pairs(targets: Mapping[str, Tensor | None], plan: Plan) -> Iterator[tuple[Tensor | None, Any]]:
    return ((targets[tensor.name], tensor) for tensor in plan.tensors)


def _common_dtype(state: Mapping[str, Tensor]) -> torch.dtype:
    sizes: dict[torch.dtype, int] = {}
    for tensor in state.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel()
    return max(sizes, key=lambda dtype: sizes[dtype])
