"""A plan's model and tokenizer as transformers knows them, made in memory from tensors instead of files."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import SourceError
from ..evaluate.models import computing_dtype, first_line, loading, most_common
from ..hub.source import Source
from ..stream.plan import Plan
from ..stream.tokenizer import carried_files


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
