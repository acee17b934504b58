"""A plan's model as transformers knows it, made in memory from tensors instead of files."""

import tempfile
from typing import Any

import torch
from torch import Tensor

from ...evaluate.drawing import Painter
from ...evaluate.models import computing_dtype, loading, most_common, save_files
from ...evaluate.pipelines import build_pipeline, is_pipeline
from ...stream.architecture import answering_class, read_architecture, transformers_errors
from ...stream.carried import Carried
from ...stream.plan import Plan
from ...stream.tokens import GENERATION_FILE


def build_model(plan: Plan, state: dict[str, Tensor], device: torch.device) -> Any:
    """The model whose tensors `state` holds under the names of the plan's output, on `device`, in eval mode.

    It computes in the `computing_dtype` of most of its weights; tensors of that dtype become its weights uncopied.
    A pipeline comes ready to draw (a `Painter`). Raises `SourceError` for an architecture that transformers, or
    diffusers, does not know.
    """
    if is_pipeline(plan):
        return build_pipeline(plan, state, device)
    config = read_architecture(plan.config)
    stored = most_common((tensor.dtype, tensor.numel()) for tensor in state.values())
    with transformers_errors("transformers cannot build the merged model"), loading():
        # With a state_dict and no name, from_pretrained also renames and fuses weights as it does for files.
        kind: Any = answering_class(plan.config)._model_mapping[type(config)]
        model = kind.from_pretrained(None, config=config, state_dict=state, dtype=computing_dtype(stored, device))
    return with_generation_config(model.to(device), plan.tokenizer).eval()


def weights_by_name(model: Any) -> dict[str, Tensor]:
    """The buffers and weights that a model has in memory, by their names; tied ones once."""
    if isinstance(model, Painter):
        return model.weights
    return {**dict(model.named_buffers()), **dict(model.named_parameters())}


def with_generation_config(model: Any, carried: Carried) -> Any:
    """The model with the settings of generation that go with it, where there are any."""
    if (generation := _generation_config(carried)) is not None:
        model.generation_config = generation
    return model


def _generation_config(carried: Carried) -> Any | None:
    from transformers import GenerationConfig

    if (content := carried.generation_file) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="hubmerge-generation-") as folder:
        save_files(folder, {GENERATION_FILE: content})
        with transformers_errors(f"transformers cannot read generation_config.json of {carried.source.name}"):
            return GenerationConfig.from_pretrained(folder)
