"""A plan's model as transformers knows it, made in memory from tensors instead of files."""

import tempfile
from typing import Any

import torch
from torch import Tensor

from ..errors import SourceError
from ..evaluate.models import computing_dtype, first_line, loading, most_common, save_files
from ..hub.source import Source
from ..stream.plan import Plan


def build_model(plan: Plan, state: dict[str, Tensor], device: torch.device) -> Any:
    """The model whose tensors `state` holds under the names of the plan's output, on `device`, in eval mode.

    It computes in the `computing_dtype` of most of its weights; tensors of that dtype become its weights uncopied.
    Raises `SourceError` for an architecture that transformers does not know.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    try:
        settings = dict(plan.config)
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        stored = most_common((tensor.dtype, tensor.numel()) for tensor in state.values())
        # With a state_dict and no name, from_pretrained also renames and fuses weights as it does for files.
        kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        with loading():
            model = kind.from_pretrained(None, config=config, state_dict=state, dtype=computing_dtype(stored, device))
    except (ValueError, KeyError, ImportError) as exc:
        raise SourceError(f"transformers cannot build the merged model: {first_line(exc)}") from exc
    if (generation := _generation_config(plan.tokenizer)) is not None:
        model.generation_config = generation
    return model.to(device).eval()


def _generation_config(source: Source) -> Any | None:
    from transformers import GenerationConfig

    text = source.read_text("generation_config.json")
    if text is None:
        return None
    with tempfile.TemporaryDirectory(prefix="hubmerge-generation-") as folder:
        save_files(folder, {"generation_config.json": text.encode()})
        return GenerationConfig.from_pretrained(folder)
