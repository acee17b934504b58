"""A plan's pipeline as diffusers has it, made in memory from tensors instead of files.

No code of a repository is run: classes are those of diffusers and transformers that are installed.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import SourceError
from ..extras import require
from ..guesses import guess
from ..hub.arriving import bring
from ..hub.auto_class import TO_IMAGE, task_of
from ..hub.pipeline import MODEL_INDEX
from ..hub.source import Source
from ..progress import Progress, silent
from ..recipe import ModelEntry, Recipe
from ..stream.architecture import check_counts, read_architecture, transformers_errors
from ..stream.compute import merge_tensor
from ..stream.dtypes import DTYPES
from ..stream.mapped import map_tensors
from ..stream.plan import Plan, make_plan
from ..stream.weights import Extent, Reads
from .drawing import Draw, Painter
from .models import best_device, computing_dtype, loading, most_common, save_files

_LEFT_OUT = ("safety_checker", "image_encoder")
"""Parts that a picture is made without: what is scored is what was drawn."""


def is_pipeline(plan: Plan) -> bool:
    """Whether what a plan makes is a pipeline of diffusers."""
    return plan.components[0].settings == MODEL_INDEX


def require_drawing(plan: Plan, name: str, draw: Draw) -> None:
    """Raises `SourceError` or `TaskError` where what a plan makes does not draw pictures of words as a task says."""
    require("diffusers")
    if not is_pipeline(plan) or task_of(plan.config) != TO_IMAGE:
        what = plan.config.get("_class_name") or plan.config.get("model_type") or "model"
        raise SourceError(
            f"The task has pictures drawn, and {name} is a {what}, which makes none of words; name a part of a "
            "pipeline that does, as in org/pipeline#unet."
        )
    draw.require_takes(_class_of("diffusers", plan.config["_class_name"]))
    for folder in (one.folder for one in plan.components[1:] if one.tensors and one.folder not in _LEFT_OUT):
        _class_of(*plan.config[folder])


def load_painter(source: Source, draw: Draw, progress: Progress = silent) -> Painter:
    """A pipeline, or the one that a part is of, ready to draw, on the GPU where there is one. Raises `SourceError` or
    `TaskError` where it does not draw as a task says."""
    alone = Recipe("linear", models=(ModelEntry(source.ref, {"weight": 1.0}),))
    plan = make_plan(alone, sources={source.ref: source})
    plan.require()
    require_drawing(plan, source.name, draw)
    bring(source, [tensor.file for tensor in source.tensors.values()], progress)
    device, mapped = torch.device(best_device()), dict(map_tensors(source))
    stored = ((DTYPES[tensor.dtype].torch, tensor.parameters) for tensor in plan.tensors)
    dtype = computing_dtype(most_common(stored), device)

    def read(extent: Extent) -> Tensor:
        return mapped[extent.tensor.name].view(-1)[extent.start : extent.stop]

    state = {}
    for tensor in plan.tensors:
        made = merge_tensor(plan.stage.method, tensor, plan.stage.read(Reads(read)))
        state[tensor.name] = made.to(dtype) if made.is_floating_point() else made
    return build_pipeline(plan, state, device)


def build_pipeline(plan: Plan, state: Mapping[str, Tensor], device: torch.device) -> Painter:
    """The pipeline whose tensors `state` holds under the names of the plan's output, on `device`, in eval mode.

    It computes in the `computing_dtype` of most of its weights. Raises `SourceError` for what diffusers cannot build.
    """
    require("diffusers")
    dtype = computing_dtype(most_common((tensor.dtype, tensor.numel()) for tensor in state.values()), device)
    parts = {}
    for one in plan.components[1:]:
        if not one.tensors or one.folder in _LEFT_OUT:
            continue
        own = {tensor.name.removeprefix(f"{one.folder}/"): state[tensor.name] for tensor in one.tensors}
        with transformers_errors(f"diffusers cannot build the {one.folder}"), loading():
            kind = _class_of(*plan.config[one.folder])
            parts[one.folder] = _built(kind, one.config, own, dtype).to(device).eval()
    none = {name: None for name in _LEFT_OUT if name in plan.config}
    index = {**plan.config, **({"requires_safety_checker": False} if "safety_checker" in none else {})}
    kind = _class_of("diffusers", plan.config["_class_name"])
    with tempfile.TemporaryDirectory(prefix="hubmerge-pipeline-") as folder:
        save_files(folder, {MODEL_INDEX: json.dumps(index).encode(), **plan.tokenizer.files()})
        with transformers_errors("diffusers cannot build the pipeline"), loading(), _no_bars():
            pipeline = kind.from_pretrained(folder, local_files_only=True, **parts, **none)
    return Painter(pipeline, parts)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without progress bars of diffusers' own."""
    from diffusers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _class_of(library: str, name: str) -> Any:
    """A class that model_index.json names. Raises `SourceError` for one that is not installed."""
    import diffusers
    import transformers

    homes = {"diffusers": diffusers, "transformers": transformers}
    found = getattr(homes.get(library), name, None) if library in homes else None
    if found is None:
        raise SourceError(
            f"{MODEL_INDEX} names {name} of {library}, which the installed diffusers {diffusers.__version__} does not "
            f"have{guess(name, dir(diffusers))}; install the version that the model asks for."
        )
    return found


def _built(kind: Any, config: Mapping[str, Any], state: dict[str, Tensor], dtype: torch.dtype) -> Any:
    if kind.__module__.startswith("transformers."):
        return kind.from_pretrained(None, config=read_architecture(config), state_dict=state, dtype=dtype)
    from accelerate import init_empty_weights

    check_counts(config)
    with init_empty_weights():
        model = kind.from_config(dict(config))
    model._fix_state_dict_keys_on_load(state)  # old names, as from_pretrained reads them
    model.load_state_dict(state, assign=True)
    return model
